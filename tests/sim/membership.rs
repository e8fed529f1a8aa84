//! Who is there: joining, dying, sleeping, leaving, coming back.

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::event::What;
use warren::mesh::wire::Frame;

use crate::world::{NETWORK, World, for_seeds, ms, secs};

#[test]
fn three_nodes_joined_through_one_know_each_other_over_one_link_per_pair() {
    for_seeds(20, |mut world| {
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        world.run(secs(30));
        assert!(world.whole());
    });
}

#[test]
fn simultaneous_dials_leave_both_ends_with_the_same_link() {
    for far in [1, 20, 300, 600] {
        for_seeds(12, |mut world| {
            // Slow enough that courtesy does not prevent the second dial.
            world.net.latency = (ms(far / 2), ms(far));
            world.net.tunnel = ms(2000);
            let (a, b) = (world.machine(), world.machine());
            world.nodes[a].connect = vec![world.pinned(b)];
            world.nodes[b].connect = vec![world.pinned(a)];
            world.start(a);
            world.run(ms(world.seed * 7 % far));
            world.start(b);
            world.until("one link", secs(8), World::whole);
            world.run(secs(10));
            let kept = world.kept(a, b);
            assert!(world.whole(), "{}", world.describe());
            world.run(secs(10));
            assert_eq!(world.kept(a, b), kept, "the choice did not last");
            assert_eq!(world.best(a, b), world.best(b, a));
            // Whichever link goes, the other was up by then.
            let down = |(_, what): &(_, What)| matches!(what, What::NodeDown { .. });
            assert!(!world.nodes.iter().any(|node| node.events.iter().any(down)));
        });
    }
    for_seeds(20, |mut world| {
        world.net.latency = (ms(20), ms(300));
        let (a, b) = (world.machine(), world.machine());
        world.nodes[a].connect = vec![world.pinned(b)];
        world.nodes[b].connect = vec![world.pinned(a)];
        world.start(a);
        world.start(b);
        world.until("one link", secs(8), World::whole);
        world.run(secs(5));
        assert!(world.whole());
        let down = |(_, what): &(_, What)| matches!(what, What::NodeDown { .. });
        assert!(!world.nodes.iter().any(|node| node.events.iter().any(down)));
        assert!(world.stats.retired > 0, "the dials did not cross");
    });
}

#[test]
fn a_new_service_is_usable_everywhere_within_two_seconds() {
    for_seeds(10, |mut world| {
        world.net.loss = 0.1;
        world.net.repair = ms(300);
        world.mesh(6);
        world.until("whole", secs(8), World::whole);
        world.expose(3, "federated", true);
        let id = vec![world.id(3)];
        let all = |world: &World, want: &[_]| (0..6).all(|n| world.usable(n, "federated") == *want);
        world.until("announced", secs(2), |w| all(w, &id));
        world.expose(3, "federated", false);
        world.until("withdrawn", secs(2), |w| all(w, &[]));
        assert!(world.stats.delayed > 0, "loss had no effect");
    });
}

#[test]
fn a_killed_node_is_offline_for_all_within_three_seconds_and_back_after_its_return() {
    for_seeds(20, |mut world| {
        world.mesh(5);
        world.until("whole", secs(2), World::whole);
        world.expose(2, "federated", true);
        world.run(secs(5) + ms(world.seed * 37));
        world.kill(2);
        let gone = |w: &World| w.running().iter().all(|n| !w.sees(*n, 2));
        world.until("gone", secs(3), gone);
        assert!(world.running().iter().all(|n| world.shows(*n, 2)));
        assert_eq!(world.usable(0, "federated"), []);
        world.run(secs(20));
        world.start(2);
        world.until("back", secs(2), World::whole);
        assert_eq!(
            world.usable(0, "federated"),
            [],
            "its live entries died with it"
        );
    });
}

#[test]
fn a_frozen_node_is_offline_for_all_within_three_seconds_and_back_soon_after_it_wakes() {
    for_seeds(20, |mut world| {
        world.mesh(5);
        world.until("whole", secs(2), World::whole);
        world.expose(2, "federated", true);
        world.run(secs(5) + ms(world.seed * 37));
        world.freeze(2);
        let awake = |w: &World| {
            w.running()
                .into_iter()
                .filter(|n| *n != 2)
                .collect::<Vec<_>>()
        };
        world.until("gone", secs(3), |w| awake(w).iter().all(|n| !w.sees(*n, 2)));
        world.run(secs(world.seed));
        world.thaw(2);
        world.until("back", secs(4), World::whole);
        for node in 0..5 {
            assert_eq!(world.usable(node, "federated"), [world.id(2)]);
        }
        assert!(world.stats.slept_through > 0, "the freeze had no effect");
    });
}

#[test]
fn a_node_that_slept_itself_does_not_blame_the_others() {
    for_seeds(20, |mut world| {
        // The others are patient, so that any verdict is the sleeper's own.
        for node in 0..4 {
            world.machine();
            if node != 1 {
                world.nodes[node].timing.silence_is_death = secs(60);
            }
            if node > 0 {
                world.nodes[node].connect = vec![world.pinned(0)];
            }
        }
        (0..4).for_each(|node| world.start(node));
        world.until("whole", secs(2), World::whole);
        world.run(secs(3));
        let before = world.nodes[1].events.len();
        world.freeze(1);
        world.run(secs(2 + world.seed));
        world.thaw(1);
        world.run(secs(5));
        let news = &world.nodes[1].events[before..];
        let blamed = news
            .iter()
            .filter(|(_, what)| matches!(what, What::NodeDown { .. }));
        assert_eq!(blamed.count(), 0, "{news:?}");
        assert!(world.whole());
    });
}

/// A sleeper that forgave its links once must still notice a death after that in time.
#[test]
fn a_death_right_after_an_own_sleep_is_noticed_in_time() {
    for_seeds(20, |mut world| {
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        world.run(secs(3));
        world.freeze(1);
        world.run(ms(2000));
        world.thaw(1);
        world.run(ms(1));
        world.kill(2);
        world.until("gone", secs(3), |w| !w.sees(1, 2) && !w.sees(0, 2));
    });
}

/// A target that is added while the daemon runs once made its own lateness look like sleep, so
/// that every link was forgiven for as long as the daemon had run.
#[test]
fn a_target_added_later_does_not_hide_a_death() {
    for_seeds(5, |mut world| {
        world.mesh(3);
        world.run(secs(600));
        let late = world.machine();
        let target = world.pinned(late);
        world.with(0, |brain, _, _| brain.add_target(target));
        world.run(ms(100));
        assert!(
            world.nodes[0].dials.iter().any(|(at, ..)| *at >= secs(600)),
            "not dialled"
        );
        world.kill(2);
        world.until("gone", secs(3), |w| !w.sees(0, 2));
    });
}

#[test]
fn a_leave_takes_effect_at_once_and_gossip_never_takes_it_back() {
    for_seeds(10, |mut world| {
        world.mesh(4);
        world.until("whole", secs(2), World::whole);
        world.expose(2, "federated", true);
        world.run(secs(2));
        let old: Vec<_> = world.brain(2).ledger().live_of(world.id(2));
        let alive = world.brain(2).alive();
        world.leave(2);
        let gone = |w: &World| w.running().iter().all(|n| !w.shows(*n, 2));
        assert!(gone(&world), "not at once");
        // What was under way elsewhere arrives late, from a member that has not heard.
        let late = world.puppet();
        let hello = Alive::sign(NETWORK, &world.nodes[late].identity, 1, 0, LifeState::Alive);
        for node in world.running() {
            let link = world.puppet_link(late, node, hello.clone());
            world.say(link, &Frame::Alive(vec![alive.clone()]));
            world.say(link, &Frame::Entries(old.clone()));
        }
        world.run(secs(5));
        assert!(gone(&world));
        for node in world.running() {
            assert_eq!(world.brain(node).ledger().live_of(world.id(2)), []);
            assert_eq!(world.usable(node, "federated"), []);
            let left = |(_, what): &(_, What)| matches!(what, What::NodeLeft { .. });
            assert_eq!(
                world.nodes[node].events.iter().filter(|e| left(e)).count(),
                1
            );
        }
        world.start(2);
        world.until("a new start counts", secs(3), |w| {
            [0, 1, 3].iter().all(|n| w.sees(*n, 2) && w.sees(2, *n))
        });
    });
}

#[test]
fn a_restarted_node_replaces_its_old_links_at_once_and_its_old_live_entries_are_void() {
    for_seeds(20, |mut world| {
        world.mesh(5);
        world.until("whole", secs(2), World::whole);
        world.expose(2, "federated", true);
        world.run(secs(4));
        let old = world.brain(2).ledger().live_of(world.id(2));
        world.restart(2);
        // Faster than silence would be noticed.
        world.until("replaced", ms(900), World::whole);
        world.run(ms(50));
        for node in 0..5 {
            assert_eq!(world.usable(node, "federated"), []);
            let held = world.brain(node).ledger().live_of(world.id(2));
            assert!(held.iter().all(|entry| !old.contains(entry)));
            assert!(!held.is_empty(), "its new record is missing");
        }
    });
}

/// Nodes learn of a restart from others before they hear from the node itself; the link to the
/// process that is gone must not be the one they use.
#[test]
fn a_restart_heard_of_by_gossip_ends_the_links_to_the_process_before() {
    for_seeds(10, |mut world| {
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        world.run(secs(2));
        world.kill(2);
        world.cut(1, 2);
        world.start(2);
        world.until("heard of", secs(1), |w| w.sees(0, 2) && w.sees(2, 0));
        world.run(ms(100));
        assert!(
            world.best(1, 2).is_none(),
            "a link to the old process stays"
        );
        world.until("others hear it", ms(600), |w| w.sees(1, 2));
        world.heal();
        world.until("whole", secs(4), World::whole);
    });
}

#[test]
fn an_old_link_is_replaced_without_a_gap() {
    for_seeds(6, |mut world| {
        for _ in 0..2 {
            let node = world.machine();
            world.nodes[node].timing.redial_after = secs(10);
        }
        world.nodes[1].connect = vec![world.pinned(0)];
        world.start(0);
        world.start(1);
        world.until("whole", secs(2), World::whole);
        let first = world.kept(0, 1);
        for _ in 0..600 {
            world.run(ms(50));
            assert!(world.sees(0, 1) && world.sees(1, 0));
        }
        world.until("settled", secs(1), World::whole);
        assert_ne!(world.kept(0, 1), first, "never replaced");
        let down = |(_, what): &(_, What)| matches!(what, What::NodeDown { .. });
        assert!(!world.nodes[0].events.iter().any(down));
    });
}

/// A retired link takes no new work, so a node that has no other must dial.
#[test]
fn a_retired_link_that_is_left_alone_gets_a_successor() {
    let bit = std::cell::Cell::new(0);
    for_seeds(20, |mut world| {
        world.net.latency = (ms(20), ms(60));
        world.net.tunnel = secs(120);
        let (a, b) = (world.machine(), world.machine());
        world.nodes[a].connect = vec![world.pinned(b)];
        world.nodes[b].connect = vec![world.pinned(a)];
        world.start(a);
        world.start(b);
        world.until("one link", secs(8), World::whole);
        world.run(secs(1));
        let kept = world.kept(a, b)[0];
        world.close(kept, a);
        world.run(ms(1));
        bit.set(bit.get() + u32::from(world.sees(a, b)));
        world.until("a new one", secs(2), World::whole);
        assert_ne!(world.kept(a, b), [kept]);
    });
    assert!(bit.get() > 10, "no retired link was left");
}
