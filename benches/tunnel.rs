//! `cargo bench --bench tunnel [-- --json] [-- --svg FILE] [-- --rounds N] [-- --seconds N]
//! [-- --only LIST] [-- --calm] [-- --veth]`
//!
//! What a tunnel costs: the same load straight to its server, through warren, and through every
//! other tunnel found on the `PATH`, in turn. One table of medians and ratios comes out, or JSON,
//! and a plot. A tunnel that is not installed is named with the command that installs it.
//!
//! | option | meaning |
//! |---|---|
//! | `--rounds N` | how often each load runs over each tunnel; default 3 |
//! | `--seconds N` | how long each takes; default 5 |
//! | `--only LIST` | some of `bulk`, `requests`, `fairness`, `idle` and the tunnels' names (`direct` and `warren` always run) |
//! | `--calm` | repeat what others disturbed, up to five times, and count the calmest |
//! | `--veth` | all again across two network namespaces and 1500-byte packets; as root, with `ip` |
//!
//! How it is done, so that the figures mean something:
//! - On the server's side nginx with one worker and a file of 1 KiB, and iperf3; on the client's
//!   side wrk (or oha) with 64 connections, and iperf3. Everything shares this machine's cores.
//! - Every tunnel runs with its defaults and has one target and one local port. Those that only
//!   work in reverse have their public half on the client's side. Output goes to a file.
//! - For bulk and for requests a tunnel is started anew each round; all tunnels stand, idle, while
//!   one is measured. Rounds are interleaved, and each starts with another tunnel, because the
//!   speed of a shared machine changes within minutes.
//! - Fairness and idle tunnels have a client and a server of their own (`own`): 500 requests a
//!   second for 1 KiB on one connection, alone and beside a bulk stream at half the speed that it
//!   had just before; and 10,000 connections over which one byte went there and back.
//! - CPU time and memory are those of the tunnel's own processes, both ends together, without
//!   client and server. Time of threads that ended during a load is missing.
//! - While a load runs, the share of the machine that went to anybody else is measured, and said
//!   when it was too much: the medians then belong to another machine.
//! - Ports come from the kernel; bore's control port cannot be chosen, so its server has a
//!   loopback address to itself. Programs see neither the user's environment nor their home.
//! - It contacts nothing but loopback and its namespaces. dumbpipe looks for its relays on the
//!   internet, so outside namespaces it runs only if `--only` names it; edgevpn finds peers by
//!   multicast, so it runs with `--veth` only.
//!
//! Children, namespaces and files are removed when it ends, also by Ctrl-C or SIGTERM.

#[path = "tunnel/fair.rs"]
mod fair;
#[path = "tunnel/idle.rs"]
mod idle;
#[path = "tunnel/load.rs"]
mod load;
#[path = "tunnel/machine.rs"]
mod machine;
#[path = "tunnel/namespace.rs"]
mod namespace;
#[path = "tunnel/options.rs"]
mod options;
#[path = "tunnel/own.rs"]
mod own;
#[path = "tunnel/peers.rs"]
mod peers;
#[path = "tunnel/place.rs"]
mod place;
#[path = "tunnel/plot.rs"]
mod plot;
#[path = "tunnel/process.rs"]
mod process;
#[path = "tunnel/report.rs"]
mod report;
#[path = "tunnel/run.rs"]
mod run;
#[path = "tunnel/servers.rs"]
mod servers;

use std::io::Write;

use options::Options;
use peers::Lineup;
use place::Place;
use report::Report;
use serde_json::Value;

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;

/// This program as a child of its own, if the arguments ask for one. They are processes because a
/// thread cannot be moved into another namespace without privileges for all of them.
fn role(args: &[String]) -> Option<Result<()>> {
    let (name, rest) = args.split_first()?;
    match name.as_str() {
        load::FIRST_BYTE_ROLE => Some(load::first_byte_role(rest)),
        fair::ROLE => Some(fair::role(rest)),
        idle::ROLE => Some(idle::role(rest)),
        own::ROLE => Some(own::role(rest)),
        _ => None,
    }
}

/// What a child tells its parent.
fn print(answer: &Value) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = role(&args) {
        return role;
    }
    let options = Options::parse(args)?;
    process::watch_interrupts()?;
    machine::raise_descriptors()?;
    let scratch = tempfile::tempdir()?;
    let lineup = Lineup::found(&options)?;
    let mut places = vec![Place::loopback()];
    if options.veth {
        places.push(Place::veth()?);
    }
    let mut report = Report::begin(&options, &lineup);
    for place in &places {
        let results = run::all(place, &options, &lineup, scratch.path())?;
        report.add(place.name, results);
    }
    report.end();
    if let Some(path) = &options.svg {
        std::fs::write(path, plot::svg(&report))?;
    }
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", report.json())?;
    } else {
        report.print(&mut out)?;
    }
    report.verdict()
}
