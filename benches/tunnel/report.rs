//! What comes out: one table of medians with ratios, or the same and every value as JSON.

use std::fs;
use std::io::Write;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::machine::DISTURBED;
use crate::options::Options;
use crate::peers::{ALL, Lineup};
use crate::run::{OTHERS, Results};

/// Everything is compared with this tunnel.
const OURS: &str = "warren";
/// Measures that are not compared.
const ALONE: &[&str] = &[".errors", ".open", "_ratio", OTHERS];

/// A row of the table.
pub(crate) struct Row {
    pub(crate) measure: &'static str,
    pub(crate) label: &'static str,
    decimals: usize,
}

const fn row(measure: &'static str, label: &'static str, decimals: usize) -> Row {
    Row {
        measure,
        label,
        decimals,
    }
}

/// The rows in their order. Ratios are ours divided by the column's.
pub(crate) const ROWS: &[Row] = &[
    row("up_1.gbit_s", "upload, 1 stream, Gbit/s", 2),
    row("up_8.gbit_s", "upload, 8 streams, Gbit/s", 2),
    row("down_1.gbit_s", "download, 1 stream, Gbit/s", 2),
    row("down_8.gbit_s", "download, 8 streams, Gbit/s", 2),
    row("up_1.cpu_s_per_gb", "CPU s per GB, upload, 1 stream", 2),
    row("up_8.cpu_s_per_gb", "CPU s per GB, upload, 8 streams", 2),
    row("down_1.cpu_s_per_gb", "CPU s per GB, download, 1 stream", 2),
    row(
        "down_8.cpu_s_per_gb",
        "CPU s per GB, download, 8 streams",
        2,
    ),
    row("first_byte.p50_ms", "first byte, p50 ms", 2),
    row("first_byte.p99_ms", "first byte, p99 ms", 2),
    row("keep_alive.kreq_s", "keep-alive, 1000 requests/s", 1),
    row("keep_alive.p50_ms", "keep-alive, p50 ms", 2),
    row("keep_alive.p99_ms", "keep-alive, p99 ms", 2),
    row("keep_alive.p999_ms", "keep-alive, p99.9 ms", 2),
    row(
        "keep_alive.cpu_s_per_10k",
        "keep-alive, CPU s per 10k requests",
        3,
    ),
    row("keep_alive.errors", "keep-alive, errors", 0),
    row("close.kreq_s", "connection per request, 1000 requests/s", 1),
    row("close.p50_ms", "connection per request, p50 ms", 2),
    row("close.p99_ms", "connection per request, p99 ms", 2),
    row("close.p999_ms", "connection per request, p99.9 ms", 2),
    row(
        "close.cpu_s_per_10k",
        "connection per request, CPU s per 10k",
        3,
    ),
    row("close.errors", "connection per request, errors", 0),
    row("fair.idle_p50_ms", "500 requests/s alone, p50 ms", 2),
    row("fair.idle_p99_ms", "500 requests/s alone, p99 ms", 2),
    row("fair.up_p50_ms", "beside half an upload, p50 ms", 2),
    row("fair.up_p99_ms", "beside half an upload, p99 ms", 2),
    row("fair.up_ratio", "beside half an upload, p99 ÷ alone", 1),
    row("fair.up_gbit_s", "half an upload, Gbit/s", 2),
    row("fair.down_p50_ms", "beside half a download, p50 ms", 2),
    row("fair.down_p99_ms", "beside half a download, p99 ms", 2),
    row("fair.down_ratio", "beside half a download, p99 ÷ alone", 1),
    row("fair.down_gbit_s", "half a download, Gbit/s", 2),
    row("tunnels.open", "idle tunnels open, of 10,000", 0),
    row("tunnels.rss_mib", "RSS with these, both ends, MiB", 1),
    row("tunnels.larger_mib", "RSS with these, larger end, MiB", 1),
    row("tunnels.pss_mib", "PSS with these, both ends, MiB", 1),
    row("requests.idle_mib", "RSS idle, larger end, MiB", 1),
    row("bulk.peak_mib", "RSS peak in bulk, both ends, MiB", 1),
    row(
        "requests.peak_mib",
        "RSS peak in requests, both ends, MiB",
        1,
    ),
];

/// The run and what it found.
pub(crate) struct Report {
    pub(crate) places: Vec<(&'static str, Results)>,
    /// Columns, in their order.
    pub(crate) tunnels: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
    head: Map<String, Value>,
}

impl Report {
    pub(crate) fn begin(options: &Options, lineup: &Lineup) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let first_line = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().next().unwrap_or("unknown").trim().to_owned()
        };
        let mut head = Map::new();
        head.insert("rounds".into(), options.rounds.into());
        head.insert("seconds".into(), options.time.as_secs().into());
        head.insert("cores".into(), cores.into());
        head.insert(
            "kernel".into(),
            first_line("/proc/sys/kernel/osrelease").into(),
        );
        head.insert(
            "rmem_max".into(),
            first_line("/proc/sys/net/core/rmem_max").into(),
        );
        head.insert(
            "wmem_max".into(),
            first_line("/proc/sys/net/core/wmem_max").into(),
        );
        head.insert("load_before".into(), load_average().into());
        let versions: Map<String, Value> = lineup
            .versions
            .iter()
            .map(|(name, version)| ((*name).to_owned(), version.clone().into()))
            .collect();
        head.insert("versions".into(), versions.into());
        Self {
            places: Vec::new(),
            tunnels: lineup.present.iter().map(|peer| peer.name).collect(),
            missing: lineup.missing.clone(),
            head,
        }
    }

    pub(crate) fn add(&mut self, place: &'static str, results: Results) {
        self.places.push((place, results));
    }

    /// All places are done.
    pub(crate) fn end(&mut self) {
        self.head.insert("load_after".into(), load_average().into());
    }

    /// An error if our own tunnel failed anywhere.
    pub(crate) fn verdict(&self) -> Result<()> {
        let ours = self
            .places
            .iter()
            .flat_map(|(_, results)| &results.failures)
            .find(|(name, _)| *name == OURS);
        match ours {
            Some((name, error)) => Err(format!("{name}: {error}").into()),
            None => Ok(()),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let places: Map<String, Value> = self
            .places
            .iter()
            .map(|(name, results)| ((*name).to_owned(), place_json(results)))
            .collect();
        let missing = pairs(self.missing.iter().map(|(name, how)| (*name, *how)));
        json!({ "run": self.head, "places": places, "missing": missing })
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> Result<()> {
        let text = |key: &str| match &self.head[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writeln!(
            out,
            "Medians; rounds: {}, seconds each: {}. In brackets: {OURS} ÷ that tunnel. {} cores, kernel {}, \
             load {} before and {} after.",
            text("rounds"),
            text("seconds"),
            text("cores"),
            text("kernel"),
            text("load_before"),
            text("load_after"),
        )?;
        writeln!(out, "\n{}", self.table())?;
        let others = self.others();
        let disturbed = others.iter().filter(|percent| **percent > DISTURBED);
        writeln!(
            out,
            "others used more than {DISTURBED} % of the machine in {} of {} measurements, {:.0} % at most",
            disturbed.count(),
            others.len(),
            others.iter().copied().fold(0.0, f64::max),
        )?;
        for (place, results) in &self.places {
            for (name, error) in &results.failures {
                writeln!(out, "failed ({place}): {name}: {error}")?;
            }
            for (name, why) in &results.unfit {
                writeln!(out, "not run ({place}): {name} {why}")?;
            }
        }
        if let Some(versions) = self.head["versions"].as_object() {
            let list: Vec<String> = versions
                .iter()
                .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
                .collect();
            writeln!(out, "versions: {}", list.join(", "))?;
        }
        for (name, how) in &self.missing {
            writeln!(out, "not installed: {name}: {how}")?;
        }
        Ok(())
    }

    /// How much of the machine others used, for each load of each round.
    fn others(&self) -> Vec<f64> {
        self.places
            .iter()
            .flat_map(|(_, results)| results.all())
            .filter(|(_, measure, _)| measure.ends_with(OTHERS))
            .flat_map(|(_, _, values)| values.iter().copied())
            .collect()
    }

    /// Measures down, tunnels across. With several places each measure has a row for each.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        let heads = self.tunnels.iter().map(|name| {
            let plaintext = ALL.iter().any(|peer| peer.name == *name && !peer.encrypted);
            if plaintext && *name != "direct" {
                format!("{name} (plaintext)")
            } else {
                (*name).to_owned()
            }
        });
        table.set_header(std::iter::once(String::new()).chain(heads));
        for row in ROWS {
            for (place, results) in &self.places {
                let cells: Vec<String> = self
                    .tunnels
                    .iter()
                    .map(|tunnel| cell(results, tunnel, row))
                    .collect();
                // Nobody had this, or nobody had an error.
                if cells.iter().all(|cell| matches!(cell.as_str(), "–" | "0")) {
                    continue;
                }
                let label = if self.places.len() > 1 {
                    format!("{} ({place})", row.label)
                } else {
                    row.label.to_owned()
                };
                table.add_row(std::iter::once(label).chain(cells));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// The middle value, the lower of two.
pub(crate) fn median(ascending: &[f64]) -> Option<f64> {
    ascending.get(ascending.len().checked_sub(1)? / 2).copied()
}

fn cell(results: &Results, tunnel: &'static str, row: &Row) -> String {
    let Some(value) = median(results.values(tunnel, row.measure)) else {
        return "–".to_owned();
    };
    let text = format!("{value:.*}", row.decimals);
    match ratio(results, tunnel, row.measure) {
        Some(ratio) => format!("{text} ({ratio:.2}×)"),
        None => text,
    }
}

/// Ours divided by theirs.
fn ratio(results: &Results, tunnel: &'static str, measure: &str) -> Option<f64> {
    let ours = median(results.values(OURS, measure))?;
    let theirs = median(results.values(tunnel, measure))?;
    let compared = !ALONE.iter().any(|end| measure.ends_with(end));
    (tunnel != OURS && theirs > 0.0 && compared).then_some(ours / theirs)
}

fn place_json(results: &Results) -> Value {
    let mut tunnels = Map::new();
    for (tunnel, measure, values) in results.all() {
        let of_tunnel = tunnels
            .entry(tunnel)
            .or_insert_with(|| Value::Object(Map::new()));
        of_tunnel[measure] = json!({
            "median": median(values),
            "values": values,
            "warren_ratio": ratio(results, tunnel, measure),
        });
    }
    json!({
        "tunnels": tunnels,
        "failures": pairs(results.failures.iter().map(|(name, error)| (*name, error.as_str()))),
        "not_run": pairs(results.unfit.iter().copied()),
    })
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    pairs
        .map(|(name, text)| json!({ "tunnel": name, "why": text }))
        .collect()
}

/// Processes that ran or waited, over the last minute.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
