//! Signs of life that are forged, old, or of a copied key.

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::wire::Frame;

use super::{BOOT, Siege, VICTIM, WITNESS, alive};
use crate::world::{World, secs};

#[test]
fn signs_of_life_in_the_name_of_another_change_nothing() {
    let mut siege = Siege::new();
    let real = siege.world.brain(WITNESS).alive();
    for (boot, state) in [
        (real.boot, LifeState::Leave),
        (real.boot + 1, LifeState::Alive),
    ] {
        let mut forged = *alive(siege.me(), boot, 9, state);
        forged.node = siege.world.id(WITNESS);
        let forged = Alive::from(forged);
        siege.say(&Frame::Alive(vec![forged]));
    }
    assert_eq!(siege.refused("bad_signature"), 2);
    siege.nobody_else_notices();
}

#[test]
fn a_leave_of_an_earlier_start_is_void() {
    let mut siege = Siege::new();
    let before = siege.world.brain(WITNESS).alive();
    let identity = siege.world.nodes[WITNESS].identity.clone();
    let old_leave = alive(&identity, before.boot, 9, LifeState::Leave);
    siege.world.restart(WITNESS);
    siege.world.until("whole", secs(2), World::whole);
    siege.world.nodes[VICTIM].events.clear();
    siege.say(&Frame::Alive(vec![old_leave.clone()]));
    assert!(siege.world.sees(VICTIM, WITNESS));
    // Nor after a restart of the victim, which knows the witness's start from its disk.
    siege.world.restart(VICTIM);
    let hello = alive(siege.me(), BOOT, 0, LifeState::Alive);
    siege.link = siege.world.puppet_link(siege.puppet, VICTIM, hello);
    siege.say(&Frame::Alive(vec![old_leave]));
    siege.world.until("whole", secs(3), World::whole);
    siege.world.nodes[VICTIM].events.clear();
    siege.world.nodes[WITNESS].events.clear();
    siege.nobody_else_notices();
}

#[test]
fn a_newer_start_of_this_node_stops_it_and_a_forged_one_does_not() {
    let mut siege = Siege::new();
    let own = siege.world.nodes[VICTIM].identity.clone();
    let boot = siege.world.brain(VICTIM).alive().boot;
    let mut forged = *alive(siege.me(), boot + 1, 0, LifeState::Alive);
    forged.node = own.id();
    let forged = Alive::from(forged);
    siege.say(&Frame::Alive(vec![
        forged,
        alive(&own, boot, 9, LifeState::Leave),
        alive(&own, boot - 1, 9, LifeState::Leave),
    ]));
    assert!(!siege.world.nodes[VICTIM].cloned);
    assert!(siege.world.sees(WITNESS, VICTIM));
    siege.say(&Frame::Alive(vec![alive(
        &own,
        boot + 1,
        0,
        LifeState::Alive,
    )]));
    assert!(siege.world.nodes[VICTIM].cloned && !siege.world.runs(VICTIM));
}

/// Two processes with one key: the newer one serves, the older one hears of it and stops.
#[test]
fn the_older_of_two_processes_with_one_key_is_told_to_stop() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        let clone = world.machine();
        world.nodes[clone].identity = world.nodes[2].identity.clone();
        world.nodes[clone].id = world.id(2);
        world.nodes[clone].connect = vec![world.pinned(0)];
        world.run(secs(1));
        world.start(clone);
        world.until("the older one stops", secs(30), |w| w.nodes[2].cloned);
        world.run(secs(5));
        assert!(!world.nodes[clone].cloned && world.sees(0, clone));
    }
}
