//! `cargo bench --bench scale [-- --nodes N] [-- --seed S] [-- --runs N] [-- --only LIST]
//! [-- --json] [-- --check]`
//!
//! What a large network does, in the simulator of `tests/sim`: real brains, virtual time. One
//! table of goals and figures comes out, or JSON, one line per scenario.
//!
//! | option | meaning |
//! |---|---|
//! | `--nodes N` | this many nodes instead of each scenario's own number |
//! | `--seed S` | another world; the same seed gives the same figures. Default 1 |
//! | `--runs N` | worlds of `churn`; default 1,000. They have the seeds S, S+1, … |
//! | `--only LIST` | scenarios by name, with commas between |
//! | `--json` | one JSON object per line instead of the table; null for what never happened |
//! | `--check` | end with 1 if a goal is missed |
//!
//! Bytes are counted as UDP payload and 28 for the headers of UDP and IPv4, by the cost model of
//! `tests/sim/world/cost.rs`. Links take 40 to 60 ms one way, different for each pair, and 0 to 5 ms
//! more for each packet, unless a scenario says otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "scale/faults.rs"]
mod faults;
#[path = "scale/measure.rs"]
mod measure;
#[path = "scale/membership.rs"]
mod membership;
#[path = "scale/options.rs"]
mod options;
#[path = "scale/report.rs"]
mod report;
#[path = "scale/spread.rs"]
mod spread;
#[path = "scale/traffic.rs"]
mod traffic;
// The tests use the rest of it.
#[allow(dead_code)]
#[path = "../tests/sim/world/mod.rs"]
mod world;

use std::io::Write;
use std::time::Instant;

use options::Options;
use report::Outcome;

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;
type Scenario = fn(&Options) -> Outcome;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("idle", traffic::idle),
    ("entry", spread::entry),
    ("leave", membership::leave),
    ("killed", membership::killed),
    ("join", spread::join),
    ("heal", faults::heal),
    ("churn", faults::churn),
    ("false-positives", membership::false_positives),
    ("ten-thousand", traffic::ten_thousand),
    ("overhead", traffic::overhead),
];

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut out = std::io::stdout().lock();
    if !options.json {
        report::header(&mut out)?;
    }
    let mut missed = false;
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| options.wants(name)) {
        let start = Instant::now();
        let outcome = scenario(&options);
        let wall = start.elapsed();
        missed |= !outcome.reached();
        if options.json {
            writeln!(out, "{}", outcome.json(name, options.seed, wall))?;
        } else {
            outcome.row(&mut out, name, wall)?;
        }
        out.flush()?;
    }
    if missed && options.check {
        return Err("a goal was missed".into());
    }
    Ok(())
}
