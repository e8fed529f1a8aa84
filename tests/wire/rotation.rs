//! Keys rotate under load: nothing is cut, nothing fails.
//!
//! Twelve seconds and six epochs; `WARREN_LONG=1` makes it sixty seconds and thirty epochs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rig::*;

const INTERVAL: u32 = 2;
/// Requests a second, over all workers.
const REQUESTS: u32 = 200;
const WORKERS: u32 = 8;
const CHUNK: usize = 64 * 1024;

fn span() -> Duration {
    let long = std::env::var_os("WARREN_LONG").is_some_and(|value| value == "1");
    Duration::from_secs(if long { 60 } else { 12 })
}

#[tokio::test]
async fn a_download_and_requests_go_on_across_epochs() {
    let with = || With {
        token: token(INTERVAL),
        ..With::default()
    };
    let a = start(1, with()).await;
    let chunks = span().as_millis() as usize / 50;
    // One chunk each 50 ms, then the end.
    let slow = server(move |mut tcp| async move {
        for n in 0..chunks {
            if tcp.write_all(&[n as u8; CHUNK]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    expose(&a, "slow", slow.await).await;
    expose(&a, "echo", echo().await).await;
    let pin = [a.pinned()];
    let b = start(
        2,
        With {
            connect: &pin,
            ..with()
        },
    )
    .await;
    let mut events = b.events();
    let (slow, echo) = (ingress(&b, "slow").await, ingress(&b, "echo").await);

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        workers.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) * WORKERS / REQUESTS);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let mut tcp = TcpStream::connect(echo).await.unwrap();
                round_trip(&mut tcp, b"still there?").await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let begun = Instant::now();
    let mut download = TcpStream::connect(slow).await.unwrap();
    let mut all = Vec::new();
    download.read_to_end(&mut all).await.unwrap();
    let epochs = begun.elapsed().as_secs() / u64::from(INTERVAL);
    stop.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let requests = done.load(Ordering::Relaxed);
    println!("{epochs} epochs, {requests} requests, {} bytes", all.len());
    assert!(epochs >= span().as_secs() / u64::from(INTERVAL) - 1);
    assert_eq!(all.len(), chunks * CHUNK);
    assert!(
        all.chunks(CHUNK)
            .enumerate()
            .all(|(n, c)| c.iter().all(|b| *b == n as u8))
    );
    assert!(
        requests > 20 * epochs,
        "too few to say anything: {requests}"
    );
    assert_eq!(downs(&mut events), []);

    // Whoever comes now knocks with keys that none of these epochs had.
    let c = start(
        3,
        With {
            connect: &pin,
            ..with()
        },
    )
    .await;
    until("a newcomer joins", || c.sees(&a) && c.sees(&b)).await;
}
