//! Whom to dial, how often, and what a quiet mesh costs.

use std::time::Duration;

use warren::mesh::addr::PeerAddr;
use warren::mesh::brain::{Dialled, Input};

use crate::world::{Disk, World, for_seeds, ms, secs};

#[test]
fn an_unpinned_target_teaches_its_id_once_and_is_dialled_by_id_after_a_restart() {
    for_seeds(10, |mut world| {
        let (a, b) = (world.machine(), world.machine());
        let at: warren::mesh::addr::HostPort = "seed.example:7717".parse().unwrap();
        let addr = world.nodes[a].addr;
        world.dns.insert(at.clone(), addr);
        // All that is known of `a` is that name.
        world.nodes[a].advertise = false;
        world.nodes[b].connect = vec![PeerAddr { id: None, at }];
        world.start(b);
        world.run(secs(2));
        world.start(a);
        world.until("joined", secs(4), World::whole);
        world.run(secs(60));
        let by_host = |w: &World| {
            let dials = w.nodes[b].dials.iter();
            dials
                .filter(|(_, dialled, _)| matches!(dialled, Dialled::Host(_)))
                .count()
        };
        let before = by_host(&world);
        assert!(before >= 1);
        world.kill(a);
        world.run(secs(4));
        world.start(a);
        world.until("joined", secs(6), World::whole);
        for flag in [true, false] {
            world.kill(b);
            world.run(secs(4));
            if !flag {
                world.nodes[b].connect.clear();
            }
            world.start(b);
            world.until("joined", secs(2), World::whole);
        }
        assert_eq!(by_host(&world), before, "asked by address again");
        let id = world.id(a);
        assert!(
            world.nodes[b]
                .dials
                .iter()
                .any(|d| d.1 == Dialled::Node(id))
        );
    });
}

#[test]
fn addresses_learnt_by_gossip_are_dialled() {
    for_seeds(10, |mut world| {
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        let ids = [world.id(1), world.id(2)];
        let learnt = |from: usize, to: usize| {
            let target = world.nodes[to].addr.into();
            world.nodes[from].dials.iter().any(|(_, dialled, targets)| {
                *dialled == Dialled::Node(ids[to - 1]) && targets.contains(&target)
            })
        };
        assert!(learnt(1, 2) || learnt(2, 1));
    });
}

/// A node that gets another port at every start was once dialled at its first eight for ever.
#[test]
fn a_node_that_moved_often_is_found_at_its_newest_address() {
    for_seeds(5, |mut world| {
        world.mesh(2);
        let target = world.machine();
        let first = world.pinned(0);
        world.nodes[target].connect = vec![first];
        world.start(target);
        for port in 1..20 {
            world.kill(target);
            world.run(secs(1));
            world.nodes[target].addr.set_port(port);
            world.start(target);
            world.until("seen", secs(5), |w| w.sees(1, target) && w.sees(0, target));
            world.run(secs(1));
        }
        world.kill(1);
        world.kill(target);
        // Now only node 1 dials.
        world.nodes[target].connect.clear();
        world.nodes[target].disk.peers.clear();
        world.start(target);
        world.start(1);
        world.until("found", secs(5), |w| w.sees(1, target));
    });
}

#[test]
fn a_dead_node_is_dialled_at_bounded_intervals_and_found_when_it_returns() {
    for_seeds(5, |mut world| {
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        let from = world.time;
        world.kill(2);
        world.run(secs(600));
        for node in [0, 1] {
            let dials = world.nodes[node].dials.iter();
            let count = dials
                .filter(|d| d.0 > from && d.1 == Dialled::Node(world.id(2)))
                .count();
            assert!((60..150).contains(&count), "{count} dials in ten minutes");
        }
        world.start(2);
        world.until("back", secs(2), World::whole);
    });
}

#[test]
fn a_renewal_that_fails_is_retried_at_bounded_intervals() {
    for_seeds(4, |mut world| {
        for _ in 0..2 {
            let node = world.machine();
            world.nodes[node].timing.redial_after = secs(10);
        }
        world.nodes[0].connect = vec![world.pinned(1)];
        world.nodes[1].advertise = true;
        world.start(1);
        world.start(0);
        world.until("whole", secs(2), World::whole);
        world.refuse_dials(0, 1);
        world.refuse_dials(1, 0);
        let before = world.nodes[0].dials.len() + world.nodes[1].dials.len();
        world.run(secs(300));
        let dials = world.nodes[0].dials.len() + world.nodes[1].dials.len() - before;
        assert!((20..80).contains(&dials), "{dials} dials in five minutes");
        assert!(world.whole() && world.stats.refused_dials > 0);
    });
}

/// A link that is never silent has no ping due; its age counts all the same.
#[test]
fn a_busy_link_is_renewed_too() {
    for_seeds(3, |mut world| {
        for _ in 0..2 {
            let node = world.machine();
            world.nodes[node].timing.redial_after = secs(10);
        }
        world.nodes[1].connect = vec![world.pinned(0)];
        world.start(0);
        world.start(1);
        world.until("whole", secs(2), World::whole);
        let first = world.kept(0, 1);
        for n in 0..150 {
            world.put(0, &format!("k{n}"), Some("v"));
            world.put(1, &format!("k{n}"), Some("v"));
            world.run(ms(100));
        }
        assert_ne!(world.kept(0, 1), first, "never replaced");
    });
}

#[test]
fn a_node_that_can_be_reached_one_way_only_is_still_linked() {
    for_seeds(20, |mut world| {
        let (a, b, c) = (world.machine(), world.machine(), world.machine());
        for node in [b, c] {
            world.nodes[node].connect = vec![world.pinned(a)];
        }
        world.refuse_dials(b, c);
        for node in [a, b, c] {
            world.start(node);
        }
        world.until("whole", secs(5), World::whole);
        if world.id(b) < world.id(c) {
            assert!(world.stats.refused_dials > 0, "the refusal had no effect");
        }
    });
}

/// With more dead members than dials under way, living ones once waited for ever, and the timer
/// of those that waited made the daemon spin.
#[test]
fn many_dead_members_do_not_keep_a_living_one_waiting() {
    for_seeds(3, |mut world| {
        let me = world.machine();
        for _ in 0..120 {
            let dead = world.machine();
            let target = world.pinned(dead);
            world.nodes[me].connect.push(target);
        }
        let greatest = (1..121).max_by_key(|n| world.id(*n)).unwrap();
        world.start(me);
        world.run(secs(30));
        world.start(greatest);
        world.until("found", secs(60), |w| w.sees(me, greatest));
        world.kill(greatest);
        world.until("gone", secs(3), |w| !w.sees(me, greatest));
    });
}

#[test]
fn a_quiet_mesh_costs_a_few_small_frames_and_stays_so() {
    for_seeds(3, |mut world| {
        world.mesh(5);
        world.until("whole", secs(2), World::whole);
        for n in 0..50 {
            world.put(n % 5, &format!("k{n}"), Some("v"));
        }
        world.run(secs(5));
        let mut minutes = Vec::new();
        for _ in 0..5 {
            let (frames, bytes) = (world.stats.frames, world.stats.bytes);
            world.run(secs(60));
            minutes.push((world.stats.frames - frames, world.stats.bytes - bytes));
        }
        for (frames, bytes) in &minutes {
            assert!(*frames / 10 <= 180, "{frames} frames a minute on 10 links");
            assert!(
                bytes / frames <= 16,
                "not only pings: {bytes} bytes in {frames} frames"
            );
            assert!(
                frames.abs_diff(minutes[0].0) * 20 < minutes[0].0,
                "{minutes:?}"
            );
        }
    });
}

#[test]
fn lasting_silence_asks_for_the_right_clock_once_an_hour() {
    for_seeds(3, |mut world| {
        world.mesh(2);
        world.until("whole", secs(2), World::whole);
        world.run(secs(60));
        assert!(world.nodes[0].searches.is_empty(), "a link was up");
        world.partition(&[0]);
        let cut = world.time;
        world.run(secs(20));
        assert!(
            world.nodes[0].searches.is_empty(),
            "before the window had passed"
        );
        world.run(secs(3 * 3600));
        for node in [0, 1] {
            let searches = &world.nodes[node].searches;
            assert!((3..=4).contains(&searches.len()), "{searches:?}");
            assert!(searches[0] - cut < secs(60));
            let hour = |pair: &[Duration]| pair[1] - pair[0] >= secs(3600);
            assert!(searches.windows(2).all(hour), "{searches:?}");
        }
        world.heal();
        // After hours in vain a node is dialled once a minute or so.
        world.until("whole", secs(80), World::whole);
        let asked = world.nodes[0].searches.len();
        world.run(secs(2 * 3600));
        assert_eq!(world.nodes[0].searches.len(), asked, "a link was up");
    });
}

#[test]
fn silence_without_a_pinned_peer_asks_nobody() {
    for_seeds(2, |mut world| {
        let node = world.machine();
        let at = "nowhere.example:1".parse().unwrap();
        world.nodes[node].connect = vec![PeerAddr { id: None, at }];
        world.start(node);
        world.run(secs(300));
        assert!(world.nodes[node].dials.len() > 5);
        assert!(world.nodes[node].searches.is_empty());
    });
}

#[test]
fn a_peer_that_refuses_proves_that_the_clock_is_right() {
    for_seeds(2, |mut world| {
        world.mesh(2);
        world.until("whole", secs(2), World::whole);
        world.partition(&[0]);
        let dialled = Dialled::Node(world.id(1));
        for _ in 0..60 {
            world.run(secs(5));
            let input = Input::DialFailed {
                dialled: dialled.clone(),
                silent: false,
                reason: "refused".into(),
            };
            world.with(0, |brain, now, rng| brain.handle(now, rng, input));
        }
        assert!(world.nodes[0].searches.is_empty());
        assert!(
            !world.nodes[1].searches.is_empty(),
            "the other hears nothing"
        );
    });
}

/// A node that lost its disk and its clock starts with a number below the one others know. They
/// refuse it, once gave up dialling it for good, and must neither do that nor dial in a loop.
#[test]
fn a_node_refused_for_its_old_start_is_dialled_at_bounded_intervals() {
    for_seeds(5, |mut world| {
        world.mesh(2);
        world.until("whole", secs(2), World::whole);
        world.run(secs(1));
        world.kill(1);
        world.nodes[1].disk = Disk::default();
        world.nodes[1].connect.clear();
        world.nodes[1].clock.ahead_ms = -3_600_000;
        // Node 0 knows the number, but no longer the signed word that would stop node 1.
        world.restart(0);
        world.run(secs(5));
        world.start(1);
        let before = world.nodes[0].dials.len();
        world.run(secs(300));
        assert!(world.refused(0, "old_boot") > 1 && !world.sees(0, 1));
        let dials = world.nodes[0].dials.len() - before;
        assert!((20..80).contains(&dials), "{dials} dials in five minutes");
        world.kill(1);
        world.nodes[1].clock.ahead_ms = 0;
        world.start(1);
        world.until("taken in", secs(25), World::whole);
    });
}
