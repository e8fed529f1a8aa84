//! Paths that carry nothing, or one way only; and clocks that do not agree.

use crate::world::{World, for_seeds, secs};

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
