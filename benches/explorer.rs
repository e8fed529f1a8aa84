//! `cargo bench --bench explorer [-- --networks 1000 --dead 900] [--http] [--check] [--json]`
//!
//! One pass of the explorer's crawler over many networks, most of which are dead: how long it
//! takes, the peak of its resident set with the daemon's allocator, the most sockets it has open at
//! once, and how many descriptors it has left over. The living networks are real nodes with a
//! worker each, in a process of their own; the addresses of the dead ones are a socket that never
//! answers. `--http` measures something else instead: how long clients wait for the lists of an
//! explorer with 10,000 networks that is crawling. `--check` ends with 1 if a goal is missed or a
//! state is wrong.

#[path = "explorer/http.rs"]
mod http;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use warren::clock::Clock;
use warren::mesh::keys::Secret;
use warren::mesh::networks::{Held, NewNetwork, State};
use warren::node::ExposeSpec;
use warren::service::crawl::{Pass, Settings};
use warren::{Crawler, NetworkDb, Node, Token};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LOOPBACK: &str = "127.0.0.1:0";
/// Goals for 1,000 networks.
const PASS_LIMIT: Duration = Duration::from_secs(120);
const PEAK_LIMIT_MB: u64 = 300;

struct Options {
    networks: u32,
    dead: u32,
    check: bool,
    json: bool,
    http: bool,
    /// Be the nodes of so many networks.
    serve: Option<u32>,
}

fn main() -> Result<()> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match options.serve {
        Some(count) => runtime.block_on(serve(count)),
        None if options.http => runtime.block_on(lists(&options)),
        None => runtime.block_on(measure(&options)),
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        networks: 1_000,
        dead: 900,
        check: false,
        json: false,
        http: false,
        serve: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number =
            || -> Result<u32> { Ok(args.next().ok_or("a number is missing")?.parse()?) };
        match arg.as_str() {
            "--networks" => options.networks = number()?,
            "--dead" => options.dead = number()?,
            "--serve" => options.serve = Some(number()?),
            "--check" => options.check = true,
            "--json" => options.json = true,
            "--http" => options.http = true,
            "--bench" => {}
            other => return Err(format!("{other} is not known").into()),
        }
    }
    if options.dead > options.networks {
        return Err("there are more dead networks than networks".into());
    }
    Ok(options)
}

fn token(n: u32) -> Result<Token> {
    let mut secret = [1; 32];
    secret[..4].copy_from_slice(&n.to_be_bytes());
    Ok(Token::new(Secret::new(secret), 9_000, 360)?)
}

/// One node for each network, until standard input ends.
async fn serve(count: u32) -> Result<()> {
    let server = std::net::TcpListener::bind(LOOPBACK)?;
    let home = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for n in 0..count {
        let node = Node::builder()
            .data_dir(home.path().join(n.to_string()))
            .token(token(n)?)
            .listen(vec![LOOPBACK.parse()?])
            .admin_socket(false)
            .start()
            .await?;
        let target = server.local_addr()?.into();
        node.expose(ExposeSpec::new("worker".parse()?, target), false)
            .await?;
        let addr = *node.udp_addrs().first().ok_or("a node without address")?;
        writeln!(std::io::stdout(), "{addr}")?;
        nodes.push(node);
    }
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// The process with the nodes. It ends when this is dropped.
struct Living {
    child: Child,
    addrs: Vec<SocketAddr>,
}

impl Living {
    fn start(count: u32) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut living = Self {
            child,
            addrs: Vec::new(),
        };
        for line in BufReader::new(out).lines().take(count as usize) {
            living.addrs.push(line?.parse()?);
        }
        Ok(living)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has ended, or it cannot be ended.
        let _ = self.child.wait();
    }
}

async fn lists(options: &Options) -> Result<()> {
    let home = tempfile::tempdir()?;
    let report = http::measure(home.path()).await?;
    tell(options, &report)?;
    let p99 = ["networks_p99_ms", "api_p99_ms"].map(|name| report[name].as_f64());
    let reached = |p99: &Option<f64>| p99.is_some_and(|ms| ms <= http::P99_LIMIT_MS);
    match options.check && !p99.iter().all(reached) {
        true => Err(format!("more than {} ms", http::P99_LIMIT_MS).into()),
        false => Ok(()),
    }
}

fn tell(options: &Options, report: &serde_json::Value) -> Result<()> {
    let text = match options.json {
        true => report.to_string(),
        false => format!("{report:#}"),
    };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

async fn measure(options: &Options) -> Result<()> {
    let living = options.networks - options.dead;
    let nodes = Living::start(living)?;
    if nodes.addrs.len() != living as usize {
        return Err("not every node started".into());
    }
    let silent = UdpSocket::bind(LOOPBACK)?;
    let home = tempfile::tempdir()?;
    let (db, clock) = fill(options, &nodes.addrs, silent.local_addr()?, &home).await?;
    let settings = Settings {
        allow_private: true,
        ..Settings::default()
    };
    let crawler = Crawler::open(home.path(), db.clone(), clock, settings)?;

    let before = descriptors()?;
    let before_mb = peak_mb()?;
    let (started, stop) = (Instant::now(), CancellationToken::new());
    let mut most = before;
    let pass = {
        let mut look = |_| most = most.max(descriptors().unwrap_or(0));
        crawler.pass(&stop, &mut look).await?
    };
    let took = started.elapsed();
    // Tasks of the sockets end after those who used them.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = descriptors()?.saturating_sub(before);
    let peak = peak_mb()?;
    let report = json!({
        "networks": options.networks,
        "dead": options.dead,
        "pass_s": took.as_secs_f64(),
        "peak_rss_mb": peak,
        "peak_rss_before_mb": before_mb,
        "descriptors_most": most.saturating_sub(before),
        "descriptors_left": left,
        "active": pass.active,
        "missed": pass.missed,
    });
    tell(options, &report)?;
    let missed = missed_goals(options, &pass, &db, took, peak, left);
    db.close().await?;
    match options.check && !missed.is_empty() {
        true => Err(missed.join("; ").into()),
        false => Ok(()),
    }
}

async fn fill(
    options: &Options,
    living: &[SocketAddr],
    silent: SocketAddr,
    home: &TempDir,
) -> Result<(NetworkDb, Clock)> {
    let clock = Clock::default();
    let now = clock.now().unix_ms;
    let db = NetworkDb::open(home.path(), Held::default(), now)?;
    for n in 0..options.networks {
        let at = living.get(n as usize).copied().unwrap_or(silent);
        let new = NewNetwork {
            name: format!("network {n}"),
            bootstrap: vec![at.into()],
            ..NewNetwork::new(token(n)?)
        };
        db.add(new, now).await?;
    }
    Ok((db, clock))
}

fn missed_goals(
    options: &Options,
    pass: &Pass,
    db: &NetworkDb,
    took: Duration,
    peak_mb: u64,
    left: usize,
) -> Vec<String> {
    let living = (options.networks - options.dead) as usize;
    let networks = db.networks();
    let active = networks.iter().filter(|row| row.state == State::Active);
    let mut missed = Vec::new();
    if active.count() != living || pass.missed != options.dead as usize {
        missed.push(format!("wrong states: {pass:?}"));
    }
    if took > PASS_LIMIT {
        missed.push(format!("the pass took {took:?}"));
    }
    if peak_mb > PEAK_LIMIT_MB {
        missed.push(format!("{peak_mb} MB"));
    }
    if left > 0 {
        missed.push(format!("{left} descriptors are left"));
    }
    missed
}

fn descriptors() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Peak of this process's resident set.
fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no VmHWM")?.parse::<u64>()? / 1000)
}
