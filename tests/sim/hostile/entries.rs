//! Entries that nobody should believe.

use warren::mesh::entry::{Body, Class, Draft, Entry, NetworkId};
use warren::mesh::ledger::{MAX_AHEAD_MS, MAX_ENTRIES_PER_AUTHOR};
use warren::mesh::wire::Frame;

use super::{BOOT, Siege, VICTIM, WITNESS, entry};
use crate::world::NETWORK;

#[test]
fn entries_with_bad_signatures_are_counted_and_sixteen_end_the_link() {
    let mut siege = Siege::new();
    let good = entry(siege.me(), Class::Durable, "k", 1, b"v");
    let mut bad = Vec::new();
    for n in 0..16u8 {
        let mut forged = Body::clone(&good);
        forged.value = vec![n];
        bad.push(Entry::from(forged));
    }
    siege.say(&Frame::Entries(bad[..15].to_vec()));
    assert_eq!(siege.refused("bad_signature"), 15);
    assert!(!siege.world.is_closed(siege.link));
    siege.say(&Frame::Entries(bad[15..].to_vec()));
    assert!(siege.world.is_closed(siege.link));
    assert!(siege.world.value(VICTIM, siege.puppet, "k").is_none());
    siege.nobody_else_notices();
}

#[test]
fn entries_in_the_name_of_another_are_refused() {
    let mut siege = Siege::new();
    let mut forged = Body::clone(&entry(siege.me(), Class::Durable, "k", 1, b"v"));
    for author in [VICTIM, WITNESS] {
        forged.slot.author = siege.world.id(author);
        siege.say(&Frame::Entries(vec![forged.clone().into()]));
    }
    assert_eq!(siege.refused("bad_signature"), 2);
    let other_network = NetworkId([8; 16]);
    let draft = Draft {
        bucket: "config".parse().unwrap(),
        key: "k".into(),
        class: Class::Durable,
        version: 1,
        boot: 0,
        deleted: false,
        value: vec![],
    };
    let elsewhere = Entry::sign(other_network, siege.me(), draft).unwrap();
    siege.say(&Frame::Entries(vec![elsewhere]));
    assert_eq!(siege.refused("bad_signature"), 3);
    for node in [VICTIM, WITNESS] {
        assert!(siege.world.value(VICTIM, node, "k").is_none());
    }
    siege.nobody_else_notices();
}

#[test]
fn entries_that_contradict_themselves_are_refused() {
    let mut siege = Siege::new();
    let good = Body::clone(&entry(siege.me(), Class::Durable, "k", 1, b"v"));
    let (mut with_boot, mut full_tombstone, mut control) = (good.clone(), good.clone(), good);
    with_boot.boot = 3;
    full_tombstone.deleted = true;
    control.slot.key = "k\n".into();
    let wrong = [with_boot, full_tombstone, control].map(Entry::from);
    siege.say(&Frame::Entries(wrong.to_vec()));
    assert_eq!(siege.refused("bad_entry"), 3);
    siege.nobody_else_notices();
}

#[test]
fn entries_from_the_future_are_refused_and_do_not_move_the_clock() {
    let mut siege = Siege::new();
    let now = siege.world.now(VICTIM).unix_ms;
    let version = |ahead: u64| (now + ahead) << 16;
    let near = entry(
        siege.me(),
        Class::Durable,
        "near",
        version(MAX_AHEAD_MS / 2),
        b"v",
    );
    let far = entry(
        siege.me(),
        Class::Durable,
        "far",
        version(MAX_AHEAD_MS * 2),
        b"v",
    );
    siege.say(&Frame::Entries(vec![near, far]));
    assert_eq!(siege.refused("future"), 1);
    assert!(siege.world.value(VICTIM, siege.puppet, "near").is_some());
    assert!(siege.world.value(VICTIM, siege.puppet, "far").is_none());
    let own = siege.world.put(VICTIM, "own", Some("v"));
    assert!(own.version < version(MAX_AHEAD_MS));
    siege.nobody_else_notices();
}

#[test]
fn live_entries_of_another_start_are_refused() {
    let mut siege = Siege::new();
    let draft = |boot: u64| Draft {
        bucket: "federated".parse().unwrap(),
        key: "k".into(),
        class: Class::Live,
        version: 1,
        boot,
        deleted: false,
        value: b"{}".to_vec(),
    };
    for boot in [BOOT - 1, BOOT + 1] {
        let wrong = Entry::sign(NETWORK, siege.me(), draft(boot)).unwrap();
        siege.say(&Frame::Entries(vec![wrong]));
    }
    assert_eq!(siege.refused("wrong_boot"), 2);
    siege.nobody_else_notices();
}

#[test]
fn an_author_keeps_at_most_its_share_and_the_newest_of_it() {
    let mut siege = Siege::new();
    let extra = 50;
    let count = MAX_ENTRIES_PER_AUTHOR as u64 + extra;
    let all = (0..count).map(|n| entry(siege.me(), Class::Durable, &format!("k{n}"), n + 10, b"v"));
    for some in all.collect::<Vec<_>>().chunks(512) {
        siege.say(&Frame::Entries(some.to_vec()));
    }
    let old = entry(siege.me(), Class::Durable, "old", 1, b"v");
    siege.say(&Frame::Entries(vec![old]));
    assert_eq!(siege.refused("author_full"), 1);
    let author = siege.world.id(siege.puppet);
    let kept = siege.world.ledger(VICTIM);
    let kept = kept.iter().filter(|e| e.slot.author == author).count();
    assert_eq!(kept, MAX_ENTRIES_PER_AUTHOR);
    assert!(siege.world.value(VICTIM, siege.puppet, "k0").is_none());
    let stored = siege.world.nodes[VICTIM].disk.entries.keys();
    let stored = stored.filter(|slot| slot.author == author).count();
    assert_eq!(
        stored, MAX_ENTRIES_PER_AUTHOR,
        "the disk keeps what the ledger gave up"
    );
    assert!(
        siege
            .world
            .value(WITNESS, siege.puppet, &format!("k{}", count - 1))
            .is_some()
    );
    siege.nobody_else_notices();
}
