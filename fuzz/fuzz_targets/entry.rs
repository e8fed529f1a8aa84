//! A ledger entry as another node sends it: postcard bytes, then the checks of the mesh.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::alive::Alive;
use warren::mesh::entry::{Entry, NetworkId};
use warren::mesh::floor::Floor;

const NETWORK: NetworkId = NetworkId([5; 16]);

fuzz_target!(|data: &[u8]| {
    if let Ok((entry, _)) = postcard::take_from_bytes::<Entry>(data) {
        let again = postcard::to_stdvec(&entry).expect("what was decoded can be encoded");
        let back: Entry = postcard::from_bytes(&again).expect("what was encoded can be decoded");
        assert_eq!(back, entry);
        let _ = entry.verify(NETWORK);
        assert!(entry.cmp_rank(&back).is_eq());
        assert_eq!(entry.id(NETWORK), back.id(NETWORK));
    }
    if let Ok((floor, _)) = postcard::take_from_bytes::<Floor>(data) {
        let again = postcard::to_stdvec(&floor).expect("what was decoded can be encoded");
        assert_eq!(postcard::from_bytes(&again), Ok(floor));
        let _ = floor.verify(NETWORK);
    }
    if let Ok((alive, _)) = postcard::take_from_bytes::<Alive>(data) {
        let _ = alive.verify(NETWORK);
        let _ = alive.rank();
    }
});
