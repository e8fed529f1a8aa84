//! Small questions and answers, each over a connection that stays. Both halves are processes of
//! their own, for a thread cannot be moved into another namespace alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;

const QUESTION: usize = 64;
const ANSWER: usize = 1024;
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than anybody waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// With these arguments the benchmark is one of the halves: `answer ADDR` or `ask ADDR SECONDS`.
pub(crate) fn role(args: &[String]) -> Result<Option<Value>> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["answer", addr] => answer(addr.parse()?).map(Some),
        ["ask", addr, seconds] => {
            let time = Duration::from_secs(seconds.parse()?);
            ask(addr.parse()?, time).map(Some)
        }
        _ => Ok(None),
    }
}

/// Answers until it is killed.
fn answer(addr: SocketAddr) -> Result<Value> {
    let listener = TcpListener::bind(addr)?;
    for tcp in listener.incoming() {
        let mut tcp = tcp?;
        tcp.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut question = [0; QUESTION];
            while tcp.read_exact(&mut question).is_ok() && tcp.write_all(&[1; ANSWER]).is_ok() {}
        });
    }
    Ok(Value::Null)
}

/// How long answers took, in milliseconds.
fn ask(addr: SocketAddr, time: Duration) -> Result<Value> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| std::thread::spawn(move || one(addr, time).map_err(|error| error.to_string())))
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.join().map_err(|_| "a client panicked")??);
    }
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took.get(took.len() * part / 100).copied();
    Ok(json!({ "answers": took.len(), "p50_ms": at(50), "p99_ms": at(99) }))
}

fn one(addr: SocketAddr, time: Duration) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut tcp = TcpStream::connect(addr)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    let mut took = Vec::new();
    let mut answer = [0; ANSWER];
    while start.elapsed() < time {
        let asked = Instant::now();
        tcp.write_all(&[0; QUESTION])?;
        let answered = tcp.read_exact(&mut answer);
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        if answered.is_err() {
            // It counts as long as it was waited for.
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(took)
}
