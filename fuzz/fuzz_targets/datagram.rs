//! Which flow a datagram of a link belongs to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::datagram::{FlowId, MAX_FLOW_ID_BYTES};

fuzz_target!(|data: &[u8]| {
    let Ok((id, at)) = FlowId::decode(data) else {
        return;
    };
    assert!(at <= MAX_FLOW_ID_BYTES.min(data.len()));
    assert_eq!(FlowId::new(id.stream()), Some(id));
    let mut bytes = Vec::new();
    id.encode(&mut bytes);
    assert_eq!(bytes, data[..at]);
});
