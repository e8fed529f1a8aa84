//! Members that keep what others gave up and bring it back; and authors that contradict
//! themselves.

use warren::mesh::alive::LifeState;
use warren::mesh::entry::{Class, Entry};
use warren::mesh::floor::Floor;
use warren::mesh::ledger::MIN_TOMBSTONES;
use warren::mesh::wire::{Frame, entry_frames};

use super::{Crowd, alive, entry};
use crate::world::{NETWORK, for_seeds, ms, secs};

#[test]
fn two_values_under_one_version_become_one_everywhere() {
    for_seeds(4, |world| {
        let mut crowd = Crowd::new(world, 10, 1);
        let me = crowd.identity(0);
        let version = crowd.world.now(0).unix_ms << 16;
        let values = [b"left", b"more"].map(|v| entry(&me, Class::Durable, "k", version, v));
        for node in 0..10 {
            let value = values[node % 2].clone();
            let link = crowd.links[0][node];
            crowd.world.say(link, &Frame::Entries(vec![value]));
        }
        crowd.world.run(secs(2));
        let author = crowd.puppets.start;
        let kept = crowd.world.value(0, author, "k");
        assert!(kept.is_some());
        for node in 1..10 {
            assert_eq!(crowd.world.value(node, author, "k"), kept);
        }
        crowd.calm();
    });
}

#[test]
fn what_a_node_said_before_is_worth_nothing_after_it_said_more() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 9, 1);
        let identity = crowd.world.nodes[4].identity.clone();
        let old_value = crowd.world.put(4, "k", Some("old"));
        let removed = crowd.world.put(4, "gone", Some("old"));
        crowd.world.expose(4, "federated", true);
        crowd.world.run(secs(1));
        let old_live = crowd.world.brain(4).ledger().live_of(identity.id());
        let old_life = crowd.world.brain(4).alive();
        let old_leave = alive(&identity, old_life.boot, 50, LifeState::Leave);
        crowd.world.restart(4);
        crowd.world.run(secs(2));
        crowd.world.put(4, "k", Some("new"));
        crowd.world.put(4, "gone", None);
        crowd.world.run(secs(2));
        crowd.forget_events();
        for _ in 0..20 {
            crowd.tell(0, &Frame::Alive(vec![old_life.clone(), old_leave.clone()]));
            let mut all = old_live.clone();
            all.extend([old_value.clone(), removed.clone()]);
            crowd.tell(0, &Frame::Entries(all));
            crowd.world.run(ms(200));
        }
        for node in 0..9 {
            assert_eq!(
                crowd.world.value(node, 4, "k").as_deref(),
                Some(&b"new"[..])
            );
            assert!(crowd.world.value(node, 4, "gone").is_none());
            assert_eq!(crowd.world.usable(node, "federated"), []);
        }
        assert!(
            crowd.refused("wrong_boot") > 0,
            "live entries were not refused"
        );
        crowd.calm();
    });
}

/// Values whose tombstones are gone stay gone, for those who were there and for a newcomer that
/// meets the hoarder first.
#[test]
fn what_lies_below_a_floor_stays_gone_whoever_kept_it() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 5, 1);
        crowd.tell(0, &Frame::Neighbour(true));
        crowd.world.put(0, "kept", Some("v"));
        let mut hoard: Vec<Entry> = Vec::new();
        for n in 0..MIN_TOMBSTONES + 10 {
            hoard.push(crowd.world.put(0, &format!("k{n}"), Some("v")));
            hoard.push(crowd.world.put(0, &format!("k{n}"), None));
        }
        crowd.world.run(secs(2));
        let compacted = crowd.world.with(0, |brain, now, _| {
            let compacted = brain.compact(now).unwrap().expect("many tombstones");
            brain.apply_compaction(now, compacted.clone());
            compacted
        });
        assert_eq!(compacted.survivors.len(), 1);
        crowd.world.run(secs(2));
        let puppet = crowd.puppets.start;
        let late = crowd.world.machine();
        crowd.world.nodes[late].connect = vec![crowd.world.pinned(0)];
        crowd.world.start(late);
        let hello = alive(&crowd.identity(0), super::BOOT, 0, LifeState::Alive);
        let link = crowd.world.puppet_link(puppet, late, hello);
        crowd.links[0].push(link);
        // Values only, without the tombstones that followed them.
        let values: Vec<Entry> = hoard.into_iter().filter(|e| !e.deleted).collect();
        for frame in entry_frames(values) {
            crowd.tell(0, &frame);
        }
        crowd.world.run(secs(10));
        for node in crowd.world.running() {
            let of_0 = crowd.world.ledger(node).into_iter();
            let of_0: Vec<Entry> = of_0
                .filter(|e| e.slot.class == Class::Durable && e.slot.author == crowd.world.id(0))
                .collect();
            assert_eq!(of_0, compacted.survivors, "node {node}");
        }
        assert!(crowd.refused("below_floor") > 0);
        crowd.calm();
    });
}

#[test]
fn floors_that_are_forged_or_too_far_ahead_void_nothing() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 5, 1);
        let me = crowd.identity(0);
        crowd.world.put(2, "k", Some("v"));
        let now = crowd.world.now(0).unix_ms << 16;
        let own = entry(&me, Class::Durable, "own", now, b"v");
        crowd.tell(0, &Frame::Entries(vec![own]));
        crowd.world.run(secs(1));
        let mut forged = Floor::sign(NETWORK, &me, now + 1);
        forged.author = crowd.world.id(2);
        let ahead = Floor::sign(NETWORK, &me, now + (900_000 << 16));
        for _ in 0..5 {
            crowd.tell(0, &Frame::Floors(vec![forged, ahead]));
            crowd.world.run(secs(10));
        }
        assert!(crowd.refused("bad_signature") >= 5 && crowd.refused("future") >= 5);
        let author = crowd.puppets.start;
        for node in 0..5 {
            assert!(crowd.world.value(node, 2, "k").is_some());
            assert!(crowd.world.value(node, author, "own").is_some());
        }
        crowd.calm();
    });
}
