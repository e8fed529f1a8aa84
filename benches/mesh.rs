//! `cargo bench --bench mesh [-- --json] [-- --rounds N] [-- --idle SECONDS]
//! [-- --traffic N[,N...]] [-- --crowd N]`
//!
//! What a user of a mesh feels, measured with real processes of the release binary: how long from
//! starting a second node to the first byte through the service it has just exposed, what three
//! idle nodes cost in memory and processor time, and, if asked for, what idle nodes send and what
//! many of them cost.
//!
//! | option | meaning |
//! |---|---|
//! | `--rounds N` | how often a second node is started; default 11 |
//! | `--idle SECONDS` | how long idle nodes are watched; default 30 |
//! | `--traffic N,…` | networks of N idle nodes, each in a network namespace of its own: bytes and packets they send, beside what the simulator of `tests/sim` says; as root, with `ip` |
//! | `--crowd N` | N idle nodes on loopback: processor time of all, memory of each |
//! | `--json` | one document instead of sentences |
//!
//! Nodes are watched once all see all and half a minute has passed. Bytes are counted as UDP payload
//! and 28 for the headers of UDP and IPv4. Processor time is that of the nodes' own threads, so
//! that what else the machine does matters little. Processes, namespaces and files are removed
//! when it ends, also by Ctrl-C or SIGTERM.

#[path = "mesh/crowd.rs"]
mod crowd;
#[path = "mesh/daemon.rs"]
mod daemon;
#[path = "tunnel/namespace.rs"]
mod namespace;
#[path = "mesh/options.rs"]
mod options;
// The tunnel's bench uses the rest of it.
#[allow(dead_code)]
#[path = "tunnel/process.rs"]
mod process;
#[path = "mesh/small.rs"]
mod small;
#[path = "mesh/traffic.rs"]
mod traffic;
// The tests use the rest of it.
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]
#[path = "../tests/sim/world/mod.rs"]
mod world;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use options::Options;

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;

/// A mesh that does not come up in this time is a failure, not a slow result.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    process::watch_interrupts()?;
    let scratch = tempfile::tempdir()?;
    let report = report(&options, scratch.path())?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{report}")?;
    } else {
        print_sentences(&mut out, &report)?;
    }
    Ok(())
}

fn report(options: &Options, scratch: &Path) -> Result<Value> {
    let mut report = json!({});
    if options.small() {
        let server = small::serve_hello()?;
        report["first_byte_ms"] = small::first_byte(scratch, server, options.rounds)?;
        report["idle"] = small::idle(scratch, server, options.idle)?;
    }
    if !options.traffic.is_empty() {
        report["traffic"] = match traffic::obstacle() {
            Some(obstacle) => json!({ "skipped": obstacle }),
            None => {
                let sizes = options.traffic.iter();
                let each = sizes.map(|nodes| traffic::measure(scratch, *nodes, options.idle));
                each.collect::<Result<Value>>()?
            }
        };
    }
    if let Some(nodes) = options.crowd {
        report["crowd"] = crowd::measure(scratch, nodes, options.idle)?;
    }
    Ok(report)
}

/// Sleeps, but not through an interrupt.
fn pause(span: Duration) -> Result<()> {
    let start = Instant::now();
    process::until("the pause", Duration::MAX, || {
        Ok((start.elapsed() >= span).then_some(()))
    })
}

fn print_sentences(out: &mut impl Write, report: &Value) -> Result<()> {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    if let Some(first) = report.get("first_byte_ms") {
        writeln!(
            out,
            "second node started to first byte through its service: {:.0} ms \
             (median of {}; {:.0} to {:.0})",
            number(&first["median"]),
            first["rounds"],
            number(&first["min"]),
            number(&first["max"]),
        )?;
    }
    if let Some(idle) = report.get("idle") {
        writeln!(
            out,
            "{} idle nodes over {} s, the most expensive one: {:.2} % of a core, {:.1} MiB resident",
            idle["nodes"],
            idle["seconds"],
            number(&idle["cpu_percent"]),
            number(&idle["rss_mib"]),
        )?;
    }
    if let Some(obstacle) = report["traffic"]["skipped"].as_str() {
        writeln!(out, "traffic was not measured: {obstacle}")?;
    }
    for traffic in report["traffic"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "{} idle nodes over {} s: each sends {:.0} B/s (the most {:.0}) in {:.1} packets/s; \
             simulated {:.0} B/s (the most {:.0}); real to simulated {:.2}; \
             all saw all after {:.1} s",
            traffic["nodes"],
            traffic["seconds"],
            number(&traffic["bytes_per_s_p50"]),
            number(&traffic["bytes_per_s_max"]),
            number(&traffic["packets_per_s_p50"]),
            number(&traffic["simulated_bytes_per_s_p50"]),
            number(&traffic["simulated_bytes_per_s_max"]),
            number(&traffic["real_to_simulated"]),
            number(&traffic["settled_ms"]) / 1000.0,
        )?;
    }
    if let Some(crowd) = report.get("crowd") {
        writeln!(
            out,
            "{} idle nodes over {} s: {:.1} % of a core together, {:.1} MiB each \
             (PSS, the most {:.1}; resident {:.1}); all saw all after {:.1} s",
            crowd["nodes"],
            crowd["seconds"],
            number(&crowd["cpu_percent_all"]),
            number(&crowd["pss_mib_p50"]),
            number(&crowd["pss_mib_max"]),
            number(&crowd["rss_mib_max"]),
            number(&crowd["settled_ms"]) / 1000.0,
        )?;
    }
    Ok(())
}
