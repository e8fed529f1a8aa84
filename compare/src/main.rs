//! `cargo run --release --manifest-path compare/Cargo.toml [-- --json] [-- --quick] [-- --nodes N]`
//!
//! Membership and dissemination compared in virtual time: published state machines on one seeded
//! heap of events. A pair of nodes is 35 to 60 ms apart one way, each packet adds up to 5 ms, and
//! 1 % or 5 % of the packets are lost. A row depends on its seed alone; all take a few minutes.
//!
//! | option | meaning |
//! |---|---|
//! | `--quick` | less of everything, and at most 100 nodes |
//! | `--nodes N` | only meshes of this size: 10, 20, 100 or 1000 |
//! | `--json` | every figure, also how whole the overlay is at the end |
//!
//! Candidates:
//! - *foca, LAN*: SWIM as foca's `Config::new_lan` sets it, but for packets of at most 512 B.
//! - *foca, fast*: the same with a probe each 0.5 s, five indirect ones, gossip each 0.1 s, more
//!   copies of each piece of news (9, 13 or 18 for up to 20, 100 or more nodes; LAN has 4 to 12),
//!   each passed on at once, and 1.0, 1.3 or 2.0 s to refute. `swim.rs` says what a datagram costs.
//! - *iroh-gossip*: HyParView and Plumtree over links as QUIC keeps them (`links.rs`), and on top
//!   suspicions by neighbours, broadcast and refuted (`tree.rs`).
//!
//! Bytes are sent, per node, lost ones included. A time is until the last node; one that a node
//! misses is counted apart. A mistake is a living node declared dead by at least one other.
//!
//! What it found (1 % loss if not said):
//! 1. Idle, at 1,000 nodes: foca LAN 394 B/s, foca fast 848 B/s, iroh-gossip 768 B/s; alike at 10.
//! 2. At 5 % loss and 1,000 nodes foca LAN sends 2,419 B/s and foca fast 1,780 B/s: probably
//!    gossip about suspicions that are then refuted. iroh-gossip sends 791 B/s.
//! 3. A killed node is gone for all of 1,000 after (median, worst of 30) 14.5 and 20.2 s with foca
//!    LAN, 3.1 and 6.4 s with foca fast, 3.5 and 3.9 s with iroh-gossip.
//! 4. Of 10 after 1.9 and 4.1 s with foca fast, 3.0 and 3.3 s with iroh-gossip: random probing has
//!    the better median and the longer tail, because when the dead is next probed is chance.
//! 5. Mistakes at 5 % loss: at 100 nodes 6 in 1.5 h with foca LAN, none in 1.3 h with the others;
//!    at 1,000 one in 0.3 h, none in 0.2 h, and one in 0.2 h with iroh-gossip: too few for a rate.
//! 6. A 300-byte entry is on all 1,000 nodes after 0.29 s with foca fast, 0.95 s with iroh-gossip,
//!    1.06 s with foca LAN (medians); on all 10 after 0.09, 0.19 and 0.32 s.
//! 7. It costs each of 1,000 nodes 8.3 kB with foca fast, 5.6 kB with foca LAN, 1.0 kB with
//!    iroh-gossip: gossip sends every copy blindly, a tree one and a few announcements.
//! 8. Foca LAN leaves somebody out (6 s later still): at 10 nodes 8 of 80 entries, at 100 3 of 96.
//!    Foca fast left out none, at twice the copies. Any gossip needs reconciliation behind it.
//! 9. A leaving node is gone for all 1,000 after 0.31 s with foca fast, 1.1 s with foca LAN, 1.45 s
//!    with iroh-gossip, probably because the deaths between have broken its tree.
//! 10. Foca wins on speed, and keeps no links; but its updates are unsigned and its incarnation is
//!     a `u16`: one forged `Suspect(X, 65535)` cannot be refuted, and X must rejoin under a new
//!     identity. Signing each update would add 64 B to its 13 B. An acknowledgement with news in
//!     it is also larger than its ping, which a datagram with a spoofed source should never get.

mod candidate;
mod links;
mod measure;
mod news;
mod report;
mod swim;
mod tree;
mod wire;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use measure::{FULL, PROTOCOLS, Plan, Protocol, QUICK, measure};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const LOSSES: [f64; 2] = [0.01, 0.05];

struct Options {
    json: bool,
    plans: &'static [Plan],
    /// Only this size of mesh.
    nodes: Option<usize>,
}

fn main() -> Result<()> {
    let options = options()?;
    let mut jobs = Vec::new();
    for plan in options.plans {
        if options.nodes.is_some_and(|nodes| nodes != plan.nodes) {
            continue;
        }
        for loss in LOSSES {
            jobs.extend(PROTOCOLS.map(|protocol| (protocol, *plan, loss)));
        }
    }
    let rows = measure_all(&jobs)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", json!({ "rows": rows }))?;
    } else {
        report::table(&mut out, &rows)?;
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        json: false,
        plans: FULL,
        nodes: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = true,
            "--quick" => options.plans = QUICK,
            "--nodes" => {
                options.nodes = Some(args.next().ok_or("--nodes takes a number")?.parse()?);
            }
            // What cargo itself passes.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(options)
}

/// Measures on all cores, the longest jobs first; a row depends on its seed alone.
fn measure_all(jobs: &[(Protocol, Plan, f64)]) -> Result<Vec<Value>> {
    let left = AtomicUsize::new(jobs.len());
    let rows = Mutex::new(vec![Value::Null; jobs.len()]);
    let work = || -> Result<()> {
        while let Ok(before) = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        }) {
            let (protocol, plan, loss) = jobs[before - 1];
            let row = measure(protocol, plan, loss)?;
            rows.lock().unwrap_or_else(PoisonError::into_inner)[before - 1] = row;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a measurement panicked")?)
    })?;
    Ok(rows.into_inner().unwrap_or_else(PoisonError::into_inner))
}
