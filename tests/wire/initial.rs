//! The Initial packet is keyed by the network, never by the public keys of QUIC v1.

use std::time::Duration;

use rustls::Side;
use rustls::quic::{Keys, Version};
use warren::mesh::knock::Knock;

use crate::proxy::{Proxy, Way};
use crate::puppet::Puppet;
use crate::rig::*;

/// Opens the Initial packet at the start of a datagram with the keys that RFC 9001 §5.2 derives
/// from `input`, which the public QUIC takes from the first destination connection id.
fn opens(datagram: &[u8], input: &[u8], sender: Side) -> bool {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().unwrap();
    let reader = match sender {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    };
    let keys = Keys::initial(Version::V1, suite, suite.quic.unwrap(), input, reader);
    let Some((number_at, end)) = initial_layout(datagram) else {
        return false;
    };
    let mut packet = datagram[..end].to_vec();
    let (head, tail) = packet.split_at_mut(number_at);
    let (number, rest) = tail.split_at_mut(4);
    let sample = rest[..16].to_vec();
    let header = &keys.remote.header;
    if header
        .decrypt_in_place(&sample, &mut head[0], number)
        .is_err()
    {
        return false;
    }
    let number_len = usize::from(head[0] & 3) + 1;
    let number = tail_number(&packet[number_at..number_at + number_len]);
    // The bytes of a shorter number were unmasked too far.
    let clean = datagram[number_at + number_len..end].to_vec();
    let mut payload = clean;
    let head = packet[..number_at + number_len].to_vec();
    keys.remote
        .packet
        .decrypt_in_place(number, &head, &mut payload)
        .is_ok()
}

fn tail_number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Where an Initial's packet number is, and where the packet ends.
fn initial_layout(datagram: &[u8]) -> Option<(usize, usize)> {
    if *datagram.first()? & 0xf0 != 0xc0 {
        return None;
    }
    let mut at = 6 + usize::from(*datagram.get(5)?);
    at += 1 + usize::from(*datagram.get(at)?);
    let (token, at) = varint(datagram, at)?;
    let (len, at) = varint(datagram, at + token)?;
    (len > 20 && at + len <= datagram.len()).then_some((at, at + len))
}

fn varint(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = *bytes.get(at)?;
    let len = 1 << (first >> 6);
    let rest = bytes.get(at + 1..at + len)?;
    let start = usize::from(first & 0x3f);
    let value = rest
        .iter()
        .fold(start, |value, byte| value << 8 | usize::from(*byte));
    Some((value, at + len))
}

/// What somebody who sees everything can try: each connection id that was ever on the wire.
fn observer_opens(captured: &[crate::proxy::Captured]) -> usize {
    let mut ids: Vec<Vec<u8>> = Vec::new();
    for one in captured.iter().filter(|one| one.bytes[0] & 0x80 != 0) {
        let len = usize::from(one.bytes[5]);
        ids.push(one.bytes[6..6 + len].to_vec());
    }
    ids.sort();
    ids.dedup();
    let opened = captured.iter().filter(|one| {
        let sender = match one.way {
            Way::ToNode => Side::Client,
            Way::ToDialler => Side::Server,
        };
        ids.iter().any(|id| opens(&one.bytes, id, sender))
    });
    opened.count()
}

/// The control: the opener does open what public QUIC sends, and with the right keys ours.
#[tokio::test]
async fn the_opener_opens_what_it_has_the_keys_for() {
    let puppet = Puppet::new(9, &token(CALM));
    let answerer = Puppet::new(8, &token(CALM));
    let proxy = Proxy::start(answerer.addr(), Duration::ZERO).await;
    let (connecting, knock) = puppet.connecting(answerer.id(), proxy.addr);
    let accept = async {
        answerer
            .endpoint
            .accept()
            .await
            .unwrap()
            .accept()
            .unwrap()
            .await
    };
    let (dialled, accepted) = tokio::join!(connecting, accept);
    dialled.unwrap();
    accepted.unwrap();
    assert!(opens(&proxy.first(), &knock.initial_input, Side::Client));
    let answer = &proxy.went(Way::ToDialler)[0];
    assert!(opens(answer, &knock.initial_input, Side::Server));

    let stock = stock_initial().await;
    let dcid = &stock[6..6 + usize::from(stock[5])];
    assert!(opens(&stock, dcid, Side::Client));
}

/// The first packet of an ordinary QUIC client.
async fn stock_initial() -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = quinn::ClientConfig::with_root_certificates(std::sync::Arc::new(roots)).unwrap();
    let sink = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let endpoint = quinn::Endpoint::client(LOOPBACK.parse().unwrap()).unwrap();
    let to = sink.local_addr().unwrap();
    let _connecting = endpoint.connect_with(config, to, "localhost").unwrap();
    let mut buffer = vec![0; 2048];
    let len = sink.recv(&mut buffer).await.unwrap();
    buffer.truncate(len);
    buffer
}

#[tokio::test]
async fn an_observer_of_a_join_opens_no_initial() {
    let a = start(1, With::default()).await;
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let through = [at(a.id(), proxy.addr)];
    let with = With {
        connect: &through,
        ..With::default()
    };
    let b = start(2, with).await;
    until("joined", || a.sees(&b) && b.sees(&a)).await;
    let captured = proxy.captured();
    let initials = captured
        .iter()
        .filter(|one| initial_layout(&one.bytes).is_some());
    assert!(initials.count() >= 2, "no Initial was captured");
    assert_eq!(observer_opens(&captured), 0);
}

/// A2: between a first packet and its accept the ring turns three epochs, and the keys stay those
/// of the knock.
#[tokio::test]
async fn the_ring_turns_between_first_packet_and_accept() {
    let puppet = Puppet::new(9, &token(CALM));
    let answerer = Puppet::new(8, &token(CALM));
    let proxy = Proxy::start(answerer.addr(), Duration::ZERO).await;
    let (connecting, knock) = puppet.connecting(answerer.id(), proxy.addr);
    let incoming = answerer.endpoint.accept().await.unwrap();
    let before = answerer.gate.lock().oldest_epoch();
    answerer.clock.set_offset_ms(3 * i64::from(CALM) * 1000);
    let now = answerer.clock.now();
    answerer.gate.lock().turn(now);
    assert_eq!(answerer.gate.lock().oldest_epoch(), before + 3);

    let accepted = incoming.accept().unwrap();
    let (dialled, accepted) = tokio::join!(connecting, accepted);
    dialled.unwrap();
    accepted.unwrap();
    assert_eq!(observer_opens(&proxy.captured()), 0);
    let answers = proxy.went(Way::ToDialler);
    assert!(opens(&answers[0], &knock.initial_input, Side::Server));
}

/// A2: what is not remembered has keys that nobody knows, not the public ones. Were the server's
/// memory of knocks lost, its answers would still not open.
#[tokio::test]
async fn a_forgotten_knock_has_no_keys_at_all() {
    let puppet = Puppet::new(9, &token(CALM));
    let answerer = Puppet::new(8, &token(CALM));
    let proxy = Proxy::start(answerer.addr(), Duration::ZERO).await;
    let (_connecting, _) = puppet.connecting(answerer.id(), proxy.addr);
    let incoming = answerer.endpoint.accept().await.unwrap();
    forget_all_knocks(&answerer);
    // Its first packet opened with the keys made at arrival; what it sends from here on has the
    // session's, from random bytes.
    if let Ok(connecting) = incoming.accept() {
        let _ = tokio::time::timeout(Duration::from_secs(2), connecting).await;
    }
    assert_eq!(observer_opens(&proxy.captured()), 0);
}

/// Other members' knocks push out what the gate remembers.
fn forget_all_knocks(answerer: &Puppet) {
    use warren::mesh::keys::Target;
    use warren::mesh::knock::MAX_REMEMBERED;
    let mut gate = answerer.gate.lock();
    let keys = gate.dial_keys(answerer.clock.now(), 0);
    for n in 0..=MAX_REMEMBERED {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let knock = Knock::make(keys.clone(), &nonce, &Target::Node(answerer.id()));
        assert!(gate.admit(Duration::ZERO, &knock.dcid, None));
    }
}
