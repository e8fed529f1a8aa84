//! The table.

use std::io::Write;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

use crate::Result;

const HEADER: [&str; 9] = [
    "protocol",
    "nodes",
    "loss",
    "idle B/s",
    "entry on all, s",
    "entry, B",
    "left, s",
    "killed, s",
    "mistakes/h",
];

/// Prints one line per row; times are median / 99th percentile / largest.
pub(crate) fn table(out: &mut impl Write, rows: &[Value]) -> Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(HEADER);
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap_or(f64::NAN);
        table.add_row([
            row["protocol"].as_str().unwrap_or_default().to_owned(),
            row["nodes"].to_string(),
            format!("{:.0} %", number("loss") * 100.0),
            format!("{:.0}", number("idle_bytes_per_s")),
            times(&row["entry_s"]),
            format!("{:.0}", number("entry_bytes")),
            times(&row["left_s"]),
            times(&row["killed_s"]),
            format!(
                "{:.1} ({} in {:.1} h)",
                number("mistakes_per_hour"),
                row["mistakes"],
                number("simulated_hours")
            ),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "Bytes are sent, per node. Times are until the last node: median / p99 / largest; \
         +N: N more never reached all in time."
    )?;
    Ok(())
}

fn times(summary: &Value) -> String {
    let time = |field: &str| {
        summary[field]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |time| format!("{time:.2}"))
    };
    let missed = match summary["missed"].as_u64() {
        None | Some(0) => String::new(),
        Some(missed) => format!(" +{missed}"),
    };
    format!(
        "{} / {} / {}{missed}",
        time("p50"),
        time("p99"),
        time("max")
    )
}
