//! `cargo bench --bench iptable [-- --json]`
//!
//! An import of 100,000 machines in P2PRC's current form, as a file: read, checked, and stored in
//! one transaction, into a table that is empty and into one that is full. Memory is the peak of
//! this process's resident set, with the daemon's allocator, the file's text included.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use warren::formats::iptable::{Options, Profile, read, write};
use warren::mesh::ip_table::{DEFAULT_PORT, Host, Latency, Place, Row, Source};
use warren::store::{Change, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MACHINES: u32 = 100_000;

fn main() -> Result<()> {
    let json = std::env::args().any(|arg| arg == "--json");
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("ip_table.json");
    make(&file)?;
    let before_mb = peak_mb()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (store, _) = Store::open(&dir.path().join("data"), 1)?;
    let first = runtime.block_on(import(&file, &store))?;
    let second = runtime.block_on(import(&file, &store))?;
    let peak_mb = peak_mb()?;
    runtime.block_on(store.close())?;
    let started = Instant::now();
    let (_store, loaded) = Store::open(&dir.path().join("data"), 1)?;
    let open = started.elapsed();
    if loaded.ip_table.len() != MACHINES as usize {
        return Err("not every machine was stored".into());
    }
    let report = json!({
        "machines": MACHINES,
        "file_mb": std::fs::metadata(&file)?.len() / 1_000_000,
        "import_s": first.as_secs_f64(),
        "import_again_s": second.as_secs_f64(),
        "open_s": open.as_secs_f64(),
        "peak_rss_mb": peak_mb,
        "peak_rss_before_mb": before_mb,
    });
    let text = match json {
        true => report.to_string(),
        false => format!("{report:#}"),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Writes the file row by row.
fn make(file: &std::path::Path) -> Result<()> {
    let port = std::num::NonZeroU16::new(DEFAULT_PORT).ok_or("port 0")?;
    let row = |n: u32| {
        let ip = std::net::Ipv4Addr::from(0x0A00_0000 + n);
        let mut row = Row::new(Place::new(Host::V4(ip), port), Source::Imported);
        row.name = format!("node-{n:06}");
        row.stated.latency = Latency::from_ns(1_000_000 + u64::from(n));
        row.carried.machine_username = "ann".to_owned();
        row
    };
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    write(&mut out, (0..MACHINES).map(row), Profile::Current)?;
    Ok(())
}

async fn import(file: &std::path::Path, store: &Store) -> Result<Duration> {
    let started = Instant::now();
    let text = std::fs::read(file)?;
    let document = read(&text, Options::default())?;
    drop(text);
    store
        .commit(vec![Change::PutMachines(
            document.rows.into_iter().map(Into::into).collect(),
        )])
        .await?;
    Ok(started.elapsed())
}

/// Peak of this process's resident set.
fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no VmHWM")?.parse::<u64>()? / 1000)
}
