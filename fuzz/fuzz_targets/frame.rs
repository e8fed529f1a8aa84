//! What a member may send on a link: frames one after another, as they come off the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::wire::{Frame, HEADER_BYTES, decode_frame, max_body};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((frame, taken))) = decode_frame(rest) {
        assert!((HEADER_BYTES..=HEADER_BYTES + max_body(frame.kind())).contains(&taken));
        if !matches!(frame, Frame::Unknown { .. }) {
            let again = frame.encode();
            let back = decode_frame(&again).expect("what was decoded encodes into a frame");
            assert_eq!(back, Some((frame, again.len())));
        }
        rest = &rest[taken..];
    }
});
