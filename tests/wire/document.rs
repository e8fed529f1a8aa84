//! `schema/wire.md` names every number that the code names.

use warren::mesh::close::CloseCode;
use warren::mesh::datagram::FlowId;
use warren::mesh::measure::Limits;
use warren::mesh::stream::Header;
use warren::mesh::stream::{KIND_FLOW, KIND_MEASURE, KIND_TUNNEL};
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
    for (kind, what) in [
        (KIND_TUNNEL, "tunnel"),
        (KIND_FLOW, "flow of datagrams"),
        (KIND_MEASURE, "measurement"),
    ] {
        let kind = kind.to_string();
        let is = |row: &Vec<String>| row[0] == kind && row[1] == what;
        assert!(rows().iter().any(is), "no row {kind}, {what}");
    }
    let most = Limits::MAX;
    let bytes = grouped(usize::try_from(most.bytes).unwrap());
    let limits = format!("takes {bytes} bytes and {} s at most", most.time.as_secs());
    assert!(WIRE.contains(&limits), "{limits}");
}

/// The bytes of each block behind a line that starts with "Golden" and has this word.
fn golden(word: &str) -> Vec<Vec<u8>> {
    let parts = WIRE.split("\nGolden ").skip(1);
    let parts = parts.filter(|part| part.starts_with(word));
    let block = |part: &str| -> Vec<u8> {
        let block = part.split("```").nth(1).unwrap();
        let lines = block.lines().map(|line| line.split("  ").next().unwrap());
        let bytes = lines.flat_map(|line| line.split_whitespace());
        bytes
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    };
    parts.map(block).collect()
}

#[test]
fn the_golden_bytes_of_the_document_are_what_is_read_and_written() {
    let headers = golden("header");
    assert!(headers.len() >= 3);
    for bytes in headers {
        let (header, used) = Header::decode(&bytes).unwrap().unwrap();
        assert_eq!((header.encode(), used), (bytes.clone(), bytes.len()));
    }
    let datagrams = golden("datagram");
    let [datagram] = &datagrams[..] else {
        panic!("{datagrams:?}");
    };
    let (flow, at) = FlowId::decode(datagram).unwrap();
    assert_eq!((flow.stream(), &datagram[at..]), (15_293, &b"ping"[..]));
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
