//! What comes out: one table of medians, or every value as JSON.

use std::io::Write;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::impairer::Path;
use crate::options::Options;
use crate::run::Results;

/// The rows in their order: the measure, what it is called, and what a ratio is taken to.
const ROWS: &[(&str, &str, Option<&str>)] = &[
    ("tcp_1", "TCP CUBIC, 1 stream, Mbit/s", None),
    ("up_1", "warren, 1 stream up", Some("tcp_1")),
    ("down_1", "warren, 1 stream down", Some("tcp_1")),
    ("tcp_8", "TCP CUBIC, 8 streams", None),
    ("up_8", "warren, 8 streams up", Some("tcp_8")),
    ("down_8", "warren, 8 streams down", Some("tcp_8")),
    ("tcp_p50", "1 KiB beside TCP, p50 ms", None),
    ("up_p50", "1 KiB beside warren up, p50 ms", None),
    ("down_p50", "1 KiB beside warren down, p50 ms", None),
    ("tcp_p99", "1 KiB beside TCP, p99 ms", None),
    ("up_p99", "1 KiB beside warren up, p99 ms", None),
    ("down_p99", "1 KiB beside warren down, p99 ms", None),
    ("beside_tcp", "both at once: TCP CUBIC, Mbit/s", None),
    ("beside_warren", "both at once: warren, Mbit/s", None),
];

pub(crate) fn print(out: &mut impl Write, options: &Options, results: &Results) -> Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let heads = options.paths.iter().map(|path| head(path));
    table.set_header(std::iter::once(String::new()).chain(heads));
    for (measure, label, to) in ROWS {
        let cells = options
            .paths
            .iter()
            .map(|path| cell(results, path, measure, *to));
        let cells: Vec<String> = cells.collect();
        if cells.iter().any(|cell| cell != "–") {
            table.add_row(std::iter::once((*label).to_owned()).chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(
        out,
        "Medians; rounds: {}, seconds each: {}. In brackets: times TCP over the same path.\n\n{table}",
        options.rounds,
        options.time.as_secs(),
    )?;
    Ok(())
}

pub(crate) fn json(options: &Options, results: &Results) -> Value {
    let mut paths = Map::new();
    for path in &options.paths {
        let mut measures = Map::new();
        for (_, measure, values) in results.all().filter(|(name, ..)| *name == path.name) {
            let value = json!({ "median": median(values), "values": values });
            measures.insert(measure.to_owned(), value);
        }
        let about = json!({
            "mbit_s": path.mbit_s,
            "round_trip_ms": path.one_way.as_secs_f64() * 2e3,
            "loss": path.loss,
            "reorder": path.reorder,
            "measures": measures,
        });
        paths.insert(path.name.to_owned(), about);
    }
    json!({ "rounds": options.rounds, "seconds": options.time.as_secs(), "paths": paths })
}

fn head(path: &Path) -> String {
    format!(
        "{}: {} Mbit/s, {} ms, {} % lost",
        path.name,
        path.mbit_s,
        path.one_way.as_millis() * 2,
        path.loss * 100.0,
    )
}

fn cell(results: &Results, path: &Path, measure: &str, to: Option<&str>) -> String {
    let of = |measure| median(results.values(path.name, measure));
    let Some(value) = of(measure) else {
        return "–".to_owned();
    };
    match to.and_then(of).filter(|other| *other > 0.0) {
        Some(other) => format!("{value:.1} ({:.1}×)", value / other),
        None => format!("{value:.1}"),
    }
}

/// The middle value, the lower of two.
fn median(ascending: &[f64]) -> Option<f64> {
    ascending.get(ascending.len().checked_sub(1)? / 2).copied()
}
