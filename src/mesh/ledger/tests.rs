use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mesh::entry::{Body, Draft};
use crate::mesh::floor::Floor;
use crate::mesh::id::{Identity, Signature};

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
        prop_assert_eq!(forward.index.bytes(), rotated.index.bytes());
        prop_assert_eq!(forward.digest(), rotated.digest());
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
    assert!(quota.bytes() <= MAX_BYTES_PER_AUTHOR);
    assert_eq!(quota.entries().last().unwrap().version, 89);
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

fn id(seed: u8) -> NodeId {
    Identity::from_seed(&[seed; 32]).id()
}

fn floor(author: NodeId, floor: u64) -> Floor {
    let signature = Signature::from([0; 64]);
    Floor {
        author,
        floor,
        signature,
    }
}

/// What a hoarder brings back is below the floor, whatever has become of the tombstone.
#[test]
fn a_floor_voids_what_is_older_and_keeps_it_out() {
    let mut ledger = ledger();
    ledger.merge(entry(1, "removed", 5, b"", true), NOW);
    ledger.merge(entry(1, "kept", 12, b"v", false), NOW);
    ledger.merge(entry(2, "other", 1, b"v", false), NOW);
    let Merge::Taken { .. } = ledger.merge(entry(1, "old", 9, b"v", false), NOW) else {
        panic!("there is room")
    };
    let outcome = ledger.merge_floor(floor(id(1), 10), NOW);
    let FloorMerge::Taken { dropped, forgotten } = outcome else {
        panic!("{outcome:?}")
    };
    let dropped: Vec<&str> = dropped.iter().map(|slot| slot.key.as_str()).collect();
    assert_eq!((dropped, forgotten), (vec!["removed", "old"], None));
    let keys: Vec<&str> = ledger.entries().map(|e| e.slot.key.as_str()).collect();
    assert_eq!(keys, ["kept", "other"]);
    assert_eq!(
        ledger.merge(entry(1, "removed", 4, b"hoarded", false), NOW),
        Merge::Refused(Refusal::Floor)
    );
    for (height, outcome) in [(10, FloorMerge::Known), (9, FloorMerge::Older)] {
        assert_eq!(ledger.merge_floor(floor(id(1), height), NOW), outcome);
    }
    assert_eq!(ledger.floor_of(&id(1)), Some(&floor(id(1), 10)));
    let mine = ledger.floor_by_id(&floor(id(1), 10).id(NETWORK));
    assert_eq!(mine, Some(&floor(id(1), 10)));
    let name = floor(id(1), 10).id(NETWORK);
    assert!(ledger.ids().any(|kept| kept == name));
}

#[test]
fn a_floor_from_the_future_is_refused_but_loaded_from_the_own_disk() {
    let mut ledger = ledger();
    let far = (NOW.unix_ms + MAX_AHEAD_MS + 1) * VERSIONS_PER_MS;
    let refused = ledger.merge_floor(floor(id(1), far), NOW);
    assert_eq!(refused, FloorMerge::Refused(Refusal::Future));
    assert!(ledger.load_floor(floor(id(1), far)));
    assert!(
        ledger.next_version(NOW) > far,
        "a write of its own would be void"
    );
}

/// Identities cost a member nothing: their floors push out each other and no older author's.
#[test]
fn minted_authors_cannot_push_out_the_floors_of_older_ones() {
    let me = id(1);
    let mut ledger = Ledger::new(NETWORK, me);
    ledger.merge_floor(floor(id(2), 7), NOW);
    let minted = |n: u32| {
        let mut seed = [200; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        Identity::from_seed(&seed).id()
    };
    for n in 1..u32::try_from(MAX_FLOORS).unwrap() {
        ledger.merge_floor(floor(minted(n), 7), NOW);
    }
    assert_eq!(ledger.floors().count(), MAX_FLOORS);
    let one_more = ledger.merge_floor(floor(minted(0), 7), NOW);
    assert_eq!(one_more, FloorMerge::Refused(Refusal::Full));
    let raised = ledger.merge_floor(floor(id(2), 8), NOW);
    assert!(matches!(
        raised,
        FloorMerge::Taken {
            forgotten: None,
            ..
        }
    ));
    let own = ledger.merge_floor(floor(me, 7), NOW);
    let youngest = minted(u32::try_from(MAX_FLOORS).unwrap() - 1);
    assert!(matches!(own, FloorMerge::Taken { forgotten: Some(gone), .. } if gone == youngest));
    assert_eq!(ledger.floor_of(&id(2)), Some(&floor(id(2), 8)));
}

#[test]
fn tombstones_that_outweigh_the_values_are_compacted() {
    let me = Identity::from_seed(&[1; 32]);
    let mut ledger = Ledger::new(NETWORK, me.id());
    let put = |ledger: &mut Ledger, key: usize, value: &[u8], deleted| {
        let version = ledger.next_version(NOW);
        let written = entry(1, &format!("k{key}"), version, value, deleted);
        assert!(matches!(ledger.merge(written, NOW), Merge::Taken { .. }));
    };
    for key in 0..300 {
        put(&mut ledger, key, b"v", false);
    }
    for key in 0..MIN_TOMBSTONES {
        assert_eq!(ledger.compaction(NOW), None);
        put(&mut ledger, key, b"", true);
    }
    let before = ledger.next_version(NOW);
    let plan = ledger.compaction(NOW).unwrap();
    assert!(plan.floor > before);
    assert_eq!(plan.survivors.len(), 300 - MIN_TOMBSTONES);
    for draft in plan.survivors {
        assert!(draft.version > plan.floor);
        ledger.merge(Entry::sign(NETWORK, &me, draft).unwrap(), NOW);
    }
    ledger.merge_floor(floor(me.id(), plan.floor), NOW);
    assert_eq!(ledger.len(), 300 - MIN_TOMBSTONES);
    assert!(ledger.entries().all(|e| !e.deleted && *e.value == *b"v"));
    assert_eq!(ledger.compaction(NOW), None);
}

/// C22: the limits of live entries start anew with each boot, as their versions do.
#[test]
fn the_mark_of_live_entries_ends_with_their_boot() {
    let mut ledger = ledger();
    let big = |boot, version| {
        let mut body = Body::clone(&live(1, boot, version));
        body.slot.key = format!("k{version}");
        body.value = vec![0; 60_000];
        Entry::from(body)
    };
    ledger.set_boot(id(1), 7);
    for version in 100..200 {
        ledger.merge(big(7, version), NOW);
    }
    let full = Merge::Refused(Refusal::AuthorFull);
    assert_eq!(ledger.merge(big(7, 1), NOW), full);
    let federated = "federated".parse().unwrap();
    assert_eq!(
        ledger.live_buckets_of(id(1)).collect::<Vec<_>>(),
        [&federated]
    );
    ledger.set_boot(id(1), 8);
    assert_eq!(ledger.live_buckets_of(id(1)).count(), 0);
    assert!(matches!(ledger.merge(big(8, 1), NOW), Merge::Taken { .. }));
}

/// C23: what was refused is not fetched again, until the reason may be gone.
#[test]
fn what_was_refused_is_remembered_as_long_as_it_would_be_refused() {
    let mut ledger = ledger();
    let at = |unix_ms, seconds| Now {
        unix_ms,
        mono: Duration::from_secs(seconds),
    };
    let future = entry(
        1,
        "k",
        (NOW.unix_ms + 2 * MAX_AHEAD_MS) * VERSIONS_PER_MS,
        b"",
        true,
    );
    let early = live(1, 7, 1);
    let old = entry(1, "k", 1, b"", true);
    for (entry, why) in [
        (&future, Refusal::Future),
        (&early, Refusal::Boot),
        (&old, Refusal::Full),
    ] {
        let id = entry.id(NETWORK);
        assert!(!ledger.is_refused(&id, NOW));
        ledger.note_refused(entry, why, NOW);
        assert!(ledger.is_refused(&id, NOW));
    }
    let acceptable = at(NOW.unix_ms + MAX_AHEAD_MS, 0);
    assert!(!ledger.is_refused(&future.id(NETWORK), acceptable));
    assert!(matches!(
        ledger.check(&future, acceptable),
        Merge::Taken { .. }
    ));
    assert_eq!(ledger.refused_ids(acceptable).count(), 2);
    ledger.set_boot(id(1), 7);
    assert!(!ledger.is_refused(&early.id(NETWORK), NOW));
    assert!(!ledger.is_refused(&old.id(NETWORK), at(NOW.unix_ms, 600)));
    let voided = floor(id(1), 1);
    ledger.note_refused_floor(&voided, Refusal::Future, NOW);
    assert!(
        !ledger.is_refused(&voided.id(NETWORK), NOW),
        "it is welcome now"
    );
    for n in 0..MAX_REFUSED {
        ledger.note_refused(&renamed(&old, &format!("k{n}")), Refusal::Floor, NOW);
    }
    assert!(
        !ledger.is_refused(&old.id(NETWORK), NOW),
        "the bound had no effect"
    );
    assert_eq!(ledger.refused_ids(NOW).count(), MAX_REFUSED);
}
