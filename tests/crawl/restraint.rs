//! Addresses that strangers chose.

use std::net::UdpSocket;

use warren::mesh::networks::Outcome;
use warren::mesh::restraint::MAX_INITIALS;
use warren::service::crawl::Settings;

use crate::explorer::*;
use crate::rig::LOOPBACK;

/// What has come to `socket` so far, in datagrams.
fn received(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2_000];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
}

#[tokio::test]
async fn private_addresses_are_dialled_by_no_name_unless_the_operator_allows_it() {
    let victim = UdpSocket::bind(LOOPBACK).unwrap();
    let port = victim.local_addr().unwrap().port();
    let posted = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
    ];
    let strict = Explorer::new(Settings {
        allow_private: false,
        ..CONFIG
    });
    let row = strict.add("hostile", token_of(1), &posted).await;
    let (_, told) = strict.pass().await;
    let Outcome::Failed { reason } = &told[0].outcome else {
        panic!("{told:?}");
    };
    assert!(
        reason.contains("is not an address of the internet"),
        "{reason}"
    );
    assert_eq!(strict.row(&row).failures, 1);
    assert_eq!(received(&victim), 0);

    let lan = Explorer::new(CONFIG);
    lan.add("hostile", token_of(1), &posted).await;
    lan.pass().await;
    assert_eq!(
        received(&victim),
        MAX_INITIALS as usize,
        "one address, however written"
    );
}
