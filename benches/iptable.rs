//! `cargo bench --bench iptable [-- --json]`
//!
//! 100,000 machines in P2PRC's current form: imported from a file into a table that is empty and
//! into one that has them all, written again, and listed as JSON. Each is what the command does,
//! in one process: read, checked, decided and stored in one transaction. Memory is the peak of
//! this process's resident set, with the daemon's allocator, the file's text included.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use warren::IpTable;
use warren::api::ImportOptions;
use warren::api::shapes::write_machines;
use warren::formats::iptable::{Profile, write};
use warren::mesh::ip_table::{DEFAULT_PORT, Host, Latency, Place, Row, Sort, Source};

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
    let data = dir.path().join("data");
    let table = IpTable::open(&data, 1)?;
    let first = runtime.block_on(import(&file, &table))?;
    let peak_import_mb = peak_mb()?;
    let second = runtime.block_on(import(&file, &table))?;
    let peak_again_mb = peak_mb()?;
    let export = export(&table, &dir.path().join("again.json"))?;
    if std::fs::read(dir.path().join("again.json"))? != std::fs::read(&file)? {
        return Err("what was exported is not what was imported".into());
    }
    let list = list(&table)?;
    runtime.block_on(table.close())?;
    drop(table);
    let started = Instant::now();
    let table = IpTable::open(&data, 1)?;
    let open = started.elapsed();
    if table.rows().len() != MACHINES as usize {
        return Err("not every machine was stored".into());
    }
    let report = json!({
        "machines": MACHINES,
        "file_mb": std::fs::metadata(&file)?.len() / 1_000_000,
        "import_s": first.as_secs_f64(),
        "import_again_s": second.as_secs_f64(),
        "export_s": export.as_secs_f64(),
        "list_json_s": list.as_secs_f64(),
        "open_s": open.as_secs_f64(),
        "peak_rss_mb": peak_import_mb,
        "peak_rss_again_mb": peak_again_mb,
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

async fn import(file: &std::path::Path, table: &IpTable) -> Result<Duration> {
    let started = Instant::now();
    let text = std::fs::read(file)?;
    table.import(text, ImportOptions::default()).await?;
    Ok(started.elapsed())
}

fn export(table: &IpTable, file: &std::path::Path) -> Result<Duration> {
    let started = Instant::now();
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    write(&mut out, table.rows(), Profile::Current)?;
    out.flush()?;
    Ok(started.elapsed())
}

fn list(table: &IpTable) -> Result<Duration> {
    let started = Instant::now();
    let mut rows = table.rows();
    Sort::Latency.sort(&mut rows);
    write_machines(&mut BufWriter::new(std::io::sink()), rows)?;
    Ok(started.elapsed())
}

/// Peak of this process's resident set.
fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no VmHWM")?.parse::<u64>()? / 1000)
}
