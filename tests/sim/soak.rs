//! Everything at once, then quiet: all nodes must agree.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::world::{World, for_seeds, ms, secs};

#[test]
fn after_any_mix_of_faults_and_writes_all_ledgers_and_views_agree() {
    for_seeds(20, |mut world| {
        const NODES: usize = 6;
        let mut chance = SmallRng::seed_from_u64(world.seed + 1000);
        world.net.loss = 0.05;
        world.net.repair = ms(250);
        world.net.tunnel = ms(1500);
        // Some can be reached one way only; node 0 introduces the others and can be dialled.
        for _ in 0..world.seed % 4 {
            let from = chance.random_range(0..NODES - 1);
            world.refuse_dials(from, chance.random_range(from + 1..NODES));
        }
        world.mesh(NODES);
        let mut frozen = [false; NODES];
        for _ in 0..60 {
            let node = chance.random_range(0..NODES);
            let ready = world.runs(node) && !frozen[node];
            let key = format!("k{}", chance.random_range(0..4));
            match chance.random_range(0..14) {
                0..=2 if ready => drop(world.put(node, &key, Some("v"))),
                3 if ready => drop(world.put(node, &key, None)),
                4 if ready => world.expose(node, "federated", chance.random()),
                5 if world.runs(node) => {
                    frozen[node] = false;
                    world.kill(node);
                }
                6 if !world.runs(node) => world.start(node),
                7 if ready => world.restart(node),
                8 if ready => {
                    frozen[node] = true;
                    world.freeze(node);
                }
                9 if frozen[node] => {
                    frozen[node] = false;
                    world.thaw(node);
                }
                10 => {
                    let other = chance.random_range(0..NODES);
                    world.partition(&[node, other]);
                }
                11 => world.heal(),
                12 if ready => world.leave(node),
                13 if !world.runs(node) => world.start(node),
                _ => {}
            }
            world.run(ms(chance.random_range(0..1500)));
        }
        world.heal();
        for (node, asleep) in frozen.iter().enumerate() {
            if *asleep {
                world.thaw(node);
            }
            if !world.runs(node) {
                world.start(node);
            }
        }
        world.until("whole", secs(60), World::whole);
        world.run(secs(5));
        assert!(world.whole());
        for node in 1..NODES {
            assert_eq!(world.ledger(node), world.ledger(0), "node {node}");
            assert_eq!(
                world.usable(node, "federated"),
                world.usable(0, "federated")
            );
        }
        for machine in &world.nodes {
            let durable = world.ledger(0).iter().filter(|e| e.boot == 0).count();
            assert_eq!(machine.disk.entries.len(), durable);
            assert!(!machine.cloned);
        }
        assert!(world.stats.delayed > 0 && world.stats.frames > 100);
    });
}
