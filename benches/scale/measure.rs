//! Worlds to measure in, and samples.

use std::time::Duration;

use crate::options::Options;
use crate::report::Outcome;
use crate::world::{World, ms, secs};

/// Between two looks; no figure is finer.
const STEP: Duration = Duration::from_millis(5);
/// Machines of a crowd start within this time.
const START_WITHIN: Duration = Duration::from_secs(5);
/// A network that does not know all its nodes after this long never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// After that, what it has to say once is said.
pub(crate) const CALM: Duration = Duration::from_secs(60);

/// A world of links over some distance, with this share of packets lost.
pub(crate) fn wide_world(seed: u64, loss: f64) -> World {
    let mut world = World::large(seed);
    world.net.distance = (ms(40), ms(60));
    world.net.latency = (ms(0), ms(5));
    world.net.loss = loss;
    world.net.dial_limit = secs(10);
    world
}

/// A network that knows all its nodes and has said so.
///
/// # Errors
/// It does not come to know them; what was found is the outcome.
pub(crate) fn settled(options: &Options, nodes: usize, loss: f64) -> Result<World, Outcome> {
    if let Some(mut world) = options.kept(nodes) {
        world.net.loss = loss;
        return Ok(world);
    }
    let mut world = wide_world(options.seed, loss);
    settle(&mut world, nodes).map(|()| world)
}

/// Starts whoever was stopped, waits until all is well, and leaves the world to the next scenario.
pub(crate) fn leave_to_next(options: &Options, mut world: World) {
    for node in 0..world.nodes.len() {
        if !world.runs(node) {
            world.start(node);
        }
    }
    if world.settle(PATIENCE).is_some() {
        world.run(CALM);
        options.keep(world);
    }
}

/// Adds `nodes` machines and waits until all know all.
pub(crate) fn settle(world: &mut World, nodes: usize) -> Result<(), Outcome> {
    world.crowd(nodes, START_WITHIN);
    if world.settle(PATIENCE).is_none() {
        let said = format!(
            "not all nodes know each other after {} s",
            PATIENCE.as_secs()
        );
        return Err(Outcome::new(nodes).problem(said));
    }
    world.run(CALM);
    Ok(())
}

/// How long things took; what did not happen in time took longer than anything.
#[derive(Default)]
pub(crate) struct Samples {
    all: Vec<Duration>,
}

impl Samples {
    /// `of` 1,000 samples took at most this many milliseconds, by nearest rank.
    pub(crate) fn at(&mut self, of: usize) -> f64 {
        self.all.sort_unstable();
        let rank = (of * self.all.len()).div_ceil(1_000);
        let sample = self.all.get(rank.saturating_sub(1));
        sample.map_or(f64::NAN, |took| match *took {
            Duration::MAX => f64::INFINITY,
            took => took.as_secs_f64() * 1_000.0,
        })
    }

    pub(crate) fn add(&mut self, took: Duration) {
        self.all.push(took);
    }

    /// Lets time pass until `there` holds for each of `nodes`: one sample for each, and how long
    /// the last one took, `None` if it takes longer than `limit`.
    pub(crate) fn watch(
        &mut self,
        world: &mut World,
        mut nodes: Vec<usize>,
        limit: Duration,
        there: impl Fn(&World, usize) -> bool,
    ) -> Option<Duration> {
        let start = world.time;
        let took = world.wait(limit, STEP, |world| {
            nodes.retain(|node| {
                let is_there = there(world, *node);
                if is_there {
                    self.all.push(world.time - start);
                }
                !is_there
            });
            nodes.is_empty()
        });
        self.all.extend(nodes.iter().map(|_| Duration::MAX));
        took
    }
}

/// What `of` 1,000 values of a rising list do not exceed.
pub(crate) fn quantile(rising: &[u64], of: usize) -> f64 {
    let rank = (of * rising.len()).div_ceil(1_000);
    rising
        .get(rank.saturating_sub(1))
        .map_or(f64::NAN, |value| *value as f64)
}
