//! `--http`: how long the explorer's clients wait for its lists while it crawls.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use warren::NetworkDb;
use warren::clock::Clock;
use warren::mesh::networks::{Cluster, ClusterKind, Held, NewNetwork};

use crate::{LOOPBACK, Result, token};

/// Rows, and how many of them have workers.
const ROWS: u32 = 10_000;
const LISTED: u32 = 200;
/// What is asked for in turn.
const PATHS: [&str; 2] = ["/networks", "/api/v1/networks?limit=50"];
const REQUESTS_PER_S: u32 = 500;
const SECONDS: u32 = 20;
const CLIENTS: u32 = 25;
/// 99 of 100 answers are there within this.
pub(crate) const P99_LIMIT_MS: f64 = 20.0;

/// One answer: which path, when it was due, and how long it took from then.
type Sample = (usize, Duration);

/// Fills a data directory, serves it, and asks at a steady pace whatever the answers take.
pub(crate) async fn measure(scratch: &Path) -> Result<Value> {
    let silent = UdpSocket::bind(LOOPBACK)?;
    fill(scratch, silent.local_addr()?).await?;
    let server = Server::start(scratch)?;
    // The first answer to each path is made; that the crawl goes on, its packets say.
    ask_all(server.at, REQUESTS_PER_S).await?;
    silent.set_nonblocking(true)?;
    let looked = || std::iter::from_fn(|| silent.recv(&mut [0; 2048]).ok()).count();
    looked();
    let samples = ask_all(server.at, REQUESTS_PER_S * SECONDS).await?;
    let packets = looked();
    if packets == 0 {
        return Err("nothing was crawled meanwhile".into());
    }
    let p99 = |path: usize| {
        let mut took: Vec<Duration> = samples
            .iter()
            .filter(|s| s.0 == path)
            .map(|s| s.1)
            .collect();
        took.sort_unstable();
        let rank = (took.len() * 99).div_ceil(100).saturating_sub(1);
        took.get(rank).map(|took| took.as_secs_f64() * 1_000.0)
    };
    Ok(json!({
        "rows": ROWS,
        "listed": LISTED,
        "requests_per_s": REQUESTS_PER_S,
        "answers": samples.len(),
        "packets_of_the_crawl": packets,
        "networks_p99_ms": p99(0),
        "api_p99_ms": p99(1),
    }))
}

async fn fill(dir: &Path, silent: SocketAddr) -> Result<()> {
    let now = Clock::default().now().unix_ms;
    let db = NetworkDb::open(dir, Held::default(), now)?;
    for n in 0..ROWS {
        let clusters = (n < LISTED).then(|| {
            vec![Cluster {
                kind: ClusterKind::Federated,
                network_id: format!("id_{n}"),
                workers: (0..5).map(|worker| format!("host-{n}-{worker}")).collect(),
            }]
        });
        let new = NewNetwork {
            name: format!("network {n}"),
            description: "What somebody says of a network, in a sentence or two.".to_owned(),
            bootstrap: vec![silent.into()],
            publish_token: true,
            clusters,
            ..NewNetwork::new(token(n)?)
        };
        db.add(new, now).await?;
    }
    Ok(db.close().await?)
}

struct Server {
    child: Child,
    at: SocketAddr,
}

impl Server {
    fn start(dir: &Path) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_warren"))
            .args(["explorer", "serve", "--with-sync", "--allow-private"])
            .args(["--address", LOOPBACK, "--print-ready", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut ready = String::new();
        BufReader::new(out).read_line(&mut ready)?;
        let ready: Value = serde_json::from_str(&ready)?;
        let at = ready["explorer"].as_str().ok_or("no address")?.parse()?;
        Ok(Self { child, at })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, or it cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `count` requests at [`REQUESTS_PER_S`]: each is due at its own time, and waits for the one
/// before it on its connection at its own cost.
async fn ask_all(at: SocketAddr, count: u32) -> Result<Vec<Sample>> {
    let start = Instant::now() + Duration::from_millis(100);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let asked = (client..count).step_by(CLIENTS as usize);
            let told = ask(at, start, asked.collect()).await;
            told.map_err(|error| error.to_string())
        });
    }
    let mut samples = Vec::new();
    while let Some(told) = clients.join_next().await {
        samples.extend(told??);
    }
    Ok(samples)
}

async fn ask(at: SocketAddr, start: Instant, requests: Vec<u32>) -> Result<Vec<Sample>> {
    let mut tcp = TcpStream::connect(at).await?;
    tcp.set_nodelay(true)?;
    let (mut samples, mut body) = (Vec::new(), Vec::new());
    for request in requests {
        let due = start + Duration::from_secs(1) * request / REQUESTS_PER_S;
        // Each client asks for each path.
        let path = (request / CLIENTS) as usize % PATHS.len();
        sleep_until(due).await;
        let head = format!("GET {} HTTP/1.1\r\nhost: {at}\r\n\r\n", PATHS[path]);
        tcp.write_all(head.as_bytes()).await?;
        answer(&mut tcp, &mut body).await?;
        samples.push((path, due.elapsed()));
    }
    Ok(samples)
}

/// Reads one answer to its end.
async fn answer(tcp: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clear();
    loop {
        if tcp.read_buf(bytes).await? == 0 {
            return Err("the connection was closed".into());
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(begin) = head.parse(bytes)? else {
            continue;
        };
        let named =
            |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
        let length = head.headers.iter().find(named).ok_or("no length")?;
        let length: usize = std::str::from_utf8(length.value)?.parse()?;
        if head.code != Some(200) {
            return Err(format!("status {:?}", head.code).into());
        }
        if bytes.len() >= begin + length {
            return Ok(());
        }
    }
}
