//! Members that take part and pass nothing on.

use crate::world::{World, for_seeds, secs};

use super::Crowd;
use warren::mesh::wire::Frame;

#[test]
fn neighbours_that_forward_nothing_delay_nothing() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 14, 4);
        for puppet in 0..4 {
            crowd.tell(puppet, &Frame::Neighbour(true));
        }
        crowd.world.run(secs(20));
        crowd.calm();
        let big = "x".repeat(30_000);
        crowd.world.put(5, "big", Some(&big));
        crowd.world.expose(6, "federated", true);
        let there = |w: &World| {
            (0..14).all(|n| w.value(n, 5, "big").is_some() && w.usable(n, "federated").len() == 1)
        };
        crowd.world.until("written", secs(2), there);
        crowd.world.kill(9);
        let gone = |w: &World| w.running().iter().all(|n| !w.sees(*n, 9));
        crowd.world.until("gone", secs(4), gone);
        crowd.world.leave(10);
        let left = |w: &World| w.running().iter().all(|n| !w.shows(*n, 10));
        crowd.world.until("left", secs(1), left);
        crowd.world.start(9);
        let back = |w: &World| {
            let running = w.running();
            running
                .iter()
                .all(|n| *n == 9 || (w.sees(*n, 9) && w.sees(9, *n)))
        };
        crowd.world.until("back", secs(3), back);
    });
}
