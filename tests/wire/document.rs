//! `schema/wire.md` names every number that the code names.

use warren::mesh::close::CloseCode;
use warren::mesh::measure::Limits;
use warren::mesh::stream::{KIND_MEASURE, KIND_TUNNEL};
use warren::mesh::wire::{MAX_UNKNOWN_BYTES, REGISTRY};

const WIRE: &str = include_str!("../../schema/wire.md");

/// The cells of every table row, without marks.
fn rows() -> Vec<Vec<String>> {
    let rows = WIRE.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|').split(" | ");
        inner
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

#[test]
fn every_kind_of_frame_and_its_limit_is_in_the_document() {
    let rows = rows();
    for (kind, name, max) in REGISTRY {
        let want = [kind.to_string(), (*name).to_owned(), grouped(*max)];
        let found = rows.iter().any(|row| row.len() > 3 && row[..3] == want);
        assert!(found, "schema/wire.md has no row {want:?}");
    }
    assert!(WIRE.contains(&format!("longest body {}", grouped(MAX_UNKNOWN_BYTES))));
}

#[test]
fn every_close_code_is_in_the_document_and_no_other() {
    let codes: Vec<u64> = rows()
        .iter()
        .filter_map(|row| u64::from_str_radix(row[0].strip_prefix("0x")?, 16).ok())
        .collect();
    let known: Vec<u64> = (0..0x1_0000)
        .filter(|number| CloseCode::from_number(*number).is_some())
        .collect();
    assert_eq!(codes, known);
}

#[test]
fn every_kind_of_stream_and_the_limits_of_measuring_are_in_the_document() {
    for (kind, what) in [(KIND_TUNNEL, "tunnel"), (KIND_MEASURE, "measurement")] {
        let kind = kind.to_string();
        let is = |row: &Vec<String>| row[0] == kind && row[1] == what;
        assert!(rows().iter().any(is), "no row {kind}, {what}");
    }
    let most = Limits::MAX;
    let bytes = grouped(usize::try_from(most.bytes).unwrap());
    let limits = format!("takes {bytes} bytes and {} s at most", most.time.as_secs());
    assert!(WIRE.contains(&limits), "{limits}");
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
