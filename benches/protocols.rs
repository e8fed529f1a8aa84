//! `cargo bench --bench protocols [-- --json] [-- --quick] [-- --nodes N]`
//!
//! Membership and dissemination protocols compared, in virtual time.

#[path = "protocols/candidate.rs"]
mod candidate;
#[path = "protocols/links.rs"]
mod links;
#[path = "protocols/measure.rs"]
mod measure;
#[path = "protocols/report.rs"]
mod report;
#[path = "protocols/swim.rs"]
mod swim;
#[path = "protocols/tree.rs"]
mod tree;
#[path = "protocols/wire.rs"]
mod wire;
#[path = "protocols/world.rs"]
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
