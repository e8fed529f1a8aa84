//! What a network makes of faults: halves that heal, and small networks in which all goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use warren::mesh::entry::Entry;

use crate::measure::{Samples, settled};
use crate::options::Options;
use crate::report::{Outcome, Unit};
use crate::world::{World, ms, secs};

const NODES: usize = 1_000;
const APART: Duration = Duration::from_secs(600);
const WRITES_A_SIDE: u32 = 1_000;
/// After this all is as if there had been no partition.
const HEALED_MS: f64 = 3_000.0;
const HEAL_LIMIT: Duration = Duration::from_secs(300);
/// After this a departed node is online nowhere, and a living one everywhere it can be reached.
const QUIET: Duration = Duration::from_secs(10);
/// Bursts of faults in one small network, and faults in each.
const BURSTS: usize = 3;
const FAULTS: usize = 8;

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
        let mut churn = Churn::new(seed, options.nodes);
        for _ in 0..BURSTS {
            churn.burst();
            churn.quiet();
        }
        churn.world.heal();
        churn.side.fill(false);
        churn.quiet();
        ghosts += churn.ghosts;
        unseen += churn.unseen;
        faults += churn.faults;
        if churn.ghosts + churn.unseen > 0 {
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

/// One small network, and what it may believe.
struct Churn {
    world: World,
    chance: SmallRng,
    /// Since when a node is gone.
    gone: BTreeMap<usize, Duration>,
    side: Vec<bool>,
    ghosts: u64,
    unseen: u64,
    faults: u64,
}

impl Churn {
    fn new(seed: u64, nodes: Option<usize>) -> Self {
        let mut chance = SmallRng::seed_from_u64(seed);
        let nodes = nodes.unwrap_or_else(|| chance.random_range(5..=12));
        let mut world = World::large(seed);
        world.detail.disks = true;
        world.net.tell_acks = true;
        world.net.distance = (ms(1), ms(chance.random_range(2..80)));
        world.net.loss = [0.0, 0.01, 0.05][chance.random_range(0..3)];
        world.net.tunnel = ms(chance.random_range(0..2) * 1_500);
        world.crowd(nodes, secs(1));
        let settled = world.settle(secs(60));
        world.run(secs(1));
        Self {
            world,
            chance,
            gone: BTreeMap::new(),
            side: vec![false; nodes],
            ghosts: 0,
            unseen: u64::from(settled.is_none()),
            faults: 0,
        }
    }

    fn burst(&mut self) {
        for _ in 0..FAULTS {
            self.fault();
            let pause = ms(self.chance.random_range(0..2_000));
            self.pass(pause);
        }
    }

    fn fault(&mut self) {
        let node = self.chance.random_range(0..self.side.len());
        let runs = self.world.runs(node);
        self.faults += 1;
        match self.chance.random_range(0..10) {
            0..=2 if runs => self.depart(node, World::kill),
            3..=4 if runs => self.depart(node, World::leave),
            5 if runs => self.world.restart(node),
            6 => {
                self.world.heal();
                self.side.fill(false);
                for side in &mut self.side {
                    *side = self.chance.random();
                }
                let side = (0..self.side.len()).filter(|node| self.side[*node]);
                let side: Vec<usize> = side.collect();
                self.world.partition(&side);
            }
            7 => {
                self.world.heal();
                self.side.fill(false);
            }
            _ if !runs => {
                self.gone.remove(&node);
                self.world.start(node);
            }
            _ => self.faults -= 1,
        }
    }

    fn depart(&mut self, node: usize, depart: fn(&mut World, usize)) {
        depart(&mut self.world, node);
        self.gone.insert(node, self.world.time);
    }

    /// Time passes; nobody who is gone for long enough may be online.
    fn pass(&mut self, span: Duration) {
        let until = self.world.time + span;
        while self.world.time < until {
            let step = ms(250).min(until - self.world.time);
            self.world.run(step);
            let time = self.world.time;
            let long = self.gone.iter().filter(|(_, since)| time - **since > QUIET);
            for (node, _) in long {
                let running = self.world.running();
                let ghosts = running.iter().filter(|n| self.world.online(**n, *node));
                self.ghosts += ghosts.count() as u64;
            }
        }
    }

    /// After a while without faults all who can reach each other know it.
    fn quiet(&mut self) {
        self.pass(QUIET);
        let running = self.world.running();
        for a in &running {
            let others = running.iter().filter(|b| *b != a);
            let reachable = others.filter(|b| self.side[*a] == self.side[**b]);
            let unseen = reachable.filter(|b| !self.world.online(*a, **b));
            self.unseen += unseen.count() as u64;
        }
    }
}
