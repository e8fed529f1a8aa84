//! What bounds the members: pending handshakes, dials, links.

use std::time::Duration;

use crate::proxy::Proxy;
use crate::puppet::{Puppet, closed_with};
use crate::rig::*;

/// As in `net::accept`.
const MAX_HANDSHAKES: usize = 64;
const DIALS_AT_ONCE: usize = 100;
/// As in `mesh::brain`.
pub(crate) const MAX_LINKS_PER_PEER: usize = 16;

async fn joins(n: u8, node: &Daemon, listen: &str) {
    let pin = [node.pinned()];
    let with = With {
        connect: &pin,
        listen: listen.parse().unwrap(),
        ..With::default()
    };
    let b = start(n, with).await;
    until("a member joins", || b.sees(node) && node.sees(&b)).await;
}

/// Dialled and never answered: the oldest of these make room, and a member still gets in.
#[tokio::test]
async fn handshakes_that_never_end_make_room_for_others() {
    let node = start(1, With::default()).await;
    let proxy = Proxy::start(node.addr(), Duration::ZERO).await;
    proxy.swallow_answers();
    let puppet = Puppet::new(9, &token(CALM));
    let dial = |_| puppet.connecting(node.id(), proxy.addr);
    let _pending: Vec<_> = (0..MAX_HANDSHAKES + 8).map(dial).collect();
    until("the oldest made room", || {
        node.refused_for("too_many_handshakes") >= 8
    })
    .await;
    joins(2, &node, LOOPBACK).await;
}

#[cfg(target_os = "linux")] // all of 127/8 is on the loopback interface
#[tokio::test]
async fn one_network_cannot_use_up_the_dials_of_another() {
    let node = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let dials = (0..DIALS_AT_ONCE + 40).map(|_| puppet.connecting(node.id(), node.addr()));
    let _pending: Vec<_> = dials.collect();
    until("the rate bites", || node.refused_for("dial_rate") > 0).await;
    joins(2, &node, "127.0.9.1:0").await;
}

#[tokio::test]
async fn one_member_holds_only_so_many_links() {
    let node = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let mut links = Vec::new();
    for _ in 0..MAX_LINKS_PER_PEER {
        links.push(puppet.link(node.id(), node.addr()).await);
    }
    let one_more = puppet.link(node.id(), node.addr()).await;
    let code = closed_with(&one_more.connection).await;
    assert_eq!(code, warren::mesh::close::CloseCode::Duplicate);
    assert_eq!(node.refused_for("too_many_links"), 1);
    assert!(
        links
            .iter()
            .all(|link| link.connection.close_reason().is_none())
    );
    joins(2, &node, LOOPBACK).await;
}
