//! The first message on a link, from a peer that has proven its id and nothing else.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use warren::mesh::hello::Hello;
use warren::mesh::id::{Identity, NodeId};

static SENDER: LazyLock<NodeId> = LazyLock::new(|| Identity::from_seed(&[1; 32]).id());

fuzz_target!(|data: &[u8]| {
    if let Ok(hello) = Hello::decode(*SENDER, data) {
        let again = hello.encode();
        let back = Hello::decode(*SENDER, &again[2..]).expect("what was decoded can be encoded");
        assert_eq!(back, hello);
    }
});
