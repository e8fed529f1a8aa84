//! What it costs: bytes of an idle network, and the simulator itself.

use std::time::Instant;

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::wire::Frame;

use crate::measure::{CALM, PATIENCE, quantile, settled, wide_world};
use crate::options::Options;
use crate::report::{Outcome, Unit};
use crate::spread::writes;
use crate::world::{NETWORK, World, ms, secs};

const SIZES: [usize; 3] = [10, 20, 1_000];
const TEN_THOUSAND: usize = 10_000;
/// What a node of an idle network sends at most, everything counted.
const IDLE_BYTES_PER_S: f64 = 2_048.0;
/// The same among 10,000.
const IDLE_BYTES_10_000: f64 = 4_096.0;
/// How many of them know everybody.
const SAMPLE: usize = 50;
/// An entry is everywhere within this, for 99 of 100 nodes and writes, among 10,000.
const ENTRY_P99_MS: f64 = 2_000.0;
/// How long an idle network is watched.
const WATCHED_S: u64 = 60;
const OVERHEAD_FRAMES: u64 = 200_000;
/// What one frame may cost the simulator.
const OVERHEAD_US: f64 = 3.0;

/// One minute in which nothing happens, in networks of 10, 20 and 1,000 nodes.
pub(crate) fn idle(options: &Options) -> Outcome {
    let sizes = options.nodes.map_or(SIZES.to_vec(), |nodes| vec![nodes]);
    let most = sizes.iter().copied().max().unwrap_or_default();
    let mut outcome = Outcome::new(most);
    for nodes in sizes {
        match settled(options, nodes, 0.0) {
            Ok(mut world) => {
                outcome = watch_idle(
                    outcome,
                    &mut world,
                    &format!("{nodes} nodes: "),
                    IDLE_BYTES_PER_S,
                );
                options.keep(world);
            }
            Err(failed) => return failed,
        }
    }
    outcome
}

fn watch_idle(outcome: Outcome, world: &mut World, size: &str, most: f64) -> Outcome {
    world.reset_traffic();
    world.run(secs(WATCHED_S));
    let sent = world.sent();
    let rate = |of: usize| quantile(&sent, of) / WATCHED_S as f64;
    outcome
        .figure(format!("{size}idle p50"), rate(500), Unit::BytesPerSecond)
        .figure(format!("{size}idle p99"), rate(990), Unit::BytesPerSecond)
        .goal(
            format!("{size}idle max"),
            rate(1_000),
            Unit::BytesPerSecond,
            most,
        )
}

/// 10,000 nodes: how fast an entry spreads, and what being idle costs. A sample knows all of them,
/// the others their neighbours; see `tests/sim/world/sample.rs`.
pub(crate) fn ten_thousand(options: &Options) -> Outcome {
    let nodes = options.nodes_or(TEN_THOUSAND);
    let mut world = wide_world(options.seed, 0.01);
    world.acquainted(nodes, secs(30));
    if world.settle_acquainted(PATIENCE).is_none() {
        return Outcome::new(nodes).problem("not all nodes came to know their neighbours");
    }
    let sample: Vec<usize> = (0..nodes).step_by(nodes.div_ceil(SAMPLE)).collect();
    world.tell_all(&sample);
    world.run(CALM);
    let full = |node: &usize| (0..nodes).all(|other| other == *node || world.online(*node, other));
    if !sample.iter().all(full) {
        return Outcome::new(nodes).problem("the sample does not know everybody");
    }
    let (mut each, mut last) = writes(&mut world, nodes);
    let outcome = Outcome::new(nodes)
        .goal("p99", each.at(990), Unit::Milliseconds, ENTRY_P99_MS)
        .figure("max", last.at(1_000), Unit::Milliseconds);
    world.run(CALM);
    watch_idle(outcome, &mut world, "", IDLE_BYTES_10_000)
}

/// Frames that a brain only counts: what one costs the simulator, that brain's work included.
pub(crate) fn overhead(options: &Options) -> Outcome {
    let mut world = World::large(options.seed);
    world.mesh(1);
    let puppet = world.puppet();
    let hello = Alive::sign(
        NETWORK,
        &world.nodes[puppet].identity,
        1,
        0,
        LifeState::Alive,
    );
    let link = world.puppet_link(puppet, 0, hello);
    world.run(secs(1));
    let start = Instant::now();
    for _ in 0..OVERHEAD_FRAMES {
        world.say(link, &Frame::Unknown { kind: 999, len: 3 });
        // No faster than a link may speak.
        world.run(ms(1));
    }
    let took = start.elapsed().as_secs_f64() * 1e6 / OVERHEAD_FRAMES as f64;
    Outcome::new(1).goal("per frame", took, Unit::Microseconds, OVERHEAD_US)
}
