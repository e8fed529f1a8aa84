//! Paths that carry nothing, or one way only; and clocks that do not agree.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use warren::mesh::event::What;

use crate::world::{World, for_seeds, ms, secs};

/// A node without address is dialled by nobody: whoever is left beside it on a ring has to miss
/// its dial.
#[test]
fn a_node_that_dies_with_all_its_watchers_is_missed_although_nobody_can_dial_it() {
    for_seeds(4, |mut world| {
        for node in 0..16 {
            world.machine();
            world.nodes[node].advertise = node % 4 != 3;
            if node > 0 {
                world.nodes[node].connect = vec![world.pinned(0)];
            }
        }
        (0..16).for_each(|node| world.start(node));
        world.settle(secs(20)).expect("all know all");
        world.run(secs(20));
        let near: Vec<usize> = (0..16)
            .filter(|n| *n != 7 && world.best(*n, 7).is_some())
            .collect();
        assert!(near.len() < 12, "everybody is its neighbour");
        world.kill(7);
        for node in near {
            world.kill(node);
        }
        let gone = |w: &World| w.running().iter().all(|n| !w.sees(*n, 7));
        world.until("gone", secs(20), gone);
    });
}

/// Who was shown as down or gone since the last look, by whom.
fn downs(world: &World) -> Vec<(Duration, usize, What)> {
    let mut all = Vec::new();
    for node in world.running() {
        for (at, what) in &world.nodes[node].events {
            if matches!(what, What::NodeDown { .. } | What::NodeLeft { .. }) {
                all.push((*at, node, what.clone()));
            }
        }
    }
    all
}

/// Some pairs cannot reach each other at all, some only if one of them dials: all are reached by
/// others, and nobody is shown as anything but online.
#[test]
fn a_node_reachable_only_through_others_stays_online_for_all() {
    for_seeds(6, |mut world| {
        const NODES: usize = 13;
        for node in 0..NODES {
            world.machine();
            if node > 0 {
                world.nodes[node].connect = vec![world.pinned(0)];
            }
        }
        // Node 5 is behind a firewall: five others do not reach it, and it does not reach them.
        for other in 6..11 {
            world.cut(5, other);
        }
        for from in 1..NODES {
            if from != 3 {
                world.refuse_dials(from, 3);
            }
        }
        world.cut_one_way(11, 12);
        (0..NODES).for_each(|node| world.start(node));
        world.settle(secs(30)).expect("all know all");
        world.run(secs(30));
        world.nodes.iter_mut().for_each(|node| node.events.clear());
        let before: Vec<u32> = alives(&world);
        for _ in 0..10 {
            world.run(secs(30));
            assert!(world.settle(secs(0)).is_some(), "{:?}", downs(&world));
        }
        assert_eq!(downs(&world), []);
        for (after, before) in alives(&world).into_iter().zip(before) {
            // Each of those who cannot reach it says so once, if at all.
            assert!(after - before <= 8, "{before} {after}");
        }
        let ignored = world.running().into_iter();
        let ignored: u64 = ignored.map(|n| world.refused(n, "ignored_accuser")).sum();
        assert_eq!(ignored, 0, "an honest node has lost its voice");
        assert!(world.stats.lost_dials + world.stats.refused_dials > 0);
    });
}

fn alives(world: &World) -> Vec<u32> {
    let running = world.running().into_iter();
    running
        .map(|n| world.brain(n).alive().incarnation)
        .collect()
}

/// A switch that loses power: everybody else is gone, nothing is forgotten.
#[test]
fn who_loses_everybody_at_once_shows_them_as_stale_and_finds_them_when_they_are_back() {
    for_seeds(6, |mut world| {
        const NODES: usize = 10;
        world.crowd(NODES, secs(1));
        world.settle(secs(20)).expect("all know all");
        world.run(secs(5));
        for node in 0..NODES {
            world.partition(&[node]);
        }
        let alone = |w: &World| (0..NODES).all(|a| (0..NODES).all(|b| a == b || !w.sees(a, b)));
        world.until("alone", secs(3), alone);
        for node in 0..NODES {
            let view = world.nodes[node].view.clone().expect("a view");
            assert_eq!(view.nodes.len(), NODES);
            let others = view.nodes.values().filter(|other| !other.is_self);
            assert!(
                others
                    .clone()
                    .all(|other| other.stale && !other.addresses.is_empty())
            );
            world.put(node, "alone", Some("v"));
        }
        world.run(secs(world.seed * 3));
        world.heal();
        // Each dials what it misses at least every five seconds or so.
        world.settle(secs(6)).expect("all know all again");
        let written =
            |w: &World| (0..NODES).all(|a| (0..NODES).all(|b| w.value(a, b, "alone").is_some()));
        world.until("written everywhere", secs(2), written);
    });
}

/// Nobody is the neighbour of both: what one half says has to go over the link that was dialled.
#[test]
fn one_path_across_a_cut_brings_both_halves_together() {
    for_seeds(4, |mut world| {
        const HALF: usize = 12;
        world.crowd(2 * HALF, secs(1));
        world.settle(secs(20)).expect("all know all");
        let pairs = (0..HALF).flat_map(|a| (HALF..2 * HALF).map(move |b| (a, b)));
        let pairs: Vec<(usize, usize)> = pairs.collect();
        let mut linked = pairs.iter().filter(|(a, b)| world.best(*a, *b).is_some());
        let (left, right) = *linked.next().expect("a link between the halves");
        world.partition(&(0..HALF).collect::<Vec<_>>());
        world.run(secs(60));
        world.put(left, "left", Some("v"));
        world.put(right, "right", Some("v"));
        world.heal();
        for (a, b) in pairs.into_iter().filter(|pair| *pair != (left, right)) {
            world.cut(a, b);
        }
        let met = |w: &World| w.best(left, right).is_some() && w.best(right, left).is_some();
        world.until("met", secs(90), met);
        world.settle(secs(3)).expect("all know all again");
        for node in 0..2 * HALF {
            assert!(world.value(node, left, "left").is_some());
            assert!(world.value(node, right, "right").is_some());
        }
    });
}

/// A dial takes ten seconds to fail here. What was heard of a node since it began says more.
#[test]
fn a_dial_of_the_time_of_the_cut_speaks_against_nobody_after_it() {
    for_seeds(4, |mut world| {
        world.net.dial_limit = secs(10);
        world.net.distance = (ms(40), ms(60));
        world.crowd(24, secs(1));
        world.settle(secs(20)).expect("all know all");
        world.run(secs(5));
        world.partition(&(0..12).collect::<Vec<_>>());
        world.run(secs(60));
        world.heal();
        world.settle(secs(5)).expect("all know all again");
        world.run(secs(15));
        assert_eq!(alives(&world), [1; 24]);
    });
}

/// Half an epoch is 75 minutes. What lives in memory does not ask for the time; what is durable
/// is believed once it is no longer five minutes ahead.
#[test]
fn clocks_that_differ_by_half_an_epoch_take_nobody_down() {
    for_seeds(4, |mut world| {
        const NODES: usize = 7;
        let half_an_epoch = 4_500_000;
        let mut chance = SmallRng::seed_from_u64(world.seed);
        for node in 0..NODES {
            world.machine();
            let clock = &mut world.nodes[node].clock;
            clock.ahead_ms = chance.random_range(-half_an_epoch..=half_an_epoch);
            clock.drift_ppm = chance.random_range(-500..=500);
            world.nodes[node].connect = (0..node.min(1)).map(|n| world.pinned(n)).collect();
        }
        (0..NODES).for_each(|node| world.start(node));
        world.until("whole", secs(10), World::whole);
        world.nodes.iter_mut().for_each(|node| node.events.clear());
        for round in 0..40 {
            let node = chance.random_range(0..NODES);
            world.nodes[node].clock.ahead_ms = chance.random_range(-half_an_epoch..=half_an_epoch);
            world.expose(node, "federated", round % 3 != 0);
            world.run(secs(chance.random_range(1..10)));
            let serving = world.usable(0, "federated");
            for node in 1..NODES {
                assert_eq!(world.usable(node, "federated"), serving);
            }
        }
        assert_eq!(downs(&world), []);
        // A new start with a clock that is behind the one of the start before.
        world.nodes[2].clock.ahead_ms = -half_an_epoch;
        world.expose(2, "federated", true);
        world.run(secs(1));
        world.restart(2);
        world.until("whole again", secs(3), World::whole);
        assert!(!world.usable(0, "federated").contains(&world.id(2)));
        world.expose(2, "federated", true);
        let there = |w: &World| (0..NODES).all(|n| w.usable(n, "federated").contains(&w.id(2)));
        world.until("announced", secs(1), there);
        for node in 0..NODES {
            world.put(node, "k", Some("v"));
        }
        for node in 0..NODES {
            world.nodes[node].clock.ahead_ms = half_an_epoch;
        }
        let written =
            |w: &World| (0..NODES).all(|a| (0..NODES).all(|b| w.value(a, b, "k").is_some()));
        world.until("written everywhere", secs(400), written);
    });
}
