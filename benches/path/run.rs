//! What runs over a path, in which order.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path as Dir;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, new_token};
use crate::impairer::Path;
use crate::line::{FAR, Line, NEAR, ourselves};
use crate::options::Options;
use crate::process::{Process, output, required, until};
use crate::{PATIENCE, Result};

/// Ports in the namespaces, where nobody else is.
const BULK: u16 = 5_201;
const OTHER_BULK: u16 = 5_202;
const ASK: u16 = 5_203;
/// What a transfer may take beyond its time: what a slow tunnel has taken in is waited for.
const GRACE: Duration = Duration::from_secs(60);
/// Between the start of the tunnel and the first transfer: its probes are over.
const SETTLE: Duration = Duration::from_secs(2);
/// What a transfer is let begin with alone before another comes.
const ALONE: Duration = Duration::from_secs(3);

/// Values by path and measure, ascending.
#[derive(Default)]
pub(crate) struct Results(BTreeMap<(&'static str, &'static str), Vec<f64>>);

impl Results {
    fn add(&mut self, path: &Path, measure: &'static str, value: f64) {
        say(&format!("  {measure}: {value:.2}"));
        let values = self.0.entry((path.name, measure)).or_default();
        values.push(value);
        values.sort_by(f64::total_cmp);
    }

    /// The values of one measure, ascending.
    pub(crate) fn values(&self, path: &str, measure: &str) -> &[f64] {
        let found = self
            .all()
            .find(|(of, name, _)| (*of, *name) == (path, measure));
        found.map_or(&[], |(.., values)| values)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, &[f64])> {
        let all = self.0.iter();
        all.map(|((path, measure), values)| (*path, *measure, values.as_slice()))
    }
}

/// One transfer of iperf3's.
#[derive(Clone, Copy)]
struct Transfer {
    measure: &'static str,
    to: SocketAddr,
    streams: &'static str,
    down: bool,
    /// Measures of what is asked beside it, and where.
    asks: Option<([&'static str; 2], SocketAddr)>,
}

/// Everything over one path.
pub(crate) fn all(
    path: &'static Path,
    options: &Options,
    seed: u64,
    dir: &Dir,
    results: &mut Results,
) -> Result<()> {
    say(&format!("{}:", path.name));
    let line = Line::new(path, seed)?;
    let _servers = servers(&line, dir)?;
    let tunnel = Tunnel::start(&line, dir)?;
    std::thread::sleep(SETTLE);
    for transfer in tunnel.transfers() {
        let asking = transfer.asks.map(|(measures, at)| {
            let mut command = ourselves(&line.near)?;
            let seconds = options.time.as_secs().to_string();
            command.args(["ask", &at.to_string(), &seconds]);
            let asking = begin(command, options.time + GRACE);
            Ok::<_, crate::Failure>((measures, asking))
        });
        let mbit_s = run(&line, &transfer, options.time)?;
        results.add(path, transfer.measure, mbit_s);
        if let Some(asking) = asking {
            let (measures, asking) = asking?;
            let answers: Value = serde_json::from_str(&end(asking)?)?;
            for (measure, key) in measures.into_iter().zip(["p50_ms", "p99_ms"]) {
                results.add(path, measure, number(&answers[key])?);
            }
        }
    }
    if path.name == "long" {
        beside(path, &line, &tunnel, options.time * 2, results)?;
    }
    let counts = &line.impairer.counts;
    for (measure, count) in [
        ("packets_passed", &counts.passed),
        ("packets_lost", &counts.lost),
        ("packets_reordered", &counts.reordered),
        ("packets_dropped", &counts.dropped),
    ] {
        results.add(path, measure, count.load(Ordering::Relaxed) as f64);
    }
    Ok(())
}

/// A transfer through the tunnel and one of TCP at once.
fn beside(
    path: &Path,
    line: &Line,
    tunnel: &Tunnel,
    time: Duration,
    results: &mut Results,
) -> Result<()> {
    let transfer = |measure, to| Transfer {
        measure,
        to,
        streams: "1",
        down: false,
        asks: None,
    };
    let tcp = transfer("beside_tcp", SocketAddr::from((FAR, OTHER_BULK)));
    let ours = transfer("beside_warren", tunnel.bulk);
    let command = iperf(line, &tcp, time)?;
    let first = begin(command, time + GRACE);
    std::thread::sleep(ALONE);
    let found = run(line, &ours, time - ALONE)?;
    results.add(path, ours.measure, found);
    let found = transferred(&end(first)?)?.ok_or("iperf3's server is busy")?;
    results.add(path, tcp.measure, found);
    Ok(())
}

/// What the path leads to.
fn servers(line: &Line, dir: &Dir) -> Result<Vec<Process>> {
    let mut all = Vec::new();
    for (name, port) in [("iperf3", BULK), ("iperf3-other", OTHER_BULK)] {
        let program = required("iperf3", "apt install iperf3")?;
        let mut command = line.far.command(&program);
        command.args(["-s", "-p", &port.to_string()]);
        all.push(Process::start(name, command, dir)?);
    }
    let mut command = ourselves(&line.far)?;
    command.args(["answer", &SocketAddr::from((FAR, ASK)).to_string()]);
    all.push(Process::start("answer", command, dir)?);
    Ok(all)
}

/// warren over the path.
struct Tunnel {
    bulk: SocketAddr,
    ask: SocketAddr,
    _nodes: [Daemon; 2],
}

impl Tunnel {
    fn start(line: &Line, dir: &Dir) -> Result<Self> {
        let token = new_token()?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (bulk, ask) = (local(BULK), local(ASK));
        let (listen, to) = (format!("{FAR}:0"), |port| format!("{FAR}:{port}"));
        let expose = [format!("bulk={}", to(BULK)), format!("ask={}", to(ASK))];
        let args = [
            "--listen", &listen, "--expose", &expose[0], "--expose", &expose[1],
        ];
        let far = Daemon::start_in(&line.far, &dir.join("far"), &token, &args)?;
        let ingress = [format!("bulk={bulk}"), format!("ask={ask}")];
        let (listen, peer) = (format!("{NEAR}:0"), far.peer()?);
        let args = [
            &["--listen", &listen, "--connect", &peer],
            &["--ingress", &ingress[0], "--ingress", &ingress[1]][..],
        ];
        let near = Daemon::start_in(&line.near, &dir.join("near"), &token, &args.concat())?;
        let tunnel = Self {
            bulk,
            ask,
            _nodes: [far, near],
        };
        until("an answer through the tunnel", PATIENCE, || {
            let mut command = ourselves(&line.near)?;
            command.args(["ask", &ask.to_string(), "0"]);
            let mut iperf = iperf(line, &tunnel.transfers()[1], Duration::from_secs(1))?;
            Ok(output(&mut command, PATIENCE)
                .and(output(&mut iperf, PATIENCE))
                .ok())
        })?;
        Ok(tunnel)
    }

    fn transfers(&self) -> [Transfer; 6] {
        let tcp = Transfer {
            measure: "tcp_1",
            to: SocketAddr::from((FAR, BULK)),
            streams: "1",
            down: false,
            asks: Some((["tcp_p50", "tcp_p99"], SocketAddr::from((FAR, ASK)))),
        };
        let (to, eight) = (self.bulk, "8");
        let asks = |measures| Some((measures, self.ask));
        [
            tcp,
            Transfer {
                measure: "up_1",
                to,
                asks: asks(["up_p50", "up_p99"]),
                ..tcp
            },
            Transfer {
                measure: "down_1",
                to,
                down: true,
                asks: asks(["down_p50", "down_p99"]),
                ..tcp
            },
            Transfer {
                measure: "tcp_8",
                streams: eight,
                asks: None,
                ..tcp
            },
            Transfer {
                measure: "up_8",
                to,
                streams: eight,
                asks: None,
                ..tcp
            },
            Transfer {
                measure: "down_8",
                to,
                streams: eight,
                asks: None,
                down: true,
            },
        ]
    }
}

/// Megabits per second that arrived.
fn run(line: &Line, transfer: &Transfer, time: Duration) -> Result<f64> {
    // The server may not have noticed yet that the client before this one is through.
    until("iperf3's server to be free", GRACE, || {
        transferred(&output(&mut iperf(line, transfer, time)?, time + GRACE)?)
    })
}

fn iperf(line: &Line, transfer: &Transfer, time: Duration) -> Result<Command> {
    let program = required("iperf3", "apt install iperf3")?;
    let mut command = line.near.command(&program);
    command
        .args(["-J", "-C", "cubic", "-P", transfer.streams])
        .args(["-c", &transfer.to.ip().to_string()])
        .args(["-p", &transfer.to.port().to_string()])
        .args(["-t", &time.as_secs().to_string()]);
    if transfer.down {
        command.arg("-R");
    }
    Ok(command)
}

/// The receiver's figure; nothing if the server serves somebody else.
fn transferred(text: &str) -> Result<Option<f64>> {
    let report: Value = serde_json::from_str(text)?;
    let error = report["error"].as_str().unwrap_or_default();
    // It says so, or hangs up.
    if error.contains("server is busy") || error.contains("control message") {
        return Ok(None);
    }
    let rate = number(&report["end"]["sum_received"]["bits_per_second"]);
    let rate = rate.map_err(|_| format!("iperf3 says: {error}"))?;
    Ok(Some(rate / 1e6))
}

type Running = std::thread::JoinHandle<std::result::Result<String, String>>;

/// Runs a program beside what follows.
fn begin(mut command: Command, limit: Duration) -> Running {
    std::thread::spawn(move || output(&mut command, limit).map_err(|error| error.to_string()))
}

fn end(running: Running) -> Result<String> {
    Ok(running.join().map_err(|_| "its thread panicked")??)
}

fn number(value: &Value) -> Result<f64> {
    let number = value.as_f64();
    number.ok_or_else(|| format!("not a number: {value}").into())
}

/// Progress, on standard error. Nobody may be listening.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
