//! IP tables with the faults of P2PRC's documents: leniency reads what strictness reads as the
//! same, and what it says of places is within the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::formats::iptable::{Options, read};

fuzz_target!(|data: &[u8]| {
    let lenient = read(
        data,
        Options {
            lenient: true,
            skip_bad: false,
        },
    );
    match (read(data, Options::default()), &lenient) {
        (Ok(strict), Ok(lenient)) => assert_eq!(places(&strict.rows), places(&lenient.rows)),
        (Ok(_), Err(error)) => panic!("{error}"),
        (Err(_), _) => {}
    }
    if let Some(at) = lenient.err().and_then(|error| error.position()) {
        let lines = 1 + data.iter().filter(|b| **b == b'\n').count();
        assert!((1..=lines).contains(&at.line) && at.column <= data.len() + 1);
    }
});

fn places(rows: &[warren::mesh::ip_table::Row]) -> Vec<String> {
    rows.iter().map(|row| row.place.to_string()).collect()
}
