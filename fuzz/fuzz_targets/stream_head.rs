//! The head of a tunnel's or a flow's stream, as an egress reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::stream::{Header, MAX_HEADER_BYTES};

fuzz_target!(|data: &[u8]| {
    // Reading no more than is wanted must find the same as reading everything.
    let mut have = 0;
    let step_by_step = loop {
        match Header::decode(&data[..have]) {
            Ok(None) => {}
            done => break done,
        }
        let wanted = Header::wanted(&data[..have]);
        assert!(wanted > have && wanted <= MAX_HEADER_BYTES + u8::MAX as usize);
        if wanted > data.len() {
            break Ok(None);
        }
        have = wanted;
    };
    let at_once = Header::decode(data);
    if let Ok(Some((header, used))) = &at_once {
        assert!(*used <= MAX_HEADER_BYTES);
        assert_eq!(header.encode(), data[..*used]);
        assert_eq!(step_by_step, at_once);
    }
});
