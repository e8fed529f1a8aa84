//! Every knob of the world bites: a model that does nothing would let any test pass.

use std::time::Duration;

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::wire::Frame;

use crate::world::{NETWORK, World, ms, secs};

/// Two linked nodes that have said all they had to say.
fn pair(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(3);
    change(&mut world);
    world.mesh(2);
    world.until("whole", secs(20), World::whole);
    world.run(secs(2));
    world
}

/// How long a write of node 0 takes to node 1.
fn crossing(world: &mut World, key: &str) -> Duration {
    world.put(0, key, Some("v"));
    let there = world.wait(secs(60), ms(1), |w| w.value(1, 0, key).is_some());
    there.expect("the write never arrived")
}

fn hello(world: &World, puppet: usize) -> Alive {
    let identity = &world.nodes[puppet].identity;
    Alive::sign(NETWORK, identity, 1, 0, LifeState::Alive)
}

#[test]
fn distance_is_the_same_for_a_pair_and_differs_between_pairs() {
    let mut seen = Vec::new();
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.net.distance = (ms(10), ms(200));
        world.net.latency = (Duration::ZERO, Duration::ZERO);
        world.mesh(2);
        world.until("whole", secs(5), World::whole);
        world.run(secs(2));
        let [first, second] = ["a", "b"].map(|key| crossing(&mut world, key));
        assert_eq!(first, second);
        assert!((ms(10)..=ms(200)).contains(&first), "{first:?}");
        seen.push(first);
    }
    assert!(seen.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
}

#[test]
fn latency_delays_every_packet() {
    let mut near = pair(|_| ());
    let mut far = pair(|w| w.net.latency = (ms(100), ms(120)));
    assert!(crossing(&mut near, "k") <= ms(6));
    assert!((ms(100)..ms(125)).contains(&crossing(&mut far, "k")));
}

#[test]
fn loss_delays_by_probe_timeouts_that_double_and_costs_bytes() {
    let slow = |loss: f64, repair: u64| {
        let mut world = pair(|_| ());
        (world.net.loss, world.net.repair) = (loss, ms(repair));
        world.reset_traffic();
        let took: Vec<_> = (0..40)
            .map(|n| crossing(&mut world, &format!("k{n}")))
            .collect();
        (took, world.sent().iter().sum::<u64>(), world.stats.delayed)
    };
    let (good, cheap, none) = slow(0.0, 25);
    let (bad, dear, some) = slow(0.4, 25);
    let (worse, _, _) = slow(0.4, 400);
    assert!(none == 0 && some > 10);
    assert!(dear > cheap, "lost packets cost nothing");
    assert!(good.iter().all(|took| *took <= ms(6)));
    let longest = |took: &[Duration]| *took.iter().max().unwrap();
    // One loss costs about 34 ms, two in a row three times that.
    assert!(longest(&bad) > ms(3 * 34), "{bad:?}");
    assert!(longest(&worse) > ms(800), "{worse:?}");
}

#[test]
fn what_follows_a_lost_packet_waits_and_other_links_do_not() {
    let mut world = World::new(5);
    let node = world.machine();
    world.nodes[node].timing.silence_is_death = secs(600);
    world.start(node);
    let puppets = [world.puppet(), world.puppet()];
    for puppet in puppets {
        let hello = hello(&world, puppet);
        world.puppet_link(puppet, 0, hello);
        world.run(ms(100));
        world.nodes[puppet].inbox.clear();
    }
    (world.net.loss, world.net.repair) = (0.3, ms(400));
    let keys = |world: &World, puppet: usize| -> Vec<String> {
        let frames = world.nodes[puppet].inbox.iter();
        let entries = frames.filter_map(|frame| match frame {
            Frame::Entries(entries) => Some(entries.iter().map(|e| e.slot.key.clone())),
            _ => None,
        });
        entries.flatten().collect()
    };
    let (mut first_led, mut second_led) = (false, false);
    let said: Vec<String> = (0..60).map(|n| format!("k{n:02}")).collect();
    for key in &said {
        world.put(0, key, Some("v"));
        world.run(ms(20));
        let [first, second] = puppets.map(|puppet| keys(&world, puppet).len());
        first_led |= first > second;
        second_led |= second > first;
    }
    world.run(secs(60));
    assert!(first_led && second_led, "one link's loss held up the other");
    for puppet in puppets {
        assert_eq!(keys(&world, puppet), said);
    }
    assert!(world.stats.delayed > 10);
}

#[test]
fn bandwidth_makes_what_is_sent_at_once_leave_one_after_another() {
    // Larger ones would be offered, and fetched when there is room.
    let big = "x".repeat(1_000);
    let took = |bandwidth: Option<u64>| {
        let mut world = pair(|_| ());
        world.net.bandwidth = bandwidth;
        for n in 0..250 {
            world.put(0, &format!("big{n}"), Some(&big));
        }
        let took = crossing(&mut world, "last");
        (took, world.stats.queued)
    };
    assert_eq!(took(None).1, 0);
    assert!(took(None).0 < ms(10));
    let (slow, queued) = took(Some(100_000));
    assert!(slow > secs(2) && queued > 0, "{slow:?} {queued}");
}

#[test]
fn a_one_way_cut_lets_the_other_way_pass() {
    let mut world = pair(|_| ());
    world.cut_one_way(0, 1);
    world.put(0, "there", Some("v"));
    world.put(1, "back", Some("v"));
    world.run(ms(500));
    assert!(world.value(0, 1, "back").is_some(), "both ways were cut");
    assert!(world.value(1, 0, "there").is_none(), "no way was cut");
    assert!(world.stats.held > 0);
    world.heal();
    world.run(ms(500));
    assert!(
        world.value(1, 0, "there").is_some(),
        "what was held is lost"
    );
}

#[test]
fn partitions_add_up_until_they_heal() {
    let mut world = World::new(1);
    world.mesh(4);
    world.until("whole", secs(5), World::whole);
    world.partition(&[0, 1]);
    world.partition(&[0, 2]);
    world.run(secs(5));
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            assert!(!world.sees(a, b), "{a} sees {b}");
        }
    }
    world.heal();
    world.until("whole", secs(30), World::whole);
}

#[test]
fn a_crash_takes_what_the_disk_had_not_committed_but_no_acknowledged_write() {
    let lost = |after: Duration| {
        let mut world = pair(|w| w.commit_after = after);
        world.put(0, "theirs", Some("v"));
        world.until("there", secs(1), |w| w.value(1, 0, "theirs").is_some());
        let own = world.put(1, "own", Some("v"));
        world.put(0, "late", Some("v"));
        world.until("there", secs(1), |w| w.value(1, 0, "late").is_some());
        world.run(ms(50));
        world.kill(1);
        let kept = &world.nodes[1].disk.entries;
        assert!(
            kept.contains_key(&own.slot),
            "an acknowledged write is lost"
        );
        (kept.len(), world.stats.lost_saves)
    };
    let (kept, saves) = lost(ms(10));
    assert_eq!((kept, saves), (3, 0));
    let (kept, saves) = lost(secs(10));
    assert!(kept < 3 && saves > 0, "{kept} {saves}");
}

#[test]
fn saves_are_committed_in_groups() {
    let commits = |after: Duration| {
        let mut world = pair(|w| w.commit_after = after);
        let before = world.stats.commits;
        for n in 0..20 {
            // Node 0 commits each by itself, node 1 what came meanwhile.
            world.put(0, &format!("k{n}"), Some("v"));
            world.run(ms(10));
        }
        world.run(secs(2));
        world.stats.commits - before - 20
    };
    assert!(commits(ms(500)) < commits(Duration::ZERO));
}

#[test]
fn a_wall_clock_is_ahead_or_behind_and_jumps_while_the_monotonic_one_does_not() {
    let mut world = World::new(1);
    let (right, ahead, behind) = (world.machine(), world.machine(), world.machine());
    world.nodes[ahead].clock.ahead_ms = 90_000;
    world.nodes[behind].clock.ahead_ms = -90_000;
    world.run(secs(10));
    let unix = |w: &World, node: usize| w.now(node).unix_ms;
    assert_eq!(unix(&world, ahead), unix(&world, right) + 90_000);
    assert_eq!(unix(&world, behind), unix(&world, right) - 90_000);
    let before = world.now(ahead);
    world.nodes[ahead].clock.ahead_ms -= 3_600_000;
    world.run(ms(10));
    let after = world.now(ahead);
    assert!(after.unix_ms < before.unix_ms);
    assert_eq!(after.mono, before.mono + ms(10));
}

/// A write from a clock far ahead is refused, so the knob reaches the brain.
#[test]
fn a_jump_of_the_wall_clock_reaches_the_brain() {
    let mut world = pair(|_| ());
    world.nodes[0].clock.ahead_ms = 3_600_000;
    world.put(0, "k", Some("v"));
    world.run(secs(1));
    assert!(world.value(1, 0, "k").is_none() && world.refused(1, "future") > 0);
}

#[test]
fn drift_makes_both_clocks_run_fast_or_slow() {
    let mut world = World::new(1);
    let nodes = [-100_000, 0, 100_000].map(|ppm| {
        let node = world.machine();
        world.nodes[node].clock.drift_ppm = ppm;
        node
    });
    nodes.iter().for_each(|node| world.start(*node));
    let before = nodes.map(|node| world.now(node).unix_ms);
    world.run(secs(100));
    let mono = nodes.map(|node| world.now(node).mono);
    assert_eq!(mono, [secs(90), secs(100), secs(110)]);
    let wall = [0, 1, 2].map(|n| world.now(nodes[n]).unix_ms - before[n]);
    assert_eq!(wall, [90_000, 100_000, 110_000]);
}

/// Timers count on the machine's own clock: a slow one pings later.
#[test]
fn drift_reaches_the_timers() {
    let pings = |ppm: i64| {
        let mut world = World::new(1);
        for _ in 0..2 {
            let node = world.machine();
            world.nodes[node].clock.drift_ppm = ppm;
        }
        world.nodes[1].connect = vec![world.pinned(0)];
        world.start(0);
        world.start(1);
        world.until("whole", secs(5), World::whole);
        let before = world.stats.frames;
        world.run(secs(100));
        world.stats.frames - before
    };
    let (slow, right, fast) = (pings(-300_000), pings(0), pings(300_000));
    assert!(
        slow * 5 < right * 4 && right * 5 < fast * 4,
        "{slow} {right} {fast}"
    );
}

#[test]
fn frames_of_one_moment_share_packets_and_packets_are_acknowledged() {
    let mut world = World::new(1);
    world.mesh(1);
    let puppet = world.puppet();
    let hello = hello(&world, puppet);
    let link = world.puppet_link(puppet, 0, hello);
    world.run(secs(1));
    let cost = |world: &mut World, pause: Duration| {
        let (packets, acks) = (world.stats.packets, world.stats.acks);
        world.reset_traffic();
        for n in 0..20 {
            world.say(link, &Frame::Unknown { kind: 999, len: n });
            world.run(pause);
        }
        world.run(ms(100));
        let stats = &world.stats;
        let sent = world.nodes[puppet].traffic.sent;
        let received = world.nodes[0].traffic.received;
        assert_eq!(sent, received);
        (stats.packets - packets, stats.acks - acks, sent)
    };
    let (one, _, cheap) = cost(&mut world, Duration::ZERO);
    let (many, acks, dear) = cost(&mut world, ms(10));
    assert!(one <= 2 && many >= 20, "{one} {many}");
    assert!((8..=20).contains(&acks), "{acks}");
    assert!(dear > cheap + 15 * 59, "{dear} {cheap}");
}

#[test]
fn dials_cost_a_handshake_and_unanswered_ones_repeated_initials() {
    let mut world = World::new(1);
    world.machine();
    world.machine();
    world.nodes[1].connect = vec![world.pinned(0)];
    world.start(1);
    let first = world.nodes[1].traffic.sent;
    assert_eq!(first, 1_228);
    world.run(ms(2_500));
    assert_eq!(world.nodes[1].dials.len(), 1);
    world.run(ms(600));
    let failed = world.nodes[1].traffic.sent;
    assert!(failed >= 6 * 1_228, "{failed}");
    world.reset_traffic();
    world.start(0);
    world.until("whole", secs(20), World::whole);
    for node in [0, 1] {
        let sent = world.nodes[node].traffic.sent;
        assert!(sent > 2_000, "node {node} sent {sent}");
    }
}

#[test]
fn the_dial_limit_bounds_a_dial() {
    let dials = |limit: Duration| {
        let mut world = World::new(1);
        world.net.dial_limit = limit;
        world.machine();
        world.machine();
        world.nodes[1].connect = vec![world.pinned(0)];
        world.start(1);
        world.run(secs(60));
        world.nodes[1].dials.len()
    };
    assert!(dials(secs(30)) < dials(secs(1)));
}

#[test]
fn brains_hear_of_acks_only_where_that_is_switched_on() {
    let heard = |on: bool| {
        let mut world = pair(|w| w.net.tell_acks = on);
        world.run(secs(10));
        world.stats.heard
    };
    assert!(heard(false) == 0 && heard(true) > 0);
}

#[test]
fn frames_as_values_do_what_frames_as_bytes_do() {
    let run = |codec: bool| {
        let mut world = World::new(9);
        world.detail.codec = codec;
        world.mesh(5);
        world.until("whole", secs(5), World::whole);
        for n in 0..10 {
            world.put(n % 5, &format!("k{n}"), Some("v"));
            world.run(ms(100));
        }
        (world.ledger(3), world.stats.bytes, world.stats.steps)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_world_without_details_keeps_counts_only() {
    let mut world = World::large(2);
    world.crowd(12, secs(2));
    assert!(world.settle(secs(20)).is_some());
    world.put(3, "k", Some("v"));
    world.run(secs(2));
    assert!(world.value(9, 3, "k").is_some() && world.online(0, 11));
    assert!(world.stats.ups >= 12 * 11 && world.stats.downs == 0);
    for machine in &world.nodes {
        assert!(machine.events.is_empty() && machine.dials.is_empty());
        assert!(machine.view.is_none() && machine.disk.entries.is_empty());
    }
    world.watch_views(true);
    assert!(world.sees(0, 11));
    world.kill(11);
    world.run(secs(20));
    assert!(!world.online(0, 11) && !world.sees(0, 11) && world.stats.downs >= 11);
}

#[test]
fn one_seed_gives_one_world() {
    let run = |seed: u64| {
        let mut world = World::new(seed);
        world.net.loss = 0.1;
        world.crowd(8, secs(1));
        world.run(secs(20));
        format!("{:?} {:?}", world.stats, world.sent())
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

/// A machine that is told of its neighbours only keeps the links it would keep if it knew everybody,
/// and what is written spreads alike; a sample comes to know all.
#[test]
fn machines_that_know_their_neighbours_only_behave_as_members_of_a_large_network() {
    let mut world = World::large(1);
    world.acquainted(60, secs(3));
    world.settle_acquainted(secs(30)).expect("to know few");
    let links = |world: &World, node: usize| {
        let linked = |other: &usize| !world.kept(node, *other).is_empty();
        (0..60).filter(linked).count()
    };
    assert!((0..60).all(|node| (5..=12).contains(&links(&world, node))));
    assert!((1..60).any(|other| !world.online(0, other)));

    world.tell_all(&[0, 30]);
    world.run(secs(20));
    for node in [0, 30] {
        assert!((0..60).all(|other| other == node || world.online(node, other)));
        assert!(links(&world, node) <= 14);
    }
    let entry = world.put(45, "key", Some("v"));
    let has_it = |world: &World, node| world.brain(node).ledger().get(&entry.slot).is_some();
    world.until("the entry everywhere", secs(1), |world| {
        (0..60).all(|node| has_it(world, node))
    });
}
