//! What a network makes of faults: halves that heal, and small networks in which all goes wrong.

use std::time::Duration;

use warren::mesh::entry::Entry;

use crate::measure::{Samples, settled};
use crate::options::Options;
use crate::report::{Outcome, Unit};
use crate::world::churn::Churn;
use crate::world::{World, ms};

const NODES: usize = 1_000;
const APART: Duration = Duration::from_secs(600);
const WRITES_A_SIDE: u32 = 1_000;
/// After this all is as if there had been no partition.
const HEALED_MS: f64 = 3_000.0;
const HEAL_LIMIT: Duration = Duration::from_secs(300);

/// Ten minutes in two halves, with writes on both sides.
pub(crate) fn heal(options: &Options) -> Outcome {
    let nodes = options.nodes_or(NODES);
    let mut world = match settled(options, nodes, 0.01) {
        Ok(world) => world,
        Err(outcome) => return outcome,
    };
    let half: Vec<usize> = (0..nodes / 2).collect();
    world.partition(&half);
    let mut written = Vec::new();
    let pause = APART / WRITES_A_SIDE;
    for n in 0..WRITES_A_SIDE {
        for first in [0, nodes / 2] {
            let author = first + n as usize % (nodes / 2);
            written.push(world.put(author, &format!("key {n}"), Some("v")));
        }
        world.run(pause);
    }
    world.heal();
    let start = world.time;
    let all: Vec<usize> = (0..nodes).collect();
    let mut entries = Samples::default();
    entries.watch(&mut world, all.clone(), HEAL_LIMIT, |w, node| {
        holds(w, node, &written)
    });
    let online = world.settle(HEAL_LIMIT).map(|_| world.time - start);
    let same = world.wait(HEAL_LIMIT, ms(100), |w| {
        let first = fingerprint(w, 0);
        all.iter().all(|node| fingerprint(w, *node) == first)
    });
    let equal = same.map(|_| world.time - start);
    let lost = written.iter().filter(|entry| {
        let slot = &entry.slot;
        let mut brains = all.iter().map(|node| world.brain(*node));
        brains.any(|brain| brain.ledger().get(slot).is_none())
    });
    let lost = lost.count() as f64;
    let took = |took: Option<Duration>| took.map_or(f64::INFINITY, |t| t.as_secs_f64() * 1_000.0);
    Outcome::new(nodes)
        .figure("entries everywhere", entries.at(1_000), Unit::Milliseconds)
        .goal("all online", took(online), Unit::Milliseconds, HEALED_MS)
        .goal("ledgers equal", took(equal), Unit::Milliseconds, HEALED_MS)
        .goal("lost entries", lost, Unit::Count, 0.0)
}

fn holds(world: &World, node: usize, written: &[Entry]) -> bool {
    let ledger = world.brain(node).ledger();
    ledger.len() >= written.len() && written.iter().rev().all(|e| ledger.get(&e.slot).is_some())
}

/// Equal for equal sets of entries.
fn fingerprint(world: &World, node: usize) -> [u8; 32] {
    let mut sum = [0; 32];
    for id in world.brain(node).ledger().ids() {
        sum.iter_mut()
            .zip(id.0)
            .for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// Many small networks of 5 to 12 nodes, in which nodes die, leave, return and are parted.
pub(crate) fn churn(options: &Options) -> Outcome {
    let (mut ghosts, mut unseen, mut faults) = (0, 0, 0);
    let mut failed = Vec::new();
    for seed in options.seed..options.seed + options.runs {
        let found = Churn::run(seed, options.nodes);
        ghosts += found.ghosts;
        unseen += found.unseen;
        faults += found.faults;
        if found.ghosts + found.unseen > 0 {
            failed.push(seed);
        }
    }
    let outcome = Outcome::new(options.nodes_or(12))
        .figure("networks", options.runs as f64, Unit::Count)
        .figure("faults", faults as f64, Unit::Count)
        .figure("networks with an error", failed.len() as f64, Unit::Count)
        .goal("departed but online", ghosts as f64, Unit::Count, 0.0)
        .goal("alive but offline", unseen as f64, Unit::Count, 0.0);
    match failed.as_slice() {
        [] => outcome,
        [first, ..] => outcome.problem(format!("`--only churn --runs 1 --seed {first}`")),
    }
}
