//! What it costs: bytes of an idle network, and the simulator itself.

use std::time::Instant;

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::wire::Frame;

use crate::measure::{quantile, settle, settled, wide_world};
use crate::options::Options;
use crate::report::{Outcome, Unit};
use crate::spread::writes;
use crate::world::{NETWORK, World, ms, secs};

const SIZES: [usize; 3] = [10, 20, 1_000];
const TEN_THOUSAND: usize = 10_000;
/// What a node of an idle network sends at most, everything counted.
const IDLE_BYTES_PER_S: f64 = 2_048.0;
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
                outcome = watch_idle(outcome, &mut world, &format!("{nodes} nodes: "));
                options.keep(world);
            }
            Err(failed) => return failed,
        }
    }
    outcome
}

fn watch_idle(outcome: Outcome, world: &mut World, size: &str) -> Outcome {
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
            IDLE_BYTES_PER_S,
        )
}

/// 10,000 nodes: how fast an entry spreads, and what being idle costs.
pub(crate) fn ten_thousand(options: &Options) -> Outcome {
    let nodes = options.nodes_or(TEN_THOUSAND);
    let mut world = wide_world(options.seed, 0.01);
    if let Err(outcome) = settle(&mut world, nodes) {
        return outcome;
    }
    let (mut each, mut last) = writes(&mut world, nodes);
    let outcome = Outcome::new(nodes)
        .goal("p99", each.at(990), Unit::Milliseconds, ENTRY_P99_MS)
        .figure("max", last.at(1_000), Unit::Milliseconds);
    world.run(secs(60));
    watch_idle(outcome, &mut world, "")
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
