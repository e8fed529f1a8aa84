//! What TCP means, kept over real QUIC links and sockets.
#![cfg(feature = "p2p")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod tunnel_rig;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::TransportConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use tunnel_rig::*;
use warren::service::end::{End, QuicEnd};
use warren::service::spec::Failover;

#[tokio::test]
async fn a_client_that_half_closes_gets_its_answer() {
    in_time(async {
        let echo = echo_at_end(b"got ").await;
        for failover in [Failover::Off, Failover::Connect, Failover::Replay] {
            let (_mesh, ingress) = one_node(echo, failover).await;
            assert_eq!(ask(&ingress, b"ping").await.unwrap(), b"got ping");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_half_closes_still_hears_its_client() {
    in_time(async {
        let (heard, mut hears) = mpsc::unbounded_channel();
        let target = server(move |mut tcp| {
            let heard = heard.clone();
            async move {
                let _ = tcp.write_all(b"bye").await;
                let _ = tcp.shutdown().await;
                let mut all = Vec::new();
                if tcp.read_to_end(&mut all).await.is_ok() && !all.is_empty() {
                    heard.send(all).unwrap();
                }
            }
        })
        .await;
        for failover in [Failover::Connect, Failover::Replay] {
            let (_mesh, ingress) = one_node(target, failover).await;
            let mut client = dial(&ingress).await;
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"bye");
            client.write_all(b"and one more thing").await.unwrap();
            drop(client);
            assert_eq!(hears.recv().await.unwrap(), b"and one more thing");
        }
    })
    .await;
}

#[tokio::test]
async fn a_reset_by_the_client_reaches_the_server() {
    in_time(async {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let target = server(move |mut tcp| {
            let ended = ended.clone();
            async move {
                let mut first = [0; 5];
                if tcp.read_exact(&mut first).await.is_ok() {
                    tcp.write_all(b"x").await.unwrap();
                    ended.send(tcp.read(&mut first).await).unwrap();
                }
            }
        })
        .await;
        let (_mesh, ingress) = one_node(target, Failover::Replay).await;
        let mut client = dial(&ingress).await;
        client.write_all(b"hello").await.unwrap();
        client.read_u8().await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        let end = ends.recv().await.unwrap();
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn an_answer_followed_by_a_reset_arrives_as_both() {
    in_time(async {
        let target = server(|mut tcp| async move {
            let mut some = [0; 1];
            if tcp.read_exact(&mut some).await.is_ok() {
                tcp.write_all(b"413 too large").await.unwrap();
                tcp.set_zero_linger().unwrap();
            }
        })
        .await;
        let (_mesh, ingress) = one_node(target, Failover::Replay).await;
        let mut client = dial(&ingress).await;
        client.write_all(b"a long request").await.unwrap();
        let mut answer = [0; 13];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"413 too large");
        let end = client.read(&mut answer).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    in_time(async {
        let target = server(|mut tcp| async move {
            let mut some = [0; 1];
            if tcp.read_exact(&mut some).await.is_ok() {
                // Closed with bytes unread: the kernel sends the answer, then RST.
                let _ = tcp.write_all(b"413 too large").await;
            }
        })
        .await;
        let (_mesh, ingress) = one_node(target, Failover::Replay).await;
        let (mut read, mut write) = dial(&ingress).await.into_split();
        let writing = tokio::spawn(async move {
            let block = noise(64 * 1024);
            while write.write_all(&block).await.is_ok() {}
        });
        let mut answer = [0; 13];
        read.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"413 too large");
        writing.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn twenty_megabytes_arrive_unchanged_both_ways() {
    in_time(async {
        // Echoes while it reads, so that both directions are full at once.
        let echo = server(|mut tcp| async move {
            let (mut read, mut write) = tcp.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let sent = Arc::new(noise(20_000_000));
        let (_mesh, ingress) = one_node(echo, Failover::Replay).await;
        let (mut read, mut write) = dial(&ingress).await.into_split();
        let body = sent.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&body).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == *sent, "{} bytes came back", got.len());
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_read_stops_its_client() {
    in_time(async {
        let (go, _) = tokio::sync::broadcast::channel::<()>(1);
        let (done, mut dones) = mpsc::unbounded_channel();
        let start = go.clone();
        let target = server(move |mut tcp| {
            let (mut start, done) = (start.subscribe(), done.clone());
            async move {
                start.recv().await.unwrap();
                let copied = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
                done.send(copied.unwrap()).unwrap();
            }
        })
        .await;
        let (_mesh, ingress) = one_node(target, Failover::Replay).await;
        let mut client = dial(&ingress).await;
        let block = vec![7; 64 * 1024];
        let mut taken = 0_u64;
        // Two sockets' buffers and one stream's windows: the kernel's share is a few MB each.
        let stalled = loop {
            let write = tokio::time::timeout(Duration::from_secs(1), client.write(&block)).await;
            match write {
                Ok(count) => taken += count.unwrap() as u64,
                Err(_) => break true,
            }
            if taken > 64 * 1024 * 1024 {
                break false;
            }
        };
        assert!(stalled, "{taken} bytes were taken that nobody reads");
        go.send(()).unwrap();
        client.shutdown().await.unwrap();
        let mut received = 0;
        while received == 0 {
            // The connection that checked the server before it was exposed counts 0.
            received = dones.recv().await.unwrap();
        }
        assert_eq!(received, taken);
    })
    .await;
}

/// Where the peer of a link takes less than its streams have to say, quinn wakes those that wait as
/// they lie on a stack. Who lay in the middle never had a turn: of 2,000 streams through one link
/// some waited half a minute for the byte that says whether their server accepted.
#[tokio::test]
async fn nobody_starves_on_a_link_whose_peer_takes_little() {
    const LITTLE: u32 = 64 * 1024;
    const BULKY: u8 = 6;
    in_time(async {
        let mut transport = TransportConfig::default();
        transport.receive_window(LITTLE.into());
        let (near, far) = joined(transport).await;
        let (go, started) = tokio::sync::watch::channel(false);
        let (took, mut taken) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((_send, mut recv)) = far.accept_bi().await {
                let (mut started, took) = (started.clone(), took.clone());
                tokio::spawn(async move {
                    started.wait_for(|on| *on).await.unwrap();
                    while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
                        let _ = took.send((chunk.bytes[0], chunk.bytes.len() as u64));
                    }
                });
            }
        });
        // In this order they lie on the stack: the small one, 0, in the middle.
        for who in [1, 2, 3, 0, 4, 5, 6] {
            let (send, recv) = near.open_bi().await.unwrap();
            let mut end = QuicEnd::new(send, recv);
            let (stuck, is_stuck) = tokio::sync::oneshot::channel();
            let mut stuck = Some(stuck);
            tokio::spawn(async move {
                let block = vec![who; if who == 0 { 1 } else { LITTLE as usize }];
                let write = |cx: &mut Context<'_>| {
                    loop {
                        match end.poll_write(cx, &block) {
                            Poll::Ready(Ok(_)) if who > 0 => {}
                            Poll::Ready(_) => return Poll::Ready(()),
                            Poll::Pending => break,
                        }
                    }
                    stuck.take().map(|stuck| stuck.send(()));
                    Poll::Pending
                };
                poll_fn(write).await;
                // Until the byte has been read.
                let _ = end.send.stopped().await;
            });
            is_stuck.await.unwrap();
        }
        go.send(true).unwrap();
        let mut sums = [0_u64; 1 + BULKY as usize];
        while sums.iter().sum::<u64>() < 1024 * u64::from(LITTLE) {
            let (who, bytes) = taken.recv().await.unwrap();
            sums[usize::from(who)] += bytes;
            let all = sums.iter().sum::<u64>();
            assert!(sums[0] == 1 || all < 8 * u64::from(LITTLE), "{sums:?}");
        }
        // A sixth each, give or take what chance does to 1,000 turns.
        let least = 1024 / 4 / u64::from(BULKY) * u64::from(LITTLE);
        assert!(sums[1..].iter().all(|sum| *sum > least), "{sums:?}");
    })
    .await;
}
