//! Random worlds end alike everywhere, and as a naive model says: the greatest of everything that
//! was acknowledged.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use warren::mesh::entry::{Class, Entry, Slot};

use crate::world::{World, for_seeds, long, ms, secs};

/// What every node must hold in the end.
#[derive(Default)]
struct Model(BTreeMap<Slot, Entry>);

impl Model {
    fn acknowledged(&mut self, entry: Entry) {
        let greater = |old: &Entry| old.cmp_rank(&entry).is_lt();
        if self.0.get(&entry.slot).is_none_or(greater) {
            self.0.insert(entry.slot.clone(), entry);
        }
    }
}

/// One thing that goes wrong, or is written.
fn disturb(world: &mut World, model: &mut Model, chance: &mut SmallRng) {
    let count = world.nodes.len();
    let node = chance.random_range(0..count);
    let other = chance.random_range(0..count);
    let runs = world.runs(node);
    match chance.random_range(0..16) {
        0..=5 if runs => {
            let key = format!("k{}", chance.random_range(0..6));
            // Pushed, or offered and fetched.
            let len = [10, 900, 5_000, 60_000][chance.random_range(0..4)];
            let value = "x".repeat(len);
            let value = chance.random_bool(0.8).then_some(value.as_str());
            model.acknowledged(world.put(node, &key, value));
        }
        6 | 7 if runs => world.expose(node, "federated", chance.random()),
        8 if runs => world.kill(node),
        9 if runs => world.restart(node),
        10 if runs => world.leave(node),
        11 => {
            let side: Vec<usize> = (0..count).filter(|_| chance.random()).collect();
            world.partition(&side);
        }
        12 => world.cut_one_way(node, other),
        13 => world.heal(),
        14 => world.refuse_dials(node.min(other), node.max(other)),
        _ if !runs => world.start(node),
        _ => {}
    }
}

/// What `node` holds that counts: who has met a later start of an author that is gone keeps less
/// of what it said while it lived.
fn counting(world: &World, node: usize) -> Vec<Entry> {
    let all = world.ledger(node).into_iter();
    all.filter(|entry| world.brain(node).is_current(entry))
        .collect()
}

/// What is not as it should be on any node, once all but `absent` run.
fn differences(world: &World, absent: usize) -> Vec<String> {
    let running = world.running();
    let first = counting(world, running[0]);
    let mut all = Vec::new();
    for node in running {
        for other in (0..world.nodes.len()).filter(|other| *other != node) {
            if world.sees(node, other) != (other != absent) {
                all.push(format!("{node} is wrong about {other}"));
            }
        }
        let ledger = counting(world, node);
        if ledger != first {
            let missing = first.iter().filter(|entry| !ledger.contains(entry)).count();
            let more = ledger.iter().filter(|entry| !first.contains(entry)).count();
            all.push(format!(
                "{node} lacks {missing} entries and has {more} others"
            ));
        }
    }
    all
}

#[test]
fn any_world_ends_alike_everywhere_and_as_the_model_says() {
    for_seeds(if long() { 600 } else { 20 }, |mut world| {
        let mut chance = SmallRng::seed_from_u64(world.seed + 7_000);
        world.net.loss = chance.random_range(0.0..0.2);
        world.net.distance = (ms(0), ms(chance.random_range(1..80)));
        world.net.latency = (ms(1), ms(chance.random_range(2..40)));
        let count = chance.random_range(4..=12);
        world.crowd(count, secs(2));
        let mut model = Model::default();
        for _ in 0..chance.random_range(20..80) {
            disturb(&mut world, &mut model, &mut chance);
            world.run(ms(chance.random_range(0..1500)));
        }
        world.heal();
        let absent = chance.random_range(0..count);
        for node in 0..count {
            match (node == absent, world.runs(node)) {
                (true, true) => world.kill(node),
                (false, false) => world.start(node),
                _ => {}
            }
        }
        let right = |world: &World| differences(world, absent).is_empty();
        if world.wait(secs(90), ms(200), right).is_none() {
            panic!("they do not agree: {:#?}", differences(&world, absent));
        }
        let durable = world.ledger(world.running()[0]).into_iter();
        let durable: Vec<Entry> = durable.filter(|e| e.slot.class == Class::Durable).collect();
        let lost = world.nodes[absent].id;
        let of_others = |entries: Vec<Entry>| -> Vec<Entry> {
            // What only the one that is off has seen, it keeps for its return.
            entries
                .into_iter()
                .filter(|e| e.slot.author != lost)
                .collect()
        };
        assert_eq!(
            of_others(durable),
            of_others(model.0.into_values().collect())
        );
    });
}
