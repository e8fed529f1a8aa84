//! The plot: blocks of bars, one bar for each tunnel, one column for each place.

use std::fmt::Write;

use crate::report::{ROWS, Report, median};
use crate::run::Results;

const COLUMN: f64 = 520.0;
const NAME: f64 = 110.0;
/// Right of a bar, for its value.
const VALUE: f64 = 60.0;
const MARGIN: f64 = 16.0;
const TITLE: f64 = 30.0;
const BAR: f64 = 18.0;
const OURS: &str = "#c2410c";
const THEIRS: &str = "#94a3b8";

/// What less is better of.
const COSTS: &[&str] = &["fair.up_ratio", "fair.down_ratio", "tunnels.rss_mib"];

/// An SVG document of the rates, of which more is better, and of some costs.
pub(crate) fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut height: f64 = 0.0;
    let mut left = 0.0;
    for (place, results) in &report.places {
        let mut y = MARGIN;
        for row in ROWS.iter().filter(|row| is_plotted(row.measure)) {
            let less = if COSTS.contains(&row.measure) {
                "; less is better"
            } else {
                ""
            };
            let title = format!("{} ({place}{less})", row.label);
            y = block(&mut body, report, results, row.measure, &title, (left, y));
        }
        height = height.max(y);
        left += COLUMN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {left} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{left}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn is_plotted(measure: &str) -> bool {
    // What a stream is held to is no figure of its own.
    let held = measure.starts_with("fair.");
    let rate = measure.ends_with("gbit_s") || measure.ends_with("kreq_s");
    rate && !held || COSTS.contains(&measure)
}

/// One block at `(left, y)`; returns where the next begins. Nothing if nobody was measured.
fn block(
    body: &mut String,
    report: &Report,
    results: &Results,
    measure: &str,
    title: &str,
    (left, y): (f64, f64),
) -> f64 {
    let bars: Vec<(&str, f64)> = report
        .tunnels
        .iter()
        .filter_map(|tunnel| Some((*tunnel, median(results.values(tunnel, measure))?)))
        .collect();
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if most <= 0.0 {
        return y;
    }
    let x = left + MARGIN;
    text(body, x, y + BAR / 2.0, "font-weight=\"bold\"", title);
    let mut y = y + TITLE;
    for (tunnel, value) in bars {
        let width = value / most * (COLUMN - NAME - VALUE - 2.0 * MARGIN);
        let colour = if tunnel == "warren" { OURS } else { THEIRS };
        let (start, base, thick) = (x + NAME, y + BAR - 6.0, BAR - 4.0);
        text(body, x, base, "", tunnel);
        // Writing to a String cannot fail.
        let _ = writeln!(
            body,
            "<rect x=\"{start:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{thick}\" \
             fill=\"{colour}\"/>"
        );
        let end = start + width + 6.0;
        text(body, end, base, "fill=\"#475569\"", &format!("{value:.1}"));
        y += BAR;
    }
    y + MARGIN
}

/// `what` is one of our names and labels, which have nothing to escape.
fn text(body: &mut String, x: f64, y: f64, attributes: &str, what: &str) {
    let _ = writeln!(
        body,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" {attributes}>{what}</text>"
    );
}
