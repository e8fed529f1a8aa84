//! Servers of P2PRC's kind, good and bad, are probed over real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)]

mod many;
mod offline;
mod server;
mod transfer;

use std::net::SocketAddr;
use std::time::Duration;

use warren::mesh::measure::Limits;
use warren::mesh::probe::{Found, Verdict};
use warren::service::probe::{Outcome, Settings, probe};

/// Nothing here takes longer, unless something is broken.
const DEADLINE: Duration = Duration::from_secs(40);

/// In no hurry, and without pauses.
fn calm() -> Settings {
    Settings {
        deadline: DEADLINE,
        jitter: Duration::ZERO,
        patience: Duration::from_secs(10),
        transfer: None,
        ..Settings::default()
    }
}

/// The same, with small transfers.
fn transferring() -> Settings {
    Settings {
        transfer: Some(Limits {
            bytes: 3_000_000,
            time: Duration::from_secs(5),
        }),
        ..calm()
    }
}

async fn probe_all(targets: &[SocketAddr], settings: Settings) -> Vec<Outcome<usize>> {
    let targets = targets.iter().map(|addr| (*addr).into());
    let mut probing = probe(targets.enumerate(), settings);
    let mut all = Vec::new();
    while let Some(outcome) = probing.next().await {
        all.push(outcome);
    }
    assert_eq!(probing.left(), 0);
    all.sort_by_key(|outcome| outcome.key);
    all
}

async fn probe_one(target: SocketAddr, settings: Settings) -> Verdict {
    let mut all = probe_all(&[target], settings).await;
    assert_eq!(all.len(), 1);
    all.remove(0).verdict
}

fn found(verdict: Verdict) -> Found {
    match verdict {
        Verdict::Answered(found) => found,
        other => panic!("{other:?}"),
    }
}
