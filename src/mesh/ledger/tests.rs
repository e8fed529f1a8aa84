use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mesh::entry::{Body, Draft};
use crate::mesh::id::Identity;

const NETWORK: NetworkId = NetworkId([5; 16]);
/// The ledger of a node that writes nothing itself.
fn ledger() -> Ledger {
    Ledger::new(NETWORK, Identity::from_seed(&[99; 32]).id())
}

const NOW: Now = Now {
    mono: Duration::ZERO,
    unix_ms: 1_000_000,
};

fn entry(author: u8, key: &str, version: u64, value: &[u8], deleted: bool) -> Entry {
    let draft = Draft {
        bucket: "b".parse().unwrap(),
        key: key.into(),
        class: Class::Durable,
        version,
        boot: 0,
        deleted,
        value: if deleted { vec![] } else { value.to_vec() },
    };
    Entry::sign(NETWORK, &Identity::from_seed(&[author; 32]), draft).unwrap()
}

fn live(author: u8, boot: u64, version: u64) -> Entry {
    let draft = Draft {
        bucket: "federated".parse().unwrap(),
        key: "k".into(),
        class: Class::Live,
        version,
        boot,
        deleted: false,
        value: b"{}".to_vec(),
    };
    Entry::sign(NETWORK, &Identity::from_seed(&[author; 32]), draft).unwrap()
}

proptest! {
    /// Any order, any repetition: the same map, even where an author equivocates.
    #[test]
    fn merge_is_commutative_and_idempotent(
        picks in prop::collection::vec((0u8..3, 0u8..3, 0u64..4, 0u8..3, any::<bool>()), 1..24),
        order in any::<prop::sample::Index>(),
    ) {
        let entries: Vec<_> = picks
            .iter()
            .map(|&(a, k, v, x, d)| entry(a + 1, &format!("k{k}"), v, &[x], d))
            .collect();
        let mut forward = ledger();
        let mut rotated = ledger();
        for e in &entries { forward.merge(e.clone(), NOW); }
        let cut = order.index(entries.len());
        for e in entries[cut..].iter().chain(&entries).rev() { rotated.merge(e.clone(), NOW); }
        let list = |ledger: &Ledger| ledger.entries().cloned().collect::<Vec<_>>();
        prop_assert_eq!(list(&forward), list(&rotated));
        prop_assert_eq!(forward.bytes, rotated.bytes);
    }
}

#[test]
fn concurrent_writes_of_two_authors_both_survive() {
    let mut ledger = ledger();
    ledger.merge(entry(1, "k", 1, b"a", false), NOW);
    ledger.merge(entry(2, "k", 1, b"b", false), NOW);
    assert_eq!(ledger.bucket(&"b".parse().unwrap()).count(), 2);
}

#[test]
fn live_entries_are_void_outside_their_boot() {
    let mut ledger = ledger();
    let author = Identity::from_seed(&[1; 32]).id();
    assert_eq!(
        ledger.merge(live(1, 7, 1), NOW),
        Merge::Refused(Refusal::Boot)
    );
    ledger.set_boot(author, 7);
    assert!(matches!(
        ledger.merge(live(1, 7, 1), NOW),
        Merge::Taken { .. }
    ));
    assert_eq!(ledger.set_boot(author, 8).len(), 1);
    assert!(ledger.is_empty());
    assert_eq!(
        ledger.merge(live(1, 7, 2), NOW),
        Merge::Refused(Refusal::Boot)
    );
}

#[test]
fn a_version_from_the_future_is_refused_and_does_not_move_the_clock() {
    let mut ledger = ledger();
    let far = (NOW.unix_ms + MAX_AHEAD_MS + 1) * VERSIONS_PER_MS;
    assert_eq!(
        ledger.merge(entry(1, "k", far, b"x", false), NOW),
        Merge::Refused(Refusal::Future)
    );
    assert!(ledger.next_version(NOW) < far);
}

#[test]
fn an_author_over_its_limit_keeps_its_newest_and_others_keep_theirs() {
    let mut ledger = ledger();
    ledger.merge(entry(2, "other", 1, b"x", false), NOW);
    let big = vec![0; 60_000];
    for n in 0..80u64 {
        ledger.merge(entry(1, &format!("k{n}"), n + 10, &big, false), NOW);
    }
    let author = Identity::from_seed(&[1; 32]).id();
    let quota = &ledger.quotas[&(author, Class::Durable)];
    assert!(quota.bytes <= MAX_BYTES_PER_AUTHOR);
    assert_eq!(quota.by_version.last().unwrap().0, 89);
    assert_eq!(
        ledger.merge(entry(1, "old", 1, &big, false), NOW),
        Merge::Refused(Refusal::AuthorFull)
    );
    assert_eq!(
        ledger.entries().filter(|e| e.slot.key == "other").count(),
        1
    );
}

#[test]
fn what_was_stored_is_loaded_even_when_the_wall_clock_fell() {
    let mut ledger = ledger();
    let far = (NOW.unix_ms + 2 * MAX_AHEAD_MS) * VERSIONS_PER_MS;
    assert!(ledger.load(entry(1, "k", far, b"x", false)));
    assert!(ledger.next_version(NOW) > far, "a new write would lose");
}

#[test]
fn live_entries_of_an_author_that_left_stay_void() {
    let mut ledger = ledger();
    let author = Identity::from_seed(&[1; 32]).id();
    ledger.set_boot(author, 7);
    ledger.merge(live(1, 7, 1), NOW);
    assert_eq!(ledger.drop_live(author).len(), 1);
    assert_eq!(
        ledger.merge(live(1, 7, 1), NOW),
        Merge::Refused(Refusal::Boot)
    );
}

#[test]
fn versions_rise_even_when_the_wall_clock_falls() {
    let mut ledger = ledger();
    let first = ledger.next_version(NOW);
    let earlier = Now {
        unix_ms: NOW.unix_ms - 500,
        ..NOW
    };
    assert!(ledger.next_version(earlier) > first);
}

/// C22: 17 minted identities fill the ledger; whoever was there before keeps its place, this
/// node above all, and the last to come is the first to go.
#[test]
fn a_full_ledger_gives_up_whole_newcomers_and_never_itself() {
    let me = Identity::from_seed(&[1; 32]).id();
    let mut ledger = Ledger::new(NETWORK, me);
    assert!(matches!(
        ledger.merge(entry(2, "honest", 1, b"x", false), NOW),
        Merge::Taken { .. }
    ));
    for minted in 100..=116u8 {
        for n in 0..MAX_ENTRIES_PER_AUTHOR {
            ledger.merge(
                renamed(&entry(minted, "k", 2, b"", false), &format!("k{n}")),
                NOW,
            );
        }
    }
    assert_eq!(ledger.len(), MAX_ENTRIES);
    let newcomer = ledger.merge(entry(117, "k", 3, b"x", false), NOW);
    assert_eq!(newcomer, Merge::Refused(Refusal::Full));
    // An author from before the flood, and this node although it wrote nothing until now.
    for (seed, key) in [(2, "more"), (1, "own")] {
        let taken = ledger.merge(entry(seed, key, 4, b"x", false), NOW);
        let Merge::Taken { evicted } = taken else {
            panic!("{key}: {taken:?}")
        };
        let newest = Identity::from_seed(&[116 - (seed % 2); 32]).id();
        assert!(
            evicted
                .iter()
                .all(|slot| slot.author == newest
                    || slot.author == Identity::from_seed(&[115; 32]).id()),
            "{key}"
        );
    }
    assert!(ledger.len() < MAX_ENTRIES);
    assert_eq!(
        ledger.entries().filter(|e| e.slot.key == "honest").count(),
        1
    );
}

/// `entry` under another key, with a signature that no longer holds: the ledger does not look at
/// it, and signing as many as some tests need would take their whole time.
fn renamed(entry: &Entry, key: &str) -> Entry {
    let mut body = Body::clone(entry);
    body.slot.key = key.to_owned();
    body.into()
}
