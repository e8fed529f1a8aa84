//! Clocks that differ, in epochs of the crypto interval.

use std::time::Duration;

use warren::clock::Clock;
use warren::mesh::event::What;

use crate::proxy::{Proxy, Way};
use crate::rig::*;

const INTERVAL: u32 = 4;

fn clock(epochs: i64, interval: u32) -> Clock {
    Clock::with_offset_ms(epochs * i64::from(interval) * 1000)
}

/// A node, and another whose clock is `epochs` off and who dials it.
async fn pair(epochs: i64, interval: u32) -> (Daemon, Daemon, Proxy) {
    let with = With {
        token: token(interval),
        ..With::default()
    };
    let a = start(1, with).await;
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let through = [at(a.id(), proxy.addr)];
    let with = With {
        token: token(interval),
        connect: &through,
        clock: clock(epochs, interval),
        ..With::default()
    };
    let b = start(2, with).await;
    (a, b, proxy)
}

#[tokio::test]
async fn one_epoch_apart_joins() {
    for epochs in [-1, 0, 1] {
        let (a, b, _proxy) = pair(epochs, INTERVAL).await;
        until("joined", || a.sees(&b) && b.sees(&a)).await;
    }
}

#[tokio::test]
async fn two_epochs_apart_do_not_join() {
    let (behind, ahead) = tokio::join!(pair(-2, INTERVAL), pair(2, INTERVAL));
    never_within("they joined", Duration::from_secs(4), || {
        let joined = |(a, b, _): &(Daemon, Daemon, Proxy)| a.sees(b) || b.sees(a);
        joined(&behind) || joined(&ahead)
    })
    .await;
    // A knock of an epoch to come can be repeated until it has come; one of the past cannot.
    assert!(!behind.2.went(Way::ToNode).is_empty());
    assert!(behind.2.went(Way::ToDialler).is_empty());
}

#[tokio::test]
async fn three_epochs_apart_is_silence_and_then_a_report_of_the_difference() {
    const SHORT: u32 = 2;
    let (a, b, _proxy) = pair(-3, SHORT).await;
    let mut events = b.events();
    until("the difference is found", || b.problem("clock").is_some()).await;
    let text = b.problem("clock").unwrap();
    let seconds = [5, 6, 7].map(|s| format!("is {s} s behind"));
    assert!(seconds.iter().any(|s| text.contains(s)), "{text}");
    let is_clock = |what: &What| matches!(what, What::Warning { code, .. } if code == "clock");
    assert!(told(&mut events).iter().any(is_clock));
    assert!(!a.sees(&b) && !b.sees(&a));
}
