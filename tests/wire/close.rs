//! How connections end.

use std::time::Duration;

use warren::mesh::close::CloseCode;
use warren::mesh::measure::Limits;
use warren::mesh::measure::wire::Way;
use warren::mesh::stream::Status;

use crate::measure::open;
use crate::proxy::Proxy;
use crate::puppet::{Puppet, closed_with};
use crate::rig::*;

/// Found with packets of 16 KiB, few of which fill a first window: a peer that was refused waited
/// for the end of the connection in vain.
#[tokio::test]
async fn a_peer_hears_of_the_end_though_the_window_is_full() {
    let token = token(CALM);
    let node = start(1, With::default()).await;
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
