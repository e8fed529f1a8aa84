//! Measurements between nodes, and what a member cannot do with them.

use std::time::{Duration, Instant};

use quinn::{RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use warren::mesh::measure::Limits;
use warren::mesh::measure::wire::{REPORT_BYTES, Report, Request, Way};
use warren::mesh::probe::Reach;
use warren::mesh::stream::{Cut, Opening, Refusal, Status};
use warren::node::{Bench, BenchPhase, BenchProgress, NodeError};

use crate::proxy::Proxy;
use crate::puppet::{Link, Puppet};
use crate::rig::*;

const SMALL: Limits = Limits {
    bytes: 4_000_000,
    time: Duration::from_secs(2),
};

fn progress() -> (watch::Sender<BenchProgress>, watch::Receiver<BenchProgress>) {
    watch::channel(BenchProgress {
        phase: BenchPhase::RoundTrip,
        done: 0,
        of: 0,
    })
}

async fn bench(from: &Daemon, to: &Daemon, limits: Limits) -> Result<Bench, NodeError> {
    let (sender, _keep) = progress();
    from.bench(to.id(), limits, &sender).await
}

/// Two nodes that see each other.
async fn pair() -> (Daemon, Daemon) {
    let a = start(1, With::default()).await;
    let pin = [a.pinned()];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let b = start(2, with).await;
    until("both are up", || a.sees(&b) && b.sees(&a)).await;
    (a, b)
}

pub(crate) async fn open(
    link: &Link,
    way: Way,
    limits: Limits,
) -> (SendStream, RecvStream, Status) {
    let (mut send, mut recv) = link.connection.open_bi().await.unwrap();
    let opening = Opening::Measure(Request { way, limits });
    send.write_all(&opening.encode()).await.unwrap();
    let mut status = [9];
    recv.read_exact(&mut status).await.unwrap();
    (send, recv, Status::from_byte(status[0]))
}

/// Measures a node that is up, which gives `code` and a message with `says`.
fn fails(found: Result<Bench, NodeError>, code: &str, says: &str) {
    let error = found.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(says), "{error}");
}

#[tokio::test]
async fn a_bench_measures_both_ways_and_tells_how_far_it_is() {
    let (a, b) = pair().await;
    let (sender, mut told) = progress();
    let phases = tokio::spawn(async move {
        let mut phases = vec![told.borrow().phase];
        while told.changed().await.is_ok() {
            let now = *told.borrow_and_update();
            if phases.last() != Some(&now.phase) {
                phases.push(now.phase);
            }
        }
        phases
    });
    let found = b.bench(a.id(), SMALL, &sender).await.unwrap();
    drop(sender);
    use BenchPhase::{Download, RoundTrip, Upload};
    assert_eq!(phases.await.unwrap(), [RoundTrip, Download, Upload]);

    assert_eq!(found.id, a.id());
    let (least, median) = (found.latency_ms.unwrap(), found.latency_median_ms.unwrap());
    assert!(0.0 < least && least <= median);
    assert!(found.packets_sent >= found.round_trips as u64);
    for (mbps, bytes, seconds) in [
        (found.download_mbps, found.download_bytes, found.download_s),
        (found.upload_mbps, found.upload_bytes, found.upload_s),
    ] {
        let (mbps, bytes, seconds) = (mbps.unwrap(), bytes.unwrap(), seconds.unwrap());
        // The first read came before the clock ran.
        assert!(SMALL.bytes / 2 < bytes && bytes < SMALL.bytes, "{bytes}");
        assert!((mbps - bytes as f64 * 8.0 / 1e6 / seconds).abs() < mbps * 1e-6);
    }
    let itself = b.bench(b.id(), SMALL, &progress().0).await;
    fails(itself, "usage", "the node itself");
}

#[tokio::test]
async fn packets_that_are_lost_are_found() {
    let a = start(1, With::default()).await;
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let pin = [at(a.id(), proxy.addr)];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let b = start(2, with).await;
    until("both are up", || a.sees(&b) && b.sees(&a)).await;
    let before = bench(&b, &a, SMALL).await.unwrap();
    assert_eq!(before.loss, Some(0.0), "a round trip provokes no loss");
    // An odd number: they alternate between the two ways.
    proxy.lose_one_in(7);
    let after = bench(&b, &a, SMALL).await.unwrap();
    assert!((0.03..0.4).contains(&after.loss.unwrap()), "{after:?}");
    assert!(after.upload_loss.unwrap() > 0.03, "{after:?}");
}

#[tokio::test]
async fn time_ends_it_where_bytes_do_not() {
    let (a, b) = pair().await;
    let limits = Limits {
        bytes: Limits::MAX.bytes,
        time: Duration::from_millis(300),
    };
    let found = bench(&a, &b, limits).await.unwrap();
    for seconds in [found.download_s.unwrap(), found.upload_s.unwrap()] {
        assert!((0.2..20.0).contains(&seconds), "{seconds}");
    }
    assert!(found.upload_bytes.unwrap() < Limits::MAX.bytes);
}

#[tokio::test]
async fn who_measures_all_the_time_waits_and_another_does_not() {
    let (a, b) = pair().await;
    let puppet = Puppet::new(9, &token(CALM));
    let link = puppet.link(a.id(), a.addr()).await;
    let tiny = Limits {
        bytes: 1,
        time: SMALL.time,
    };
    let start = Instant::now();
    let mut refused = false;
    while !refused {
        assert!(start.elapsed() < DEADLINE, "no rate");
        let (_send, mut recv, status) = open(&link, Way::Download, tiny).await;
        refused = status == Status::Refused(Refusal::TooMany);
        let rest = recv.read_to_end(10).await.unwrap();
        assert_eq!(rest.len(), usize::from(!refused), "a refusal ends there");
    }
    bench(&b, &a, SMALL).await.unwrap();
}

#[tokio::test]
async fn a_peer_measures_one_thing_at_a_time() {
    let a = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let link = puppet.link(a.id(), a.addr()).await;
    let long = Limits {
        bytes: u64::MAX,
        time: Duration::from_millis(u32::MAX.into()),
    };
    // Nothing is sent, nothing is read: they wait.
    let (mut send, _recv, status) = open(&link, Way::Upload, long).await;
    assert_eq!(status, Status::Connected);
    let (_, _, status) = open(&link, Way::Download, long).await;
    assert_eq!(status, Status::Refused(Refusal::TooMany));
    // The place is free again when the stream ends, however it does.
    send.reset(1_u32.into()).unwrap();
    let start = Instant::now();
    loop {
        let (_, _, status) = open(&link, Way::Download, SMALL).await;
        if status == Status::Connected {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "the place is never free");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn an_upload_that_would_not_end_is_stopped_and_reported() {
    let a = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let link = puppet.link(a.id(), a.addr()).await;
    let short = Limits {
        bytes: u64::MAX,
        time: Duration::from_millis(100),
    };
    let (mut send, mut recv, _) = open(&link, Way::Upload, short).await;
    let mut sent = 0;
    let stopped = timeout(DEADLINE, async {
        loop {
            match send.write(&[7; 50_000]).await {
                Ok(more) => sent += more as u64,
                Err(end) => return end,
            }
        }
    });
    let stopped = stopped.await.unwrap();
    let unwanted = u32::try_from(Cut::Unwanted.code()).unwrap();
    assert_eq!(stopped, quinn::WriteError::Stopped(unwanted.into()));
    let mut report = [0; REPORT_BYTES];
    recv.read_exact(&mut report).await.unwrap();
    let report = Report::decode(report);
    assert!(report.bytes <= sent && report.elapsed >= Duration::from_millis(50));
}

/// What a made-up member does with each measurement that it is asked for.
#[derive(Clone, Copy)]
enum Trick {
    /// It is older than measuring.
    Older,
    /// It counts more than was sent.
    Boasts,
    /// It counts in more time than there was.
    Dawdles,
}

async fn play(link: Link, trick: Trick) {
    while let Ok((mut send, mut recv)) = link.connection.accept_bi().await {
        if matches!(trick, Trick::Older) {
            let bad = u32::try_from(Cut::BadHeader.code()).unwrap();
            let _ = (send.reset(bad.into()), recv.stop(bad.into()));
            continue;
        }
        let mut opening = [0; 16];
        recv.read_exact(&mut opening).await.unwrap();
        let (opening, _) = Opening::decode(&opening).unwrap().unwrap();
        let Opening::Measure(request) = opening else {
            panic!("{opening:?}");
        };
        send.write_all(&[0]).await.unwrap();
        if request.way == Way::Download {
            // Ends when it is told so, or by itself.
            let _ = send.write_all(&vec![7; 1_000_000]).await;
        } else {
            let report = match trick {
                Trick::Boasts => Report {
                    bytes: u64::MAX / 16,
                    elapsed: Duration::from_millis(1),
                },
                _ => Report {
                    bytes: 1,
                    elapsed: Duration::from_secs(3600),
                },
            };
            send.write_all(&report.encode()).await.unwrap();
        }
        let _ = send.finish();
    }
}

#[tokio::test]
async fn what_a_member_reports_is_believed_only_as_far_as_it_can_be() {
    let tricks = [
        (Trick::Older, "refused", "cannot measure"),
        (Trick::Boasts, "unreachable", "than there were"),
        (Trick::Dawdles, "unreachable", "than there were"),
    ];
    for (trick, code, says) in tricks {
        let a = start(1, With::default()).await;
        let puppet = Puppet::new(9, &token(CALM));
        let mut link = puppet.link(a.id(), a.addr()).await;
        until("the puppet is up", || a.sees_id(puppet.id())).await;
        // It answers pings as a member does.
        let (mut recv, mut send) = (link.recv, link.send);
        let pongs = tokio::spawn(async move {
            let mut buffer = Vec::new();
            while let Ok(Some(chunk)) = recv.read_chunk(65_536, true).await {
                buffer.extend_from_slice(&chunk.bytes);
                while let Ok(Some((frame, used))) = warren::mesh::wire::decode_frame(&buffer) {
                    buffer.drain(..used);
                    if let warren::mesh::wire::Frame::Ping(number) = frame {
                        let pong = warren::mesh::wire::Frame::Pong(number).encode();
                        send.write_all(&pong).await.unwrap();
                    }
                }
            }
        });
        let (control_send, control_recv) = link.connection.open_bi().await.unwrap();
        (link.send, link.recv) = (control_send, control_recv);
        let playing = tokio::spawn(play(link, trick));
        let (sender, _keep) = progress();
        let found = timeout(DEADLINE, a.bench(puppet.id(), SMALL, &sender)).await;
        fails(found.unwrap(), code, says);
        playing.abort();
        pongs.abort();
    }
}

#[tokio::test]
async fn tunnels_go_on_beside_a_measurement() {
    let (a, b) = pair().await;
    expose(&a, "echo", echo().await).await;
    let listen = ingress(&b, "echo").await;
    let limits = Limits {
        bytes: Limits::MAX.bytes,
        time: Duration::from_secs(2),
    };
    let measuring = bench(&b, &a, limits);
    tokio::pin!(measuring);
    let mut answered = 0;
    let found = loop {
        let request = async {
            let mut tcp = TcpStream::connect(listen).await.unwrap();
            round_trip(&mut tcp, b"beside").await.unwrap();
        };
        tokio::select! {
            found = &mut measuring => break found,
            () = request => answered += 1,
        }
    };
    found.unwrap();
    assert!(answered > 10, "only {answered} requests in four seconds");
}

#[tokio::test]
async fn a_node_is_a_witness_as_far_as_its_links_go_and_while_they_are_heard() {
    let (a, b) = pair().await;
    let witness = b.witness();
    assert!(witness(Reach::Own));
    // Nodes on this machine say nothing of the network beyond.
    assert!(!witness(Reach::Near) && !witness(Reach::Far));
    a.stop().await;
    until("nobody is heard", || !witness(Reach::Own)).await;
}
