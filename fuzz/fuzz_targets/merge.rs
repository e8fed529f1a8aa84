//! What a member may bring into the ledger: entries and floors, each four bytes of input, merged
//! forwards and backwards. Nothing is signed: merging does not look.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use warren::mesh::entry::{Body, Class, Entry, ItemId, NetworkId, Slot};
use warren::mesh::floor::Floor;
use warren::mesh::id::{Identity, NodeId, Signature};
use warren::mesh::ledger::{Ledger, MAX_BYTES_PER_AUTHOR};
use warren::mesh::name::Bucket;
use warren::mesh::time::Now;

const NETWORK: NetworkId = NetworkId([5; 16]);
const BOOT: u64 = 7;
const NOW: Now = Now {
    mono: Duration::ZERO,
    unix_ms: 1_000_000,
};

static AUTHORS: LazyLock<[NodeId; 4]> =
    LazyLock::new(|| std::array::from_fn(|n| Identity::from_seed(&[n as u8 + 1; 32]).id()));
static BUCKETS: LazyLock<[Bucket; 2]> =
    LazyLock::new(|| ["a", "b"].map(|text| text.parse().expect("a bucket")));

enum Item {
    Entry(Entry),
    Floor(Floor),
}

fn item(bytes: &[u8]) -> Item {
    let [kind, key, version, len] = [bytes[0], bytes[1], bytes[2], bytes[3]];
    let author = AUTHORS[usize::from(kind & 3)];
    let signature = Signature::from([0; 64]);
    if kind & 0x30 == 0x30 {
        return Item::Floor(Floor {
            author,
            floor: u64::from(version),
            signature,
        });
    }
    let deleted = kind & 4 != 0;
    let live = kind & 8 != 0;
    Item::Entry(Entry::from(Body {
        slot: Slot {
            bucket: BUCKETS[usize::from(kind >> 6 & 1)].clone(),
            key: format!("k{key}"),
            author,
            class: if live { Class::Live } else { Class::Durable },
        },
        version: version.into(),
        boot: if live { BOOT } else { 0 },
        deleted,
        value: vec![kind >> 7; if deleted { 0 } else { usize::from(len) * 256 }],
        signature,
    }))
}

fn merged<'a>(items: impl Iterator<Item = &'a Item>) -> Ledger {
    let mut ledger = Ledger::new(NETWORK, AUTHORS[0]);
    for author in *AUTHORS {
        ledger.set_boot(author, BOOT);
    }
    for item in items {
        match item {
            Item::Entry(entry) => drop(ledger.merge(entry.clone(), NOW)),
            Item::Floor(floor) => drop(ledger.merge_floor(*floor, NOW)),
        }
    }
    let sum = |sum: u64, id: ItemId| {
        let prefix = id.0.first_chunk().expect("32 bytes");
        sum.wrapping_add(u64::from_be_bytes(*prefix))
    };
    assert_eq!(ledger.ids().fold(0, sum), ledger.digest());
    assert_eq!(ledger.ids().count(), ledger.len() + ledger.floors().count());
    ledger
}

fuzz_target!(|data: &[u8]| {
    let items: Vec<Item> = data.chunks_exact(4).map(item).collect();
    let forwards = merged(items.iter());
    let backwards = merged(items.iter().rev().chain(&items));
    // At an author's limit a value that was replaced may count in one order and not in the other.
    let bytes = items.iter().map(|item| match item {
        Item::Entry(entry) => entry.value.len() + 256,
        Item::Floor(_) => 0,
    });
    if bytes.sum::<usize>() <= MAX_BYTES_PER_AUTHOR && items.len() <= 4096 {
        assert!(forwards.entries().eq(backwards.entries()));
        assert_eq!(forwards.digest(), backwards.digest());
    }
    assert!(forwards.floors().eq(backwards.floors()));
    // What both keep of a slot, they agree on.
    for entry in forwards.entries() {
        if let Some(other) = backwards.get(&entry.slot) {
            assert_eq!(entry, other);
        }
    }
});
