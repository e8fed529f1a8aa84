//! `cargo bench --bench measure [-- --json] [-- --check] [-- --rates 10,50,200] [-- --rounds N]`
//!
//! How true our measurements are. A limiter in user space, on a thread of its own, stands between
//! the measuring side and the measured one and lets through so many bytes a second each way; what
//! `warren bench` (over a link: UDP payload is limited) and the probe of a P2PRC server (over HTTP:
//! TCP payload is limited) find is set beside it. Headers are in what the limiter counts and not in
//! what is measured: a few percent less than the limit is what there is.
//!
//! Then a table of 1,000 servers is probed with the default settings, transfers included: a third
//! answers, a third is silent, a third refuses.
//!
//! `--check` ends with 1 if a measurement is off by more than 10 %, or the table takes over 15 s.

#[path = "measure/limiter.rs"]
mod limiter;
#[path = "measure/servers.rs"]
mod servers;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use warren::Node;
use warren::mesh::addr::{HostPort, PeerAddr};
use warren::mesh::measure::{Limits, Measurement};
use warren::mesh::probe::{Miss, Undecided, Verdict};
use warren::node::{BenchPhase, BenchProgress};
use warren::service::probe::{Settings, probe};

type Failure = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Failure>;

/// How far off a measurement may be.
const TOLERANCE: f64 = 0.1;
const ROWS: usize = 1_000;
const TABLE_LIMIT: Duration = Duration::from_secs(15);
const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Options {
    json: bool,
    check: bool,
    rates: Vec<f64>,
    rounds: usize,
}

fn main() -> Result<()> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(run(&options))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{report}")?;
    } else {
        print_table(&mut out, &report)?;
    }
    if options.check && report["holds"] != true {
        return Err("a figure is out of its bounds".into());
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        json: false,
        check: false,
        rates: vec![10.0, 50.0, 200.0],
        rounds: 3,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--json" => options.json = true,
            "--check" => options.check = true,
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--rates" => {
                let rates = value()?;
                let rates = rates.split(',').map(str::parse);
                options.rates = rates.collect::<std::result::Result<_, _>>()?;
            }
            // What cargo itself passes.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<Value> {
    let mut holds = true;
    let mut rows = Vec::new();
    for &rate in &options.rates {
        for over in ["link", "http"] {
            let (mut down, mut up) = (Vec::new(), Vec::new());
            for _ in 0..options.rounds {
                let (found_down, found_up) = match over {
                    "link" => over_link(rate).await?,
                    _ => over_http(rate).await?,
                };
                down.push(found_down);
                up.push(found_up);
            }
            let off = |found: &f64| (found / rate - 1.0).abs();
            let worst = down.iter().chain(&up).map(off).fold(0.0, f64::max);
            holds &= worst <= TOLERANCE;
            rows.push(json!({
                "over": over,
                "limit_mbps": rate,
                "download_mbps": down,
                "upload_mbps": up,
                "off_at_most": worst,
            }));
        }
    }
    let table = table().await?;
    holds &= table["seconds"]
        .as_f64()
        .is_some_and(|s| s <= TABLE_LIMIT.as_secs_f64());
    Ok(json!({ "rates": rows, "table": table, "holds": holds }))
}

fn limits() -> Limits {
    Limits {
        bytes: 256_000_000,
        time: Duration::from_secs(3),
    }
}

/// Two nodes, and the limiter between them.
async fn over_link(mbps: f64) -> Result<(f64, f64)> {
    let home = tempfile::tempdir()?;
    let start = |name: &str| {
        let builder = Node::builder().data_dir(home.path().join(name));
        builder.listen(vec![LOOPBACK])
    };
    let far = start("far").found(true).start().await?;
    let addr = *far.udp_addrs().first().ok_or("no UDP address")?;
    let limiter = limiter::udp(addr, mbps)?;
    // Without the addresses in the token: they lead around the limiter.
    let token = far.token().clone();
    let through = PeerAddr {
        id: Some(far.id()),
        at: HostPort::from(limiter.addr),
    };
    let near = start("near").token(token).connect(vec![through]);
    let near = near.start().await?;
    let both = |view: &std::sync::Arc<warren::mesh::view::View>| {
        view.nodes.values().filter(|node| node.online).count() == 2
    };
    near.watch().wait_for(both).await?;
    let (progress, _keep) = watch::channel(BenchProgress {
        phase: BenchPhase::RoundTrip,
        done: 0,
        of: 0,
    });
    let found = near.bench(far.id(), limits(), &progress).await?;
    let went = limiter.bytes();
    near.abort().await;
    far.abort().await;
    let moved = found.download_bytes.unwrap_or(0) + found.upload_bytes.unwrap_or(0);
    if went < moved {
        return Err("the link went around the limiter".into());
    }
    let unknown = "a direction was not measured";
    Ok((
        found.download_mbps.ok_or(unknown)?,
        found.upload_mbps.ok_or(unknown)?,
    ))
}

/// A P2PRC server, and the limiter before it.
async fn over_http(mbps: f64) -> Result<(f64, f64)> {
    let limiter = limiter::tcp(servers::p2prc()?, mbps)?;
    let settings = Settings {
        transfer: Some(limits()),
        ..Settings::default()
    };
    let mut probing = probe([((), HostPort::from(limiter.addr))], settings);
    let outcome = probing.next().await.ok_or("no outcome")?;
    let Verdict::Answered(found) = outcome.verdict else {
        return Err(format!("{:?}", outcome.verdict).into());
    };
    let Measurement {
        download, upload, ..
    } = found.measurement();
    match (download, upload) {
        (Some(download), Some(upload)) => Ok((download.mbps(), upload.mbps())),
        _ => Err(format!("{found:?}").into()),
    }
}

/// A thousand servers.
async fn table() -> Result<Value> {
    let kinds = [servers::p2prc()?, servers::silent()?, servers::refuses()?];
    let targets = (0..ROWS).map(|row| (row, HostPort::from(kinds[row % kinds.len()])));
    let start = Instant::now();
    let mut probing = probe(targets, Settings::default());
    let (mut answered, mut measured, mut silent, mut refused) = (0, 0, 0, 0);
    let (mut late, mut other) = (0, 0);
    let mut last = 0.0;
    while let Some(outcome) = probing.next().await {
        last = start.elapsed().as_secs_f64();
        match outcome.verdict {
            Verdict::Answered(found) => {
                answered += 1;
                measured += usize::from(found.download.is_ok() && found.upload.is_ok());
            }
            Verdict::Missed(Miss::Silent) => silent += 1,
            Verdict::Missed(Miss::Refused) => refused += 1,
            Verdict::Undecided(Undecided::OutOfTime) => late += 1,
            _ => other += 1,
        }
    }
    Ok(json!({
        "rows": ROWS,
        "seconds": last,
        "answered": answered,
        "with_throughput": measured,
        "silent": silent,
        "refused": refused,
        "no_turn": late,
        "other": other,
    }))
}

fn print_table(out: &mut impl Write, report: &Value) -> Result<()> {
    let list = |values: &Value| {
        let all = values.as_array().into_iter().flatten();
        let all = all.map(|value| format!("{:.1}", value.as_f64().unwrap_or(f64::NAN)));
        all.collect::<Vec<_>>().join(" ")
    };
    let row = |out: &mut dyn Write, cells: [&str; 5]| {
        let [over, limit, down, up, off] = cells;
        writeln!(out, "{over:<6} {limit:>8} {down:>24} {up:>24} {off:>10}")
    };
    row(
        out,
        [
            "over",
            "limit",
            "download Mbit/s",
            "upload Mbit/s",
            "off by",
        ],
    )?;
    for rate in report["rates"].as_array().into_iter().flatten() {
        let off = rate["off_at_most"].as_f64().unwrap_or(f64::NAN) * 100.0;
        row(
            out,
            [
                rate["over"].as_str().unwrap_or_default(),
                &rate["limit_mbps"].to_string(),
                &list(&rate["download_mbps"]),
                &list(&rate["upload_mbps"]),
                &format!("{off:.1} %"),
            ],
        )?;
    }
    let table = &report["table"];
    writeln!(
        out,
        "\n{} rows in {:.1} s: {} answered ({} with throughput), {} silent, {} refused, {} had no turn, {} other",
        table["rows"],
        table["seconds"].as_f64().unwrap_or(f64::NAN),
        table["answered"],
        table["with_throughput"],
        table["silent"],
        table["refused"],
        table["no_turn"],
        table["other"],
    )?;
    Ok(())
}
