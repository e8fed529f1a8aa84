//! Who is there: deaths, departures, and deaths that were none.

use std::time::Duration;

use crate::measure::{Samples, leave_to_next, settled};
use crate::options::Options;
use crate::report::{Outcome, Unit};
use crate::world::{World, secs};

const NODES: usize = 1_000;
const KILLS: usize = 20;
/// A killed node is offline for 99 of 100 others within this.
const KILLED_P99_MS: f64 = 3_000.0;
/// A node that leaves is gone for 99 of 100 others within this.
const LEFT_P99_MS: f64 = 500.0;
const LIMIT: Duration = Duration::from_secs(60);

/// 20 kills, one after another: when does nobody count the dead one as online?
pub(crate) fn killed(options: &Options) -> Outcome {
    departures(options, KILLED_P99_MS, World::kill)
}

/// The same for nodes that say that they leave.
pub(crate) fn leave(options: &Options) -> Outcome {
    departures(options, LEFT_P99_MS, World::announce_leave)
}

fn departures(options: &Options, goal: f64, depart: fn(&mut World, usize)) -> Outcome {
    let nodes = options.nodes_or(NODES);
    let mut world = match settled(options, nodes, 0.01) {
        Ok(world) => world,
        Err(outcome) => return outcome,
    };
    let kills = KILLS.min(nodes / 2);
    let (mut each, mut last) = (Samples::default(), Samples::default());
    for n in 0..kills {
        let node = n * nodes / kills;
        depart(&mut world, node);
        let others = world.running().into_iter().filter(|n| *n != node);
        let others = others.collect();
        let gone = |w: &World, other: usize| !w.online(other, node);
        let took = each.watch(&mut world, others, LIMIT, gone);
        last.add(took.unwrap_or(Duration::MAX));
        if world.runs(node) {
            world.end(node);
        }
        // Not in step with any timer.
        world.run(secs(5) + Duration::from_millis(137 * n as u64));
    }
    leave_to_next(options, world);
    Outcome::new(nodes)
        .figure("median", each.at(500), Unit::Milliseconds)
        .goal("p99", each.at(990), Unit::Milliseconds, goal)
        .figure("max", last.at(1_000), Unit::Milliseconds)
}

/// One hour at 5 % loss in which nobody dies: who is said to be down?
pub(crate) fn false_positives(options: &Options) -> Outcome {
    let nodes = options.nodes_or(NODES);
    let mut world = match settled(options, nodes, 0.05) {
        Ok(world) => world,
        Err(outcome) => return outcome,
    };
    let (downs, lost) = (world.stats.downs, world.stats.delayed);
    world.run(secs(3600));
    let (downs, lost) = (world.stats.downs - downs, world.stats.delayed - lost);
    options.keep(world);
    Outcome::new(nodes)
        .goal("nodes said to be down", downs as f64, Unit::Count, 0.0)
        .figure("lost packets", lost as f64, Unit::Count)
}
