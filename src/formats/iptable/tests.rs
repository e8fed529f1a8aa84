//! The cases of P2PRC's own files, of its documents, and of files that are broken on purpose.

mod hostile;
mod shapes;
mod writing;

use super::*;

const STRICT: Options = Options {
    lenient: false,
    skip_bad: false,
};
const LENIENT: Options = Options {
    lenient: true,
    skip_bad: false,
};
const SKIP_BAD: Options = Options {
    lenient: false,
    skip_bad: true,
};

/// A table of rows given as JSON.
fn table(rows: &[&str]) -> String {
    format!("{{\"ip_address\": [\n{}\n]}}", rows.join(",\n"))
}

fn strict(text: &str) -> Document {
    read(text.as_bytes(), STRICT).unwrap_or_else(|error| panic!("{error}\nin {text}"))
}

/// The only row of a table of one row.
fn row(json: &str) -> Row {
    let [row] = strict(&table(&[json])).rows.try_into().unwrap();
    row
}

fn error(text: &str, options: Options) -> IpTableError {
    read(text.as_bytes(), options).expect_err(text)
}

/// The only problem of a table with one bad row.
fn problem(json: &str) -> Problem {
    match error(&table(&[json]), STRICT) {
        IpTableError::Rows(report) => {
            assert_eq!(report.problem_count, 1);
            report.problems[0].clone()
        }
        other => panic!("{other} is not about rows"),
    }
}

/// The notes of a table of one row.
fn notes(json: &str) -> Vec<String> {
    let report = strict(&table(&[json])).report;
    report.notes.iter().map(Problem::to_string).collect()
}

fn places(document: &Document) -> Vec<String> {
    let rows = document.rows.iter();
    rows.map(|row| row.place.to_string()).collect()
}

fn latency_ms(row: &Row) -> Option<f64> {
    row.stated
        .latency
        .map(crate::mesh::ip_table::Latency::as_ms)
}
