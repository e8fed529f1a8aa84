//! The ledger against a naive model: a function of what was seen, in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mesh::entry::Body;
use crate::mesh::floor::Floor;
use crate::mesh::id::{Identity, Signature};

const NETWORK: NetworkId = NetworkId([5; 16]);
const NOW: Now = Now {
    mono: std::time::Duration::ZERO,
    unix_ms: 1_000_000,
};

#[derive(Clone, Debug)]
enum Item {
    Entry(Entry),
    Floor(Floor),
}

fn author(n: u8) -> NodeId {
    Identity::from_seed(&[n + 1; 32]).id()
}

/// An entry that nobody signed: merging does not look.
fn entry(n: u8, key: usize, version: u64, len: usize, deleted: bool) -> Entry {
    let bucket = if key.is_multiple_of(3) { "a" } else { "b" };
    Entry::from(Body {
        slot: Slot {
            bucket: bucket.parse().unwrap(),
            key: format!("k{key}"),
            author: author(n),
            class: Class::Durable,
        },
        version,
        boot: 0,
        deleted,
        value: vec![1; if deleted { 0 } else { len }],
        signature: Signature::from([0; 64]),
    })
}

fn floor(n: u8, floor: u64) -> Item {
    Item::Floor(Floor {
        author: author(n),
        floor,
        signature: Signature::from([0; 64]),
    })
}

/// Every slot's greatest entry that no floor voids, newest first, by author.
fn winners(items: &[Item]) -> BTreeMap<NodeId, Vec<Entry>> {
    let mut floors: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut slots: BTreeMap<Slot, Entry> = BTreeMap::new();
    for item in items {
        if let Item::Floor(item) = item {
            let known = floors.entry(item.author).or_default();
            *known = item.floor.max(*known);
        }
    }
    for item in items {
        if let Item::Entry(entry) = item
            && floors
                .get(&entry.slot.author)
                .is_none_or(|floor| entry.version >= *floor)
            && slots
                .get(&entry.slot)
                .is_none_or(|old| entry.cmp_rank(old).is_gt())
        {
            slots.insert(entry.slot.clone(), entry.clone());
        }
    }
    newest_first(slots.into_values())
}

fn newest_first(entries: impl Iterator<Item = Entry>) -> BTreeMap<NodeId, Vec<Entry>> {
    let mut by_author: BTreeMap<NodeId, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_author.entry(entry.slot.author).or_default().push(entry);
    }
    for entries in by_author.values_mut() {
        entries.sort_by(|a, b| (b.version, &b.slot).cmp(&(a.version, &a.slot)));
    }
    by_author
}

/// How many of these fit, newest first and without a gap.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fit = entries
        .iter()
        .take(MAX_ENTRIES_PER_AUTHOR)
        .take_while(|entry| {
            bytes += cost(entry);
            bytes <= MAX_BYTES_PER_AUTHOR
        });
    fit.count()
}

fn merged(items: &[Item]) -> Ledger {
    let mut ledger = Ledger::new(NETWORK, author(9));
    for item in items {
        match item {
            Item::Entry(entry) => drop(ledger.merge(entry.clone(), NOW)),
            Item::Floor(floor) => drop(ledger.merge_floor(*floor, NOW)),
        }
    }
    consistent(&ledger);
    ledger
}

/// The indexes agree with each other.
fn consistent(ledger: &Ledger) {
    let entries: Vec<&Entry> = ledger.entries().collect();
    assert_eq!(entries.len(), ledger.len());
    let bytes: usize = entries.iter().map(|entry| cost(entry)).sum();
    assert_eq!(bytes, ledger.index.bytes());
    let quotas: usize = ledger.quotas.values().map(Quota::bytes).sum();
    assert_eq!(bytes, quotas);
    let sum = |sum: u64, id: ItemId| sum.wrapping_add(id.prefix());
    assert_eq!(ledger.ids().fold(0, sum), ledger.digest());
    for entry in &entries {
        assert_eq!(ledger.by_id(&entry.id(NETWORK)), Some(*entry));
        assert_eq!(ledger.get(&entry.slot), Some(*entry));
    }
    for bucket in ["a", "b", "c"] {
        let bucket = bucket.parse().unwrap();
        let scan = entries
            .iter()
            .copied()
            .filter(|entry| entry.slot.bucket == bucket);
        assert!(ledger.bucket(&bucket).eq(scan));
    }
}

/// The items in another order, some of them more than once.
fn shuffled(items: &[Item], order: &[prop::sample::Index]) -> Vec<Item> {
    let mut out = items.to_vec();
    for (at, index) in order.iter().enumerate() {
        let again = items[index.index(items.len())].clone();
        out.insert(at * 7 % (out.len() + 1), again);
        let len = out.len();
        out.swap(index.index(len), at % len);
    }
    out
}

/// Sizes that reach the limit of 4 MiB with about a hundred entries.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 0..2_000usize, 40_000..65_536usize]
}

fn floors() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec((0u8..2, 0u64..120).prop_map(|(n, at)| floor(n, at)), 0..3)
}

fn order() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each slot written once: whatever the order and the repetition, the limits included, the
    /// map is the model's.
    #[test]
    fn the_map_is_a_function_of_what_was_seen(
        picks in prop::collection::vec((0u64..300, len(), prop::bool::weighted(0.1)), 150..300),
        floors in floors(),
        order in order(),
    ) {
        let one = |(key, (version, len, deleted)): (usize, (u64, usize, bool))| {
            Item::Entry(entry(u8::from(key % 5 == 0), key, version, len, deleted))
        };
        let items: Vec<Item> = picks.into_iter().enumerate().map(one).chain(floors).collect();
        let mut expected = winners(&items);
        for entries in expected.values_mut() {
            entries.truncate(fitting(entries));
        }
        expected.retain(|_, entries| !entries.is_empty());
        for items in [items.clone(), shuffled(&items, &order)] {
            let ledger = merged(&items);
            prop_assert_eq!(&newest_first(ledger.entries().cloned()), &expected);
        }
    }

    /// Slots written again and again, even two values under one version: what is kept are the
    /// newest winners without a gap, never more than fit, and so two orders agree as far as both
    /// keep anything.
    #[test]
    fn whatever_the_order_the_newest_winners_are_kept_without_a_gap(
        picks in prop::collection::vec((0usize..90, 0u64..300, len(), prop::bool::weighted(0.1)), 150..300),
        floors in floors(),
        order in order(),
    ) {
        let one = |(key, version, len, deleted): (usize, u64, usize, bool)| {
            Item::Entry(entry(u8::from(key % 5 == 0), key, version, len, deleted))
        };
        let items: Vec<Item> = picks.into_iter().map(one).chain(floors).collect();
        let winners = winners(&items);
        for items in [items.clone(), shuffled(&items, &order)] {
            let kept = newest_first(merged(&items).entries().cloned());
            for (author, kept) in kept {
                let winners = &winners[&author];
                prop_assert!(kept.len() <= fitting(winners));
                prop_assert_eq!(&kept[..], &winners[..kept.len()]);
            }
        }
    }

    /// Below the limits nothing is ever given up, and rewriting is as independent of the order as
    /// anything else.
    #[test]
    fn below_the_limits_the_map_is_every_winner(
        picks in prop::collection::vec((0u8..2, 0usize..9, 0u64..9, 0usize..3, any::<bool>()), 1..60),
        floors in prop::collection::vec((0u8..2, 0u64..9).prop_map(|(n, at)| floor(n, at)), 0..4),
        order in order(),
    ) {
        let one = |(n, key, version, len, deleted): (u8, usize, u64, usize, bool)| {
            Item::Entry(entry(n, key, version, len, deleted))
        };
        let items: Vec<Item> = picks.into_iter().map(one).chain(floors).collect();
        let expected = winners(&items);
        for items in [items.clone(), shuffled(&items, &order)] {
            prop_assert_eq!(&newest_first(merged(&items).entries().cloned()), &expected);
        }
    }
}

/// The limit in number, which the random sizes do not reach.
#[test]
fn at_the_limit_of_entries_the_newest_stay_in_any_order() {
    let all = 0..MAX_ENTRIES_PER_AUTHOR + 50;
    let items: Vec<Item> = all
        .map(|key| Item::Entry(entry(0, key, u64::try_from(key / 3).unwrap(), 0, false)))
        .collect();
    let mut expected = winners(&items);
    let entries = expected.get_mut(&author(0)).unwrap();
    entries.truncate(MAX_ENTRIES_PER_AUTHOR);
    let backwards: Vec<Item> = items.iter().rev().cloned().collect();
    for items in [items, backwards] {
        assert_eq!(newest_first(merged(&items).entries().cloned()), expected);
    }
}
