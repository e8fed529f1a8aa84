//! What a bulk stream does to small requests beside it, through the same tunnel.
//!
//! One connection asks for 1 KiB five hundred times a second: alone, beside an upload and beside
//! a download. The bulk stream is held to half of what it just did alone, so that the tunnel is
//! busy and not full: what is measured is how it shares, not how long its queue is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::own::{ANSWER_BYTES, ASK, BLOCK, DOWNLOAD, FULL, REQUEST_BYTES, UPLOAD, send};
use crate::place::Place;
use crate::{Result, print};

/// Between two requests.
const EVERY: Duration = Duration::from_millis(2);
/// A bulk stream runs this long before anything is measured beside it.
const RAMP: Duration = Duration::from_millis(500);
/// An answer that takes longer will not come.
const GRACE: Duration = Duration::from_secs(10);
/// With this argument the benchmark is the client.
pub(crate) const ROLE: &str = "fair-client";

/// How many times its `time` the client measures.
pub(crate) const PARTS: u32 = 5;
/// What it says.
pub(crate) const MEASURES: &[&str] = &[
    "idle_p50_ms",
    "idle_p99_ms",
    "up_p50_ms",
    "up_p99_ms",
    "up_ratio",
    "up_gbit_s",
    "up_full_gbit_s",
    "down_p50_ms",
    "down_p99_ms",
    "down_ratio",
    "down_gbit_s",
    "down_full_gbit_s",
];

/// This program again, at the near end, as the client.
pub(crate) fn client(
    place: &Place,
    entry: SocketAddr,
    time: Duration,
    dir: &Path,
) -> Result<Command> {
    let mut command = place.near.command(&std::env::current_exe()?, dir);
    let millis = time.as_millis().to_string();
    command.args([ROLE, &entry.to_string(), &millis]);
    Ok(command)
}

/// The client: prints a JSON object of [`MEASURES`].
pub(crate) fn role(args: &[String]) -> Result<()> {
    let [entry, millis] = args else {
        return Err("an address and milliseconds".into());
    };
    let entry = entry.parse()?;
    let time = Duration::from_millis(millis.parse()?);
    let alone = ask(entry, time)?;
    let mut found = json!({ "idle_p50_ms": alone.p50, "idle_p99_ms": alone.p99 });
    for way in [Way::Up, Way::Down] {
        let full = Bulk::start(entry, way, FULL)?
            .speed_while(time, || Ok(()))?
            .1;
        let half = Bulk::start(entry, way, full / 2.0)?;
        let (beside, held) = half.speed_while(Duration::ZERO, || ask(entry, time))?;
        let mut note =
            |name: &str, value: f64| found[format!("{}_{name}", way.name())] = value.into();
        note("gbit_s", held * 8.0 / 1e9);
        note("full_gbit_s", full * 8.0 / 1e9);
        note("p50_ms", beside.p50);
        note("p99_ms", beside.p99);
        note("ratio", beside.p99 / alone.p99);
    }
    print(&found)
}

/// How long answers took.
struct Took {
    p50: f64,
    p99: f64,
}

/// Asks for `time`, on one connection. A request that had to wait for the answer to the one
/// before took its time from when it was due.
fn ask(entry: SocketAddr, time: Duration) -> Result<Took> {
    let mut stream = connect(entry, ASK)?;
    let (request, mut answer) = ([b'?'; REQUEST_BYTES], [0; ANSWER_BYTES]);
    let mut took = Vec::new();
    let mut due = Instant::now();
    let end = due + time;
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let late = Instant::now();
        // Waking up takes the system some microseconds, which are not the tunnel's.
        let asked = if late.duration_since(due) < EVERY {
            late
        } else {
            due
        };
        stream.write_all(&request)?;
        stream.read_exact(&mut answer)?;
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        due += EVERY;
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took.get((took.len().max(1) - 1) * percent / 100);
    Ok(Took {
        p50: *at(50).ok_or("no time to ask")?,
        p99: *at(99).ok_or("no time to ask")?,
    })
}

fn connect(entry: SocketAddr, kind: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(entry)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GRACE))?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A bulk stream that runs until it is dropped.
struct Bulk {
    stream: TcpStream,
    /// Bytes that have arrived.
    arrived: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Bulk {
    /// `rate` in bytes a second.
    fn start(entry: SocketAddr, way: Way, rate: f64) -> Result<Self> {
        let kind = match way {
            Way::Up => UPLOAD,
            Way::Down => DOWNLOAD,
        };
        let mut bulk = Self {
            stream: connect(entry, kind)?,
            arrived: Arc::default(),
            over: Arc::default(),
            threads: Vec::new(),
        };
        let worth = match way {
            Way::Up => {
                let stream = bulk.stream.try_clone()?;
                // It ends with an error when the stream is shut down.
                bulk.threads
                    .push(std::thread::spawn(move || drop(send(&stream, rate))));
                BLOCK as u64
            }
            Way::Down => {
                bulk.stream.write_all(&rate.to_be_bytes())?;
                1
            }
        };
        let (mut stream, arrived) = (bulk.stream.try_clone()?, Arc::clone(&bulk.arrived));
        let over = Arc::clone(&bulk.over);
        bulk.threads.push(std::thread::spawn(move || {
            let mut piece = vec![0; BLOCK / 4];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                arrived.fetch_add(count as u64 * worth, Ordering::Relaxed);
            }
            over.store(true, Ordering::Relaxed);
        }));
        Ok(bulk)
    }

    /// What `beside` gives, and bytes a second while it ran, `at_least` so long.
    fn speed_while<T>(
        self,
        at_least: Duration,
        beside: impl FnOnce() -> Result<T>,
    ) -> Result<(T, f64)> {
        std::thread::sleep(RAMP);
        let (begun, before) = (Instant::now(), self.arrived.load(Ordering::Relaxed));
        let done = beside()?;
        std::thread::sleep(at_least.saturating_sub(begun.elapsed()));
        let (took, after) = (begun.elapsed(), self.arrived.load(Ordering::Relaxed));
        if self.over.load(Ordering::Relaxed) || after == before {
            return Err("the bulk stream stopped".into());
        }
        Ok((done, (after - before) as f64 / took.as_secs_f64()))
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        // Fails only if the other side was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
