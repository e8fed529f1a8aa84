//! What a user of a small mesh feels: how soon a newcomer serves, and what three idle nodes cost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Daemon, new_token};
use crate::{PATIENCE, Result, pause};

/// Between two tries for the first byte.
const RETRY: Duration = Duration::from_millis(1);
/// Links, records and MTU probes have settled after this.
const SETTLE: Duration = Duration::from_secs(5);

/// A server that answers every connection with one line and closes.
pub(crate) fn serve_hello() -> Result<SocketAddr> {
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
pub(crate) fn first_byte(scratch: &Path, server: SocketAddr, rounds: usize) -> Result<Value> {
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
pub(crate) fn idle(scratch: &Path, server: SocketAddr, span: Duration) -> Result<Value> {
    let token = new_token()?;
    let expose = format!("hello={server}");
    let dir = |name: &str| scratch.join(format!("idle-{name}"));
    let first = Daemon::start(&dir("a"), &token, &["--expose", &expose])?;
    let peer = first.peer()?;
    let joined = ["--connect", &peer];
    let second = ["--expose", &expose];
    let second = Daemon::start(&dir("b"), &token, &[joined, second].concat())?;
    let third = ["--ingress", "hello=127.0.0.1:0"];
    let third = Daemon::start(&dir("c"), &token, &[joined, third].concat())?;
    pause(SETTLE)?;
    let nodes = [first, second, third];
    let spent = || -> Result<Vec<f64>> {
        nodes
            .iter()
            .map(|node| node.process.cpu_seconds())
            .collect()
    };
    let before = spent()?;
    pause(span)?;
    let after = spent()?;
    let percent = before
        .iter()
        .zip(&after)
        .map(|(b, a)| (a - b) / span.as_secs_f64() * 100.0);
    let rss = nodes
        .iter()
        .map(|node| node.process.resident_mib())
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "nodes": nodes.len(),
        "seconds": span.as_secs(),
        "cpu_percent": percent.fold(0.0, f64::max),
        "rss_mib": rss.iter().copied().fold(0.0, f64::max),
    }))
}
