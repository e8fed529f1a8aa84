//! `cargo bench --bench path [-- --json] [-- --rounds N] [-- --seconds N] [-- --only LIST]`
//!
//! What a long or lossy path does to a tunnel, beside what it does to TCP: two network namespaces,
//! and between them nothing but this program, which takes packets from the TUN device of one and
//! gives them to that of the other: later, not all of them, and some of them out of order.
//!
//! | option | meaning |
//! |---|---|
//! | `--rounds N` | how often everything runs; default 3, and medians are shown |
//! | `--seconds N` | how long each transfer takes; default 10 |
//! | `--only LIST` | some of `lossy`, `long`, `mild`, `near` |
//! | `--json` | one document with every value instead of the table |
//!
//! Every path has a bottleneck with a drop-tail queue of 50 ms. Transfers are iperf3's: straight
//! over the path by TCP with CUBIC, and through warren with its defaults. Beside those of one
//! stream, eight clients ask a small question every 20 ms, over the same way each. On the clean long path
//! a tunnel's transfer also runs beside one of TCP, so that both shares show.
//!
//! It needs root, `ip` and iperf3. Children, namespaces and files are removed when it ends, also by
//! Ctrl-C or SIGTERM.

#[path = "path/ask.rs"]
mod ask;
// The bench of the mesh uses the rest of it.
#[allow(dead_code)]
#[path = "mesh/daemon.rs"]
mod daemon;
#[path = "path/impairer.rs"]
mod impairer;
#[path = "path/line.rs"]
mod line;
#[path = "tunnel/namespace.rs"]
mod namespace;
#[path = "path/options.rs"]
mod options;
// The tunnel's bench uses the rest of it.
#[allow(dead_code)]
#[path = "tunnel/process.rs"]
mod process;
#[path = "path/report.rs"]
mod report;
#[path = "path/run.rs"]
mod run;

use std::io::Write;
use std::time::Duration;

use options::Options;

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;

/// Whatever has not come up by then has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(answer) = ask::role(&args)? {
        writeln!(std::io::stdout(), "{answer}")?;
        return Ok(());
    }
    let options = Options::parse(args.into_iter())?;
    process::watch_interrupts()?;
    let scratch = tempfile::tempdir()?;
    let mut results = run::Results::default();
    for round in 0..options.rounds {
        for path in &options.paths {
            let dir = scratch.path().join(format!("{round}-{}", path.name));
            std::fs::create_dir_all(&dir)?;
            run::all(path, &options, round as u64, &dir, &mut results)?;
        }
    }
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", report::json(&options, &results))?;
    } else {
        report::print(&mut out, &options, &results)?;
    }
    Ok(())
}
