//! How entries come to be everywhere.

use std::time::Duration;

use warren::mesh::wire::Frame;

use crate::measure::{Samples, settled};
use crate::options::Options;
use crate::report::{Outcome, Unit};
use crate::world::{World, ms, secs};

const NODES: usize = 1_000;
const WRITES: usize = 20;
/// An entry is everywhere within this, for 99 of 100 nodes and writes.
const ENTRY_P99_MS: f64 = 1_000.0;
/// A newcomer's network, and what it holds.
const JOINED: usize = 1_000;
const HELD: usize = 10_000;
/// A newcomer has all of it within this, for this much more traffic than the entries alone.
const JOIN_MS: f64 = 2_000.0;
const JOIN_RATIO: f64 = 1.5;
const LIMIT: Duration = Duration::from_secs(120);

/// 20 writes by different nodes at 1 % loss: when is each on every node?
pub(crate) fn entry(options: &Options) -> Outcome {
    let nodes = options.nodes_or(NODES);
    let mut world = match settled(options, nodes, 0.01) {
        Ok(world) => world,
        Err(outcome) => return outcome,
    };
    let (mut each, mut last) = writes(&mut world, nodes);
    options.keep(world);
    Outcome::new(nodes)
        .figure("median", each.at(500), Unit::Milliseconds)
        .goal("p99", each.at(990), Unit::Milliseconds, ENTRY_P99_MS)
        .figure("last node's median", last.at(500), Unit::Milliseconds)
        .figure("max", last.at(1_000), Unit::Milliseconds)
}

/// Twenty writes: for each node and write how long it took, and for each write the last node.
pub(crate) fn writes(world: &mut World, nodes: usize) -> (Samples, Samples) {
    let (mut each, mut last) = (Samples::default(), Samples::default());
    for n in 0..WRITES {
        let author = n * nodes / WRITES;
        let entry = world.put(author, &format!("entry {n}"), Some("v"));
        let others = (0..nodes).filter(|node| *node != author).collect();
        let there = |w: &World, node: usize| w.brain(node).ledger().get(&entry.slot).is_some();
        let took = each.watch(world, others, LIMIT, there);
        last.add(took.unwrap_or(Duration::MAX));
        world.run(secs(1));
    }
    (each, last)
}

/// A node joins a network with 10,000 entries.
pub(crate) fn join(options: &Options) -> Outcome {
    let nodes = options.nodes_or(JOINED);
    let mut world = match settled(options, nodes, 0.01) {
        Ok(world) => world,
        Err(outcome) => return outcome,
    };
    let value = "x".repeat(64);
    let mut entries = Vec::new();
    for n in 0..HELD {
        entries.push(world.put(n % nodes, &format!("key {n}"), Some(&value)));
        world.run(ms(2));
    }
    let durable = |w: &World, node: usize| w.brain(node).ledger().len() >= HELD + w.nodes.len();
    let all = (0..nodes).collect();
    if Samples::default()
        .watch(&mut world, all, LIMIT, durable)
        .is_none()
    {
        return Outcome::new(nodes).problem("not all nodes have all entries");
    }
    world.run(secs(60));
    let bytes = Frame::Entries(entries.clone()).encode().len();
    let node = world.machine();
    for contact in [0, nodes / 3, nodes / 2] {
        let contact = world.pinned(contact);
        world.nodes[node].connect.push(contact);
    }
    world.start(node);
    let has_all = |w: &World, node: usize| {
        let ledger = w.brain(node).ledger();
        ledger.len() >= HELD && entries.iter().all(|e| ledger.get(&e.slot).is_some())
    };
    let mut took = Samples::default();
    took.watch(&mut world, vec![node], LIMIT, has_all);
    let received = world.nodes[node].traffic.received as f64;
    Outcome::new(nodes)
        .goal(
            "all entries after",
            took.at(1_000),
            Unit::Milliseconds,
            JOIN_MS,
        )
        .goal("received", received / bytes as f64, Unit::Times, JOIN_RATIO)
}
