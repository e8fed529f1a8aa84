//! What is written: spreading, restarts, partitions.

use warren::mesh::wire::Frame;

use crate::world::{World, for_seeds, ms, secs};

#[test]
fn a_write_is_everywhere_within_a_second() {
    for_seeds(10, |mut world| {
        world.mesh(8);
        world.until("whole", secs(3), World::whole);
        world.put(5, "k", Some("v"));
        let there = |w: &World| (0..8).all(|n| w.value(n, 5, "k").as_deref() == Some(b"v"));
        world.until("everywhere", secs(1), there);
    });
}

#[test]
fn durable_entries_and_tombstones_reach_a_late_joiner_and_survive_the_restart_of_all() {
    for_seeds(10, |mut world| {
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        for key in ["kept", "removed"] {
            world.put(1, key, Some("v"));
        }
        world.run(secs(1));
        // A node that is away while the key is removed comes back with the old value.
        world.kill(2);
        world.put(1, "removed", None);
        world.run(secs(4));
        world.kill(1);
        world.start(2);
        let late = world.machine();
        world.nodes[late].connect = vec![world.pinned(0)];
        world.start(late);
        let right = |w: &World| {
            w.running()
                .iter()
                .all(|n| w.value(*n, 1, "kept").is_some() && w.value(*n, 1, "removed").is_none())
        };
        world.until("all know", secs(3), right);
        for node in world.running() {
            world.kill(node);
        }
        world.run(secs(60));
        for node in 0..4 {
            world.start(node);
        }
        world.until("whole again", secs(5), World::whole);
        world.run(secs(2));
        assert!(
            right(&world),
            "a removed key came back or a kept one is gone"
        );
        assert!(world.nodes.iter().all(|m| m.disk.entries.len() == 2));
    });
}

/// A machine without a battery clock starts in 1970 or thereabouts: what it wrote is still its.
#[test]
fn what_a_node_stored_is_loaded_whatever_its_clock_says() {
    for_seeds(3, |mut world| {
        world.mesh(2);
        world.until("whole", secs(2), World::whole);
        world.put(1, "k", Some("v"));
        world.run(secs(1));
        world.kill(1);
        world.nodes[1].clock.ahead_ms = -3_600_000;
        world.start(1);
        assert_eq!(world.value(1, 1, "k").as_deref(), Some(&b"v"[..]));
        assert_eq!(world.refused(1, "stored_entry"), 0);
    });
}

#[test]
fn when_a_partition_heals_what_both_sides_wrote_is_everywhere() {
    for_seeds(20, |mut world| {
        world.mesh(6);
        world.until("whole", secs(3), World::whole);
        world.put(0, "both", Some("before"));
        world.run(secs(1));
        world.partition(&[0, 1, 2]);
        world.run(secs(1 + world.seed % 5));
        world.put(0, "a", Some("1"));
        world.put(5, "b", Some("2"));
        world.put(0, "both", Some("after"));
        world.expose(1, "left", true);
        world.expose(4, "right", true);
        world.run(secs(world.seed % 7));
        world.heal();
        world.until("whole", secs(25), World::whole);
        world.run(secs(1));
        for node in 0..6 {
            assert_eq!(world.value(node, 0, "a").as_deref(), Some(&b"1"[..]));
            assert_eq!(world.value(node, 5, "b").as_deref(), Some(&b"2"[..]));
            assert_eq!(world.value(node, 0, "both").as_deref(), Some(&b"after"[..]));
            assert_eq!(world.usable(node, "left"), [world.id(1)]);
            assert_eq!(world.usable(node, "right"), [world.id(4)]);
            assert_eq!(world.ledger(node), world.ledger(0));
        }
        assert!(world.stats.held > 0, "the partition had no effect");
    });
}

/// It is brought everything once, and does not tell those who know.
#[test]
fn a_newcomer_costs_little_more_than_what_it_lacks() {
    for_seeds(2, |mut world| {
        world.net.distance = (ms(40), ms(60));
        world.crowd(12, secs(1));
        world.settle(secs(20)).expect("all know all");
        let mut entries = Vec::new();
        for n in 0..600 {
            entries.push(world.put(n % 12, &format!("k{n}"), Some(&"v".repeat(64))));
            world.run(ms(10));
        }
        world.run(secs(5));
        let bytes = Frame::Entries(entries).encode().len() as u64;
        let late = world.machine();
        world.nodes[late].connect = (0..3).map(|n| world.pinned(4 * n)).collect();
        world.start(late);
        let there = |w: &World| (0..600).all(|n| w.value(late, n % 12, &format!("k{n}")).is_some());
        world.until("brought everything", secs(2), there);
        world.run(secs(1));
        let traffic = world.nodes[late].traffic;
        assert!(traffic.received * 2 < bytes * 3, "{traffic:?} of {bytes}");
        assert!(traffic.sent * 2 < bytes, "{traffic:?} of {bytes}");
    });
}

#[test]
fn two_nodes_that_cannot_reach_each_other_share_writes_through_others() {
    for_seeds(4, |mut world| {
        for node in 0..8 {
            world.machine();
            if node > 0 {
                world.nodes[node].connect = vec![world.pinned(0)];
            }
        }
        world.cut(1, 2);
        (0..8).for_each(|node| world.start(node));
        world.run(secs(3));
        assert!(world.best(1, 2).is_none() && world.best(2, 1).is_none());
        assert!(world.sees(1, 2) && world.sees(2, 1), "others hear both");
        for n in 0..20 {
            world.put(1, &format!("k{n}"), Some("v"));
            world.run(ms(20));
        }
        let there = |w: &World| (0..20).all(|n| w.value(2, 1, &format!("k{n}")).is_some());
        world.until("through others", secs(2), there);
        assert!(world.stats.lost_dials > 0, "the cut had no effect");
    });
}
