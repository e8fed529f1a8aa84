//! What a member may open a stream with, and the report that ends a measurement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::measure::Throughput;
use warren::mesh::measure::wire::{REPORT_BYTES, Report};
use warren::mesh::stream::{MAX_HEADER_BYTES, Opening, Status};

fuzz_target!(|data: &[u8]| {
    // Reading no more than is wanted must find the same as reading everything.
    let mut have = 0;
    let step_by_step = loop {
        match Opening::decode(&data[..have]) {
            Ok(None) => {}
            done => break done,
        }
        let wanted = Opening::wanted(&data[..have]);
        assert!(wanted > have && wanted <= MAX_HEADER_BYTES + u8::MAX as usize);
        if wanted > data.len() {
            break Ok(None);
        }
        have = wanted;
    };
    let at_once = Opening::decode(data);
    if let Ok(Some((opening, taken))) = &at_once {
        assert!(*taken <= MAX_HEADER_BYTES);
        assert_eq!(opening.encode(), data[..*taken]);
        assert_eq!(Opening::decode(&data[..taken - 1]), Ok(None));
        assert_eq!(step_by_step, at_once);
    }
    if let Some(byte) = data.first() {
        assert_eq!(Status::from_byte(*byte).byte(), *byte);
    }
    if let Some(bytes) = data.first_chunk::<REPORT_BYTES>() {
        let report = Report::decode(*bytes);
        assert_eq!(report.encode(), *bytes);
        if let Some(found) = Throughput::of(report.bytes, report.elapsed) {
            assert!(found.mbps().is_finite() && found.mbps() > 0.0);
        }
    }
});
