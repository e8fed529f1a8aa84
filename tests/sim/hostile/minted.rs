//! Identities are free for whoever holds the token: members that do not exist.

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::id::Identity;
use warren::mesh::suspicion::Suspicion;
use warren::mesh::wire::{Frame, MAX_ALIVE};

use super::{BOOT, Crowd, alive};
use crate::world::{NETWORK, World, for_seeds, long, ms, secs};

fn minted(count: u32) -> Vec<Identity> {
    let seed = |n: u32| {
        let mut seed = [77; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        seed
    };
    (0..count).map(|n| Identity::from_seed(&seed(n))).collect()
}

impl Crowd {
    fn mint(&mut self, count: u32) -> Vec<Identity> {
        let keys = minted(count);
        let all = keys.iter().map(|key| alive(key, BOOT, 0, LifeState::Alive));
        let all: Vec<Alive> = all.collect();
        for some in all.chunks(MAX_ALIVE) {
            let link = self.links[0][0];
            self.world.say(link, &Frame::Alive(some.to_vec()));
        }
        keys
    }
}

/// Every place near anybody on the rings is taken by somebody who does not exist. Who once had a
/// link keeps one, so that writes, deaths and newcomers are still heard of.
#[test]
fn members_that_do_not_exist_part_nobody() {
    let count = if long() { 8000 } else { 600 };
    for_seeds(2, |mut world| {
        world.detail.history = false;
        let mut crowd = Crowd::new(world, 12, 1);
        crowd.mint(count);
        let late = crowd.world.machine();
        crowd.world.nodes[late].connect = vec![crowd.world.pinned(4)];
        crowd.world.run(secs(60));
        crowd.world.start(late);
        crowd.world.run(secs(60));
        for node in crowd.world.running() {
            let others = crowd.world.running().into_iter().filter(|n| *n != node);
            assert!(
                others.clone().all(|n| crowd.world.online(node, n)),
                "{node}"
            );
            let linked = others.filter(|n| crowd.world.best(node, *n).is_some());
            // The newcomer has met its contact only.
            let few = if node == late { 1 } else { 2 };
            assert!(linked.count() >= few, "{node} is all but alone");
        }
        crowd.hears_writes();
        crowd.world.kill(9);
        let gone = |w: &World| w.running().iter().all(|n| !w.online(*n, 9));
        crowd.world.until("gone", secs(4), gone);
    });
}

/// Minted accusers lose nothing by being refuted; what their suspicions cost is bounded by how
/// often their subjects answer.
#[test]
fn accusers_that_are_minted_for_it_take_nobody_down() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 7, 1);
        let keys = crowd.mint(5);
        crowd.world.run(secs(1));
        crowd.forget_events();
        for round in 0..100 {
            let key = &keys[round % keys.len()];
            let all =
                (0..7).map(|node| Suspicion::sign(NETWORK, key, &crowd.world.brain(node).alive()));
            let all: Vec<Suspicion> = all.collect();
            crowd.tell(0, &Frame::Suspicions(all));
            crowd.world.run(ms(100));
        }
        for node in 0..7 {
            let answers = crowd.world.brain(node).alive().incarnation;
            assert!((3..=51).contains(&answers), "{answers} in ten seconds");
        }
        crowd.calm();
    });
}
