//! `cargo bench --bench mesh [-- --json] [-- --rounds N] [-- --idle SECONDS]`
//!
//! What a user of a small mesh feels, measured with real processes of the release binary on
//! loopback: how long from starting a second node to the first byte through the service it has
//! just exposed, and what three idle nodes cost in memory and processor time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;

const BINARY: &str = env!("CARGO_BIN_EXE_warren");
/// A mesh that does not come up in this time is a failure, not a slow result.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries for the first byte.
const RETRY: Duration = Duration::from_millis(1);
/// Links, records and MTU probes have settled after this.
const SETTLE: Duration = Duration::from_secs(5);

struct Options {
    json: bool,
    rounds: usize,
    idle: Duration,
}

fn main() -> Result<()> {
    let options = options()?;
    let scratch = tempfile::tempdir()?;
    let server = serve_hello()?;
    let first_byte = first_byte(scratch.path(), server, options.rounds)?;
    let idle = idle(scratch.path(), server, options.idle)?;
    let report = json!({ "first_byte_ms": first_byte, "idle": idle });
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{report}")?;
    } else {
        print_table(&mut out, &report)?;
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        json: false,
        rounds: 11,
        idle: Duration::from_secs(30),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            Ok(args
                .next()
                .ok_or_else(|| format!("{arg} takes a number"))?
                .parse()?)
        };
        match arg.as_str() {
            "--json" => options.json = true,
            "--rounds" => options.rounds = usize::try_from(number()?)?.max(1),
            "--idle" => options.idle = Duration::from_secs(number()?.max(1)),
            // What cargo itself passes.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(options)
}

/// A daemon of the binary under test; killed when dropped.
struct Daemon {
    child: Child,
    ready: Value,
}

impl Daemon {
    fn start(dir: &Path, token: &str, args: &[&str]) -> Result<Self> {
        let mut child = Command::new(BINARY)
            .args([
                "up",
                "--print-ready",
                "--no-mdns",
                "--http",
                "off",
                "--listen",
                "127.0.0.1:0",
            ])
            .arg("--data-dir")
            .arg(dir)
            .args(args)
            .env("WARREN_TOKEN", token)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child
            .stdout
            .take()
            .ok_or("a daemon without standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let ready = serde_json::from_str(&line);
        let mut daemon = Self {
            child,
            ready: Value::Null,
        };
        daemon.ready = ready.map_err(|e| format!("no ready line from {}: {e}", dir.display()))?;
        Ok(daemon)
    }

    fn peer(&self) -> Result<String> {
        let id = self.ready["node_id"].as_str().ok_or("no node id")?;
        let udp = self.ready["udp"][0].as_str().ok_or("no UDP address")?;
        Ok(format!("{id}@{udp}"))
    }

    fn ingress(&self) -> Result<SocketAddr> {
        Ok(self.ready["ingress"][0]["listen"]
            .as_str()
            .ok_or("no ingress")?
            .parse()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new_token() -> Result<String> {
    let out = Command::new(BINARY).args(["token", "new"]).output()?;
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

/// A server that answers every connection with one line and closes.
fn serve_hello() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that has gone is not this server's concern.
            let _ = (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        }
    });
    Ok(addr)
}

/// From `exec` of the second node to the first byte of its server's answer at the first node.
fn first_byte(scratch: &Path, server: SocketAddr, rounds: usize) -> Result<Value> {
    let mut took = Vec::new();
    for round in 0..rounds {
        let token = new_token()?;
        let dir = |name: &str| scratch.join(format!("{round}-{name}"));
        let first = Daemon::start(&dir("a"), &token, &["--ingress", "hello=127.0.0.1:0"])?;
        let (ingress, peer) = (first.ingress()?, first.peer()?);
        let expose = format!("hello={server}");
        let start = Instant::now();
        let second = std::thread::spawn({
            let dir = dir("b");
            move || {
                Daemon::start(&dir, &token, &["--connect", &peer, "--expose", &expose])
                    .map_err(|error| error.to_string())
            }
        });
        while !answers(ingress)? {
            if start.elapsed() > PATIENCE {
                return Err("the second node's service never answered".into());
            }
            std::thread::sleep(RETRY);
        }
        took.push(start.elapsed().as_secs_f64() * 1000.0);
        drop(
            second
                .join()
                .map_err(|_| "the second node's thread panicked")??,
        );
    }
    took.sort_by(f64::total_cmp);
    Ok(json!({
        "median": took[took.len() / 2],
        "min": took[0],
        "max": took[took.len() - 1],
        "rounds": took.len(),
    }))
}

/// Whether a request through the ingress gets the server's answer; 503 means not yet.
fn answers(ingress: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(ingress)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    Ok(stream.read_exact(&mut status).is_ok() && status.ends_with(b"200"))
}

/// Memory and processor time of three nodes that do nothing.
fn idle(scratch: &Path, server: SocketAddr, span: Duration) -> Result<Value> {
    let token = new_token()?;
    let expose = format!("hello={server}");
    let dir = |name: &str| scratch.join(format!("idle-{name}"));
    let first = Daemon::start(&dir("a"), &token, &["--expose", &expose])?;
    let peer = first.peer()?;
    let second = Daemon::start(
        &dir("b"),
        &token,
        &["--connect", &peer, "--expose", &expose],
    )?;
    let third = Daemon::start(
        &dir("c"),
        &token,
        &["--connect", &peer, "--ingress", "hello=127.0.0.1:0"],
    )?;
    std::thread::sleep(SETTLE);
    let nodes = [&first, &second, &third];
    let before = cpu_times(&nodes)?;
    std::thread::sleep(span);
    let after = cpu_times(&nodes)?;
    let percent: Vec<f64> = before
        .iter()
        .zip(&after)
        .map(|(b, a)| (a - b) / span.as_secs_f64() * 100.0)
        .collect();
    let rss = nodes
        .iter()
        .map(|node| rss_mib(node.child.id()))
        .collect::<Result<Vec<_>>>()?;
    let largest = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    Ok(json!({
        "nodes": nodes.len(),
        "seconds": span.as_secs(),
        "cpu_percent": largest(&percent),
        "rss_mib": largest(&rss),
    }))
}

fn cpu_times(nodes: &[&Daemon]) -> Result<Vec<f64>> {
    nodes
        .iter()
        .map(|node| cpu_seconds(node.child.id()))
        .collect()
}

/// Time on a processor in nanoseconds is the first field of `schedstat` (proc(5)), of every thread.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let spent: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
        total += spent / 1e9;
    }
    Ok(total)
}

fn rss_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .ok_or("no number in VmRSS")?
        .parse()?;
    Ok(kib / 1024.0)
}

fn print_table(out: &mut impl Write, report: &Value) -> Result<()> {
    let (first, idle) = (&report["first_byte_ms"], &report["idle"]);
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    writeln!(
        out,
        "second node started to first byte through its service: {:.0} ms \
         (median of {}; {:.0} to {:.0})",
        number(&first["median"]),
        first["rounds"],
        number(&first["min"]),
        number(&first["max"]),
    )?;
    writeln!(
        out,
        "{} idle nodes over {} s, the most expensive one: {:.2} % of a core, {:.1} MiB resident",
        idle["nodes"],
        idle["seconds"],
        number(&idle["cpu_percent"]),
        number(&idle["rss_mib"]),
    )?;
    Ok(())
}
