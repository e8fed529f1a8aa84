//! Departures that nobody is left to tell of.

use std::time::Duration;

use crate::world::{World, for_seeds, ms, secs};

/// For `span` nobody shows one of the `departed` as online.
fn nobody_shows(world: &mut World, departed: &[usize], span: Duration) {
    let until = world.time + span;
    while world.time < until {
        for node in world.running() {
            for gone in departed {
                assert!(
                    !world.sees(node, *gone),
                    "{node} shows {gone}: {:?}",
                    world.time
                );
            }
        }
        world.run(ms(250));
    }
}

/// Those that saw them go were started anew before they could say so. The new ones heard of the
/// dead from each other, and all they can do is to dial them in vain: all at once.
#[test]
fn those_who_die_together_with_the_memory_of_the_others_are_missed_together() {
    for_seeds(4, |mut world| {
        world.mesh(7);
        world.settle(secs(20)).expect("all know all");
        world.run(secs(5));
        let dead = [2, 3, 4, 5, 6];
        dead.into_iter().for_each(|node| world.kill(node));
        world.restart(1);
        let heard = |w: &World| dead.iter().all(|gone| w.sees(1, *gone));
        world.until("heard of", secs(1), heard);
        world.restart(0);
        world.run(secs(9));
        nobody_shows(&mut world, &dead, secs(90));
    });
}

/// A newcomer was still being told when its only source was started anew: neither knows anybody
/// who knows, and what they tell each other is dialled before it is shown.
#[test]
fn what_only_newcomers_tell_each_other_is_not_shown() {
    for_seeds(4, |mut world| {
        world.net.distance = (ms(40), ms(60));
        world.mesh(7);
        world.settle(secs(20)).expect("all know all");
        world.run(secs(5));
        let dead = [2, 3, 4, 5, 6];
        world.kill(1);
        world.run(secs(5));
        dead.into_iter().for_each(|node| world.kill(node));
        world.start(1);
        let told = |w: &World| !w.brain(1).ledger().live_of(w.id(2)).is_empty();
        world.until("told", secs(1), told);
        assert!(!world.brain(1).caught_up());
        world.restart(0);
        nobody_shows(&mut world, &dead, secs(90));
        assert!(world.sees(0, 1) && world.sees(1, 0));
    });
}

/// That a dial failed once while others reached the node says nothing of the dials that fail
/// after it has been linked again.
#[test]
fn who_was_unreachable_once_is_missed_when_only_a_dial_can_tell() {
    for_seeds(4, |mut world| {
        world.mesh(7);
        world.settle(secs(20)).expect("all know all");
        world.cut(0, 1);
        world.run(secs(20));
        assert!(world.best(0, 1).is_none() && world.sees(0, 1));
        world.heal();
        let linked = |w: &World| w.best(0, 1).is_some();
        world.until("linked again", secs(10), linked);
        world.run(secs(1));
        // Its last word is known on this side only, and node 0 sees it die when it hears nobody
        // else: the silence might be its own.
        world.partition(&[0, 1, 2]);
        world.run(secs(10));
        world.freeze(1);
        world.run(secs(2));
        world.thaw(1);
        world.run(secs(5));
        world.kill(2);
        world.run(secs(5));
        world.kill(1);
        world.run(secs(5));
        world.heal();
        nobody_shows(&mut world, &[1, 2], secs(90));
    });
}
