//! Who counts as alive, and that nobody holds up the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warren::mesh::probe::{Miss, Undecided, Unmeasured, Verdict};
use warren::service::probe::{Settings, probe};

use crate::server::*;
use crate::{calm, found, probe_all, probe_one};

#[tokio::test]
async fn a_round_trip_is_timed_on_one_warm_connection() {
    let (addr, asked) = p2prc(0, Upload::Get).await;
    let found = found(probe_one(addr, calm()).await);
    let trip = found.round_trip.unwrap();
    assert_eq!(trip.samples, 3);
    assert!(trip.min > Duration::ZERO && trip.min <= trip.median);
    assert_eq!(found.download, Err(Unmeasured::NotAsked));
    assert_eq!(found.measurement().download, None, "unknown, not 0");
    // The first opened the way.
    assert_eq!(asked.infos.load(Ordering::SeqCst), 4);
    assert_eq!(asked.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_keeps_no_connection_is_alive() {
    let length = INFO.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{INFO}");
    let addr = says_and_closes(answer).await;
    let trip = found(probe_one(addr, calm()).await).round_trip;
    assert_eq!(trip.map(|trip| trip.samples), Some(3));
}

#[tokio::test]
async fn who_does_not_answer_as_it_should_is_not_alive_and_others_are() {
    let endless = raw(async |mut tcp: TcpStream| {
        let _ = tcp.read(&mut [0; 4096]).await;
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = tcp.write_all(head).await;
        while tcp.write_all(b"10\r\n{               \r\n").await.is_ok() {}
    })
    .await;
    let elsewhere =
        says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            .await;
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    let (good, _) = p2prc(0, Upload::Get).await;
    let targets = [
        good,
        refuses().await,
        silent().await,
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await,
        endless,
        says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await,
        says(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await,
        elsewhere,
        says(page).await,
        says(b"SSH-2.0-OpenSSH_9.6\r\n").await,
        says_and_closes(String::new()).await,
    ];
    let settings = Settings {
        patience: Duration::from_millis(1500),
        ..calm()
    };
    let all = probe_all(&targets, settings).await;
    assert_eq!(all.len(), targets.len());
    let verdicts: Vec<_> = all.into_iter().map(|outcome| outcome.verdict).collect();
    assert!(matches!(verdicts[0], Verdict::Answered(_)), "{verdicts:?}");
    let missed = |at: usize, miss| {
        assert_eq!(verdicts[at], Verdict::Missed(miss), "number {at}");
    };
    missed(1, Miss::Refused);
    missed(2, Miss::Silent);
    missed(3, Miss::Silent);
    missed(5, Miss::Status(404));
    missed(6, Miss::Status(500));
    missed(7, Miss::Status(302));
    for at in [4, 8, 9, 10] {
        let wrong = matches!(&verdicts[at], Verdict::Missed(Miss::Wrong(_)));
        assert!(wrong, "number {at}: {:?}", verdicts[at]);
    }
}

/// Of a table a third answers, a third is silent and a third refuses; each row is reported, and
/// not many are asked at once.
#[tokio::test]
async fn every_row_of_a_bad_table_is_reported() {
    const ROWS: usize = 300;
    const AT_ONCE: usize = 50;
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (count, highest) = (Arc::clone(&now), Arc::clone(&most));
    let silent = raw(move |mut tcp| {
        highest.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let count = Arc::clone(&count);
        async move {
            let _ = tcp.read_to_end(&mut Vec::new()).await;
            count.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let (good, _) = p2prc(0, Upload::Get).await;
    let kinds = [good, silent, refuses().await];
    let targets = (0..ROWS).map(|row| (row, kinds[row % 3].into()));
    let settings = Settings {
        at_once: AT_ONCE,
        patience: Duration::from_secs(2),
        jitter: Duration::from_millis(20),
        ..calm()
    };
    let mut seen = HashSet::new();
    let mut outcomes = Box::pin(probe(targets, settings).into_stream());
    while let Some(outcome) = outcomes.next().await {
        assert!(seen.insert(outcome.key), "{} twice", outcome.key);
        match (outcome.key % 3, &outcome.verdict) {
            (0, Verdict::Answered(_))
            | (1, Verdict::Missed(Miss::Silent))
            | (2, Verdict::Missed(Miss::Refused)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.len(), ROWS);
    let most = most.load(Ordering::SeqCst);
    // The system may tell a server of a closed connection after the next was made.
    assert!((2..AT_ONCE * 2).contains(&most), "{most} at once");
}

#[tokio::test]
async fn the_deadline_ends_it_and_the_rest_is_undecided() {
    let silent = silent().await;
    let settings = Settings {
        at_once: 2,
        deadline: Duration::from_millis(300),
        ..calm()
    };
    let start = Instant::now();
    let all = probe_all(&[silent; 50], settings).await;
    assert!(start.elapsed() < Duration::from_secs(8), "patience of 10 s");
    assert_eq!(all.len(), 50);
    for outcome in all {
        let late = Verdict::Undecided(Undecided::OutOfTime);
        assert_eq!(outcome.verdict, late);
    }
}

#[tokio::test]
async fn a_policy_is_asked_after_the_name_is_resolved() {
    let (good, asked) = p2prc(0, Upload::Get).await;
    let settings = Settings {
        policy: Some(Arc::new(|_, ip| !ip.is_loopback())),
        ..calm()
    };
    let target = format!("localhost:{}", good.port()).parse().unwrap();
    let mut probing = probe([((), target)], settings);
    let verdict = probing.next().await.unwrap().verdict;
    assert_eq!(verdict, Verdict::Undecided(Undecided::Forbidden));
    assert_eq!(asked.connections.load(Ordering::SeqCst), 0);

    let target = format!("localhost:{}", good.port()).parse().unwrap();
    let mut probing = probe([((), target)], calm());
    found(probing.next().await.unwrap().verdict);
}
