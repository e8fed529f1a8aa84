//! How connections end.

use std::time::Duration;

use warren::mesh::close::CloseCode;
use warren::mesh::measure::Limits;
use warren::mesh::measure::wire::Way;
use warren::mesh::stream::Status;
use warren::node::NodeBuilder;

use crate::measure::open;
use crate::proxy::Proxy;
use crate::puppet::{Puppet, closed_with};
use crate::rig::*;

/// Found with packets of 16 KiB, few of which fill a first window: a peer that was refused waited
/// for the end of the connection in vain.
#[tokio::test]
async fn a_peer_hears_of_the_end_though_the_window_is_full() {
    hears_of_the_end(|builder| builder).await;
}

/// The window is lifted and the connection closed by another thread than the one that sends.
#[tokio::test]
async fn a_peer_hears_of_the_end_of_a_link_on_a_shard() {
    hears_of_the_end(in_three).await;
}

async fn hears_of_the_end(more: fn(NodeBuilder) -> NodeBuilder) {
    let token = token(CALM);
    let with = With {
        more,
        ..With::default()
    };
    let node = start(1, with).await;
    let proxy = Proxy::start(node.addr(), Duration::ZERO).await;
    let puppet = Puppet::new(2, &token);
    let link = puppet.link(node.id(), proxy.addr).await;
    let endless = Limits {
        bytes: 1 << 30,
        time: Duration::from_secs(60),
    };
    let (_send, mut recv, status) = open(&link, Way::Download, endless).await;
    assert_eq!(status, Status::Connected);

    // Nothing that the node sends from here on is acknowledged.
    proxy.lose_one_in(1);
    let drained = async { while let Ok(Some(_)) = recv.read_chunk(usize::MAX, false).await {} };
    let (ended, _, _) = tokio::join!(closed_with(&link.connection), drained, node.stop());
    assert_eq!(ended, CloseCode::Done);
}
