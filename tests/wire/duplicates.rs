//! Two connections between two nodes become one, and nobody's bytes are cut.

use std::time::Duration;

use tokio::net::TcpStream;
use warren::mesh::brain::Timing;

use crate::proxy::Proxy;
use crate::rig::*;

/// Links are pinged each 800 ms: a connection that is quiet for this long is closed.
const QUIET: Duration = Duration::from_millis(2_500);

/// Two nodes that dial each other at once, each through a proxy of its own.
struct Meeting {
    a: Daemon,
    b: Daemon,
    a_to_b: Proxy,
    b_to_a: Proxy,
}

/// A port nobody has, for a node that others must know before it starts.
fn free() -> std::net::SocketAddr {
    std::net::UdpSocket::bind(LOOPBACK)
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn meet(a: u8, b: u8, delay_ab: Duration, delay_ba: Duration) -> Meeting {
    let (at_a, at_b) = (free(), free());
    let a_to_b = Proxy::start(at_b, delay_ab).await;
    let b_to_a = Proxy::start(at_a, delay_ba).await;
    let dial_b = [at(identity(b).id(), a_to_b.addr)];
    let dial_a = [at(identity(a).id(), b_to_a.addr)];
    let with = |listen, connect| With {
        listen,
        connect,
        ..With::default()
    };
    let (a, b) = tokio::join!(start(a, with(at_a, &dial_b)), start(b, with(at_b, &dial_a)));
    Meeting {
        a,
        b,
        a_to_b,
        b_to_a,
    }
}

/// Test identities by the order of their ids.
fn smaller_and_greater() -> (u8, u8) {
    match identity(1).id() < identity(2).id() {
        true => (1, 2),
        false => (2, 1),
    }
}

impl Meeting {
    /// Exactly one of the two connections is left; whether it is the one `a` dialled.
    async fn one_is_left(&self) -> bool {
        until("both are up", || {
            self.a.sees(&self.b) && self.b.sees(&self.a)
        })
        .await;
        let (mut ab, mut ba) = (false, false);
        for _ in 0..8 {
            (ab, ba) = tokio::join!(
                self.a_to_b.is_quiet_for(QUIET),
                self.b_to_a.is_quiet_for(QUIET)
            );
            if ab != ba {
                break;
            }
        }
        assert!(
            ab != ba,
            "quiet: {ab} and {ba}, one is left if one is quiet"
        );
        assert!(self.a.sees(&self.b) && self.b.sees(&self.a));
        ba
    }
}

#[tokio::test]
async fn of_two_simultaneous_dials_one_is_left_on_both_sides() {
    let (small, great) = smaller_and_greater();
    let mut meetings = Vec::new();
    for millis in [0, 50, 400] {
        for (first, second) in [(small, great), (great, small)] {
            let delay = Duration::from_millis(millis);
            meetings.push(tokio::spawn(async move {
                let meeting = meet(first, second, delay, delay).await;
                let mut events = meeting.a.events();
                meeting.one_is_left().await;
                assert_eq!(downs(&mut events), []);
                meeting.a.ping(meeting.b.id()).await.unwrap();
                meeting.b.ping(meeting.a.id()).await.unwrap();
            }));
        }
    }
    for meeting in meetings {
        meeting.await.unwrap();
    }
}

/// The connection that will be closed is up first and carries a tunnel; the one that stays comes
/// later. The tunnel ends when its client wants it to.
#[tokio::test]
async fn a_tunnel_on_the_losing_connection_finishes() {
    let (small, great) = smaller_and_greater();
    // Dialled by the smaller id wins: it is made to come late.
    let late = Duration::from_millis(700);
    let meeting = meet(small, great, late, Duration::ZERO).await;
    let target = echo().await;
    expose(&meeting.b, "echo", target).await;
    let ingress = ingress(&meeting.a, "echo").await;
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    round_trip(&mut tcp, b"on the first").await.unwrap();
    let first = meeting.b_to_a.count();
    assert!(first > 0, "the connection that loses was not first");

    until("the winner is up", || meeting.a_to_b.count() > 12).await;
    for n in 0..60_u8 {
        round_trip(&mut tcp, &[n; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(meeting.b_to_a.count() > first, "the tunnel moved");
    drop(tcp);
    assert!(meeting.one_is_left().await, "the wrong one is left");
}

/// Links are renewed for fresh keys; what runs over the old one goes on (make before break).
#[tokio::test]
async fn a_transfer_outlives_the_renewal_of_its_link() {
    let soon = |builder: warren::NodeBuilder| {
        builder.timing(Timing {
            redial_after: Duration::from_secs(1),
            ..Timing::default()
        })
    };
    let a = start(1, With::default()).await;
    expose(&a, "echo", echo().await).await;
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let through = [at(a.id(), proxy.addr)];
    let with = With {
        connect: &through,
        more: soon,
        ..With::default()
    };
    let b = start(2, with).await;
    let mut events = b.events();
    let ingress = ingress(&b, "echo").await;
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    for n in 0..80_u32 {
        round_trip(&mut tcp, &[n as u8; 2000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let dials = proxy.went(crate::proxy::Way::ToNode).into_iter();
    let dials: std::collections::BTreeSet<Vec<u8>> = dials
        .filter(|bytes| bytes[0] & 0xf0 == 0xc0 && bytes[5] == 20)
        .map(|bytes| bytes[6..26].to_vec())
        .collect();
    println!("{} connections in 4 s", dials.len());
    assert!(dials.len() >= 3, "redial_after had no effect");
    assert_eq!(downs(&mut events), []);
}
