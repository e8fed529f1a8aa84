//! `cargo bench --bench ledger [-- --json] [-- --rounds N]`
//!
//! What the full ledger costs: 65,536 durable entries of 1,000 authors, their signatures checked
//! before the clock starts. Memory is the growth of this process's resident set, with the
//! daemon's allocator, from an empty ledger to the full one while the entries are decoded out of
//! one buffer, as they come off a link; the buffer itself was written before and does not count.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use warren::mesh::entry::{Class, Draft, Entry, NetworkId};
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::ledger::{Ledger, MAX_ENTRIES, Merge};
use warren::mesh::name::Bucket;
use warren::mesh::time::Now;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;

const NETWORK: NetworkId = NetworkId([5; 16]);
const AUTHORS: usize = 1000;
/// About what a setting or a service record takes.
const VALUE_BYTES: usize = 100;
const BUCKETS: usize = 16;
const NOW: Now = Now {
    mono: Duration::ZERO,
    unix_ms: 1_700_000_000_000,
};

fn main() -> Result<()> {
    let (json, rounds) = options()?;
    let authors: Vec<Identity> = (0..AUTHORS).map(identity).collect();
    let me = identity(AUTHORS).id();
    // Reserved and touched: it must not grow while memory is measured.
    let mut wire = Vec::with_capacity(MAX_ENTRIES * (VALUE_BYTES + 256));
    for n in 0..MAX_ENTRIES {
        let signed = signed(&authors, n, 1)?;
        wire = postcard::to_extend(&signed, wire)?;
    }
    let (bytes_per_entry, ledger) = memory(&wire, me)?;
    drop(wire);
    let entries: Vec<Entry> = ledger.entries().cloned().collect();
    drop(ledger);
    let newer = (0..MAX_ENTRIES).map(|n| signed(&authors, n, 2));
    let newer = newer.collect::<Result<Vec<Entry>>>()?;
    // In the order in which they were written and not in that of the map.
    let mut fresh = entries;
    fresh.sort_by_key(|entry| entry.version);
    checked(&fresh)?;
    checked(&newer)?;
    let report = json!({
        "entries": MAX_ENTRIES,
        "authors": AUTHORS,
        "value_bytes": VALUE_BYTES,
        "memory_bytes_per_entry": bytes_per_entry,
        "per_second": rates(&fresh, &newer, me, rounds)?,
    });
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{report}")?;
    } else {
        print_table(&mut out, &report)?;
    }
    Ok(())
}

fn options() -> Result<(bool, usize)> {
    let (mut json, mut rounds) = (false, 5);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--rounds" => {
                let number = args.next().ok_or("--rounds takes a number")?;
                rounds = number.parse::<usize>()?.max(1);
            }
            // What cargo itself passes.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok((json, rounds))
}

fn identity(n: usize) -> Identity {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    Identity::from_seed(&seed)
}

/// The `n`th slot: every author has about 65, spread over the buckets.
fn signed(authors: &[Identity], n: usize, generation: u64) -> Result<Entry> {
    let draft = Draft {
        bucket: format!("bucket{}", n % BUCKETS).parse()?,
        key: format!("setting-{n}"),
        class: Class::Durable,
        version: generation << 32 | u64::try_from(n)?,
        boot: 0,
        deleted: false,
        value: vec![b'v'; VALUE_BYTES],
    };
    Ok(Entry::sign(NETWORK, &authors[n % authors.len()], draft)?)
}

fn checked(entries: &[Entry]) -> Result<()> {
    for entry in entries {
        entry.verify(NETWORK)?;
    }
    Ok(())
}

/// Bytes per entry, the value not counted, and the full ledger.
fn memory(wire: &[u8], me: NodeId) -> Result<(f64, Ledger)> {
    let before = resident_bytes()?;
    let mut ledger = Ledger::new(NETWORK, me);
    let mut rest = wire;
    while !rest.is_empty() {
        let (entry, after) = postcard::take_from_bytes::<Entry>(rest)?;
        entry.verify(NETWORK)?;
        taken(&ledger.merge(entry, NOW))?;
        rest = after;
    }
    let grown = resident_bytes()?.saturating_sub(before);
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let each = grown as f64 / MAX_ENTRIES as f64 - VALUE_BYTES as f64;
    Ok((each, ledger))
}

fn taken(outcome: &Merge) -> Result<()> {
    match outcome {
        Merge::Taken { evicted } if evicted.is_empty() => Ok(()),
        other => Err(format!("an entry was not simply taken: {other:?}").into()),
    }
}

fn resident_bytes() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).ok_or("no number in VmRSS")?;
    Ok(kib.parse::<usize>()? * 1024)
}

/// The best round of each: others are what else the machine did.
fn rates(fresh: &[Entry], newer: &[Entry], me: NodeId, rounds: usize) -> Result<Value> {
    let mut best = [f64::INFINITY; 4];
    for _ in 0..rounds {
        let mut ledger = Ledger::new(NETWORK, me);
        let spans = [
            timed(|| {
                fresh
                    .iter()
                    .try_for_each(|e| taken(&ledger.merge(e.clone(), NOW)))
            })?,
            timed(|| known(&ledger, fresh))?,
            timed(|| {
                newer
                    .iter()
                    .try_for_each(|e| taken(&ledger.merge(e.clone(), NOW)))
            })?,
            timed(|| scan(&ledger))?,
        ];
        for (best, span) in best.iter_mut().zip(spans) {
            *best = best.min(span);
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let [fresh, known, newer, scanned] = best.map(|span| MAX_ENTRIES as f64 / span);
    Ok(json!({
        "merge": fresh,
        "check_known": known,
        "replace": newer,
        "scan_buckets": scanned,
    }))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// What every further copy of an entry costs.
fn known(ledger: &Ledger, entries: &[Entry]) -> Result<()> {
    let all = entries
        .iter()
        .all(|entry| ledger.check(entry, NOW) == Merge::Known);
    if all {
        Ok(())
    } else {
        Err("an entry was not known".into())
    }
}

fn scan(ledger: &Ledger) -> Result<()> {
    let mut seen = 0;
    for n in 0..BUCKETS {
        let bucket: Bucket = format!("bucket{n}").parse()?;
        seen += ledger
            .bucket(&bucket)
            .filter(|entry| !entry.deleted)
            .count();
    }
    if seen == MAX_ENTRIES {
        Ok(())
    } else {
        Err("a scan missed entries".into())
    }
}

fn print_table(out: &mut impl Write, report: &Value) -> Result<()> {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    writeln!(
        out,
        "{} entries of {} authors, values of {} bytes, signatures checked before",
        report["entries"], report["authors"], report["value_bytes"],
    )?;
    for (what, name) in [
        ("merged into an empty ledger", "merge"),
        ("found known", "check_known"),
        ("replaced by newer ones", "replace"),
        ("read bucket by bucket", "scan_buckets"),
    ] {
        let rate = number(&report["per_second"][name]);
        writeln!(out, "{what:<28} {rate:>12.0} entries/s")?;
    }
    let memory = number(&report["memory_bytes_per_entry"]);
    writeln!(
        out,
        "{:<28} {memory:>12.0} bytes per entry beside its value",
        "resident"
    )?;
    Ok(())
}
