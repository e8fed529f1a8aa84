//! Where peers say a node is (A4): one liar moves nothing, two networks that agree do.
//!
//! Needs all of 127/8 on the loopback interface, which only Linux has.
#![cfg(target_os = "linux")]

use std::net::SocketAddr;
use std::time::Duration;

use crate::puppet::{Link, Puppet};
use crate::rig::*;

const CLAIM: &str = "8.8.8.8:7717";

/// A link of a puppet that tells the node it is at [`CLAIM`].
async fn liar(n: u8, from: &str, node: &Daemon) -> (Puppet, Link) {
    let puppet = Puppet::at(n, &token(CALM), from.parse().unwrap());
    let (connection, knock) = puppet.connect(node.id(), node.addr()).await;
    let proof = puppet.proof_input(&connection, node.id(), &knock);
    let mut hello = puppet.hello(knock.keys.proof(&proof));
    hello.observed = CLAIM.parse().unwrap();
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello.encode()).await.unwrap();
    let id = puppet.id();
    until("linked", || node.sees_id(id)).await;
    let link = Link {
        connection,
        send,
        recv,
    };
    (puppet, link)
}

fn claims(node: &Daemon) -> bool {
    let claim: SocketAddr = CLAIM.parse().unwrap();
    node.view().nodes[&node.id()].addresses.contains(&claim)
}

/// Whether a dial made for [`CLAIM`] is answered at the node.
async fn answers_for_claim(puppet: &Puppet, node: &Daemon) -> bool {
    let claim = CLAIM.parse().unwrap();
    let (connecting, _) = puppet.connecting_by_address(claim, node.addr());
    let answer = tokio::time::timeout(Duration::from_secs(2), connecting).await;
    matches!(answer, Ok(Ok(_)))
}

#[tokio::test]
async fn a_lying_observer_changes_nothing_and_two_networks_that_agree_do() {
    let node = start(1, With::default()).await;
    let (one, _link) = liar(8, "127.0.0.1:0", &node).await;
    // The same network once more is the same witness.
    let (_neighbour, _second) = liar(9, "127.0.0.77:0", &node).await;
    never_within("believed one network", Duration::from_secs(1), || {
        claims(&node)
    })
    .await;
    assert!(!answers_for_claim(&one, &node).await);

    let (_far, _third) = liar(10, "127.0.5.1:0", &node).await;
    until("two networks agree", || claims(&node)).await;
    assert!(answers_for_claim(&one, &node).await);
}
