//! Small networks in which nodes die, leave, return and are parted, all at once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{World, ms, secs};

/// After this a departed node is online nowhere, and a living one everywhere it can be reached.
const QUIET: Duration = Duration::from_secs(10);
/// Bursts of faults in one small network, and faults in each.
const BURSTS: usize = 3;
const FAULTS: usize = 8;

/// One small network, and what it may believe.
pub(crate) struct Churn {
    world: World,
    chance: SmallRng,
    /// Since when a node is gone.
    gone: BTreeMap<usize, Duration>,
    side: Vec<bool>,
    found: Found,
}

/// What was seen in one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Looks at which some node showed a departed one as online.
    pub(crate) ghosts: u64,
    /// Pairs of which one did not show the other as online, though it could reach it.
    pub(crate) unseen: u64,
    pub(crate) faults: u64,
}

impl Churn {
    /// The network of this seed, of as many nodes or of 5 to 12.
    pub(crate) fn run(seed: u64, nodes: Option<usize>) -> Found {
        let mut churn = Self::new(seed, nodes);
        for _ in 0..BURSTS {
            churn.burst();
            churn.quiet();
        }
        churn.world.heal();
        churn.side.fill(false);
        churn.quiet();
        churn.found
    }

    fn new(seed: u64, nodes: Option<usize>) -> Self {
        let mut chance = SmallRng::seed_from_u64(seed);
        let nodes = nodes.unwrap_or_else(|| chance.random_range(5..=12));
        let mut world = World::large(seed);
        world.detail.disks = true;
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
            found: Found {
                unseen: u64::from(settled.is_none()),
                ..Found::default()
            },
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
        self.found.faults += 1;
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
            _ => self.found.faults -= 1,
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
                self.found.ghosts += ghosts.count() as u64;
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
            self.found.unseen += unseen.count() as u64;
        }
    }
}
