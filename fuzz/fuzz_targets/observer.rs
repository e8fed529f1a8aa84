//! What a node shows an observer: frames one after another, until it has seen enough.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::entry::NetworkId;
use warren::mesh::observer::{MAX_BYTES, MAX_NODES, Sight};
use warren::mesh::wire::decode_frame;

fuzz_target!(|data: &[u8]| {
    let mut sight = Sight::new(NetworkId([5; 16]));
    let (mut rest, mut bytes) = (data, 0);
    while let Ok(Some((frame, taken))) = decode_frame(rest) {
        bytes += taken;
        let more = sight.take(frame, taken);
        assert!(!more || bytes <= MAX_BYTES);
        if !more {
            break;
        }
        rest = &rest[taken..];
    }
    let seen = sight.seen();
    let workers = seen.clusters.iter().map(|cluster| cluster.workers.len());
    assert!(seen.nodes as usize <= MAX_NODES);
    assert!(seen.nodes > 0 || workers.sum::<usize>() == 0);
});
