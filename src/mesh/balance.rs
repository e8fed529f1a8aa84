//! Which node gets the next connection. Pure: `now` and `rng` are arguments.
//!
//! Least-used counts what is in flight *now*. Lifetime counts play no part: as a tie-break they
//! would send everything to a newcomer until it had caught up.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::id::NodeId;

/// Rule by which [`Balancer::pick`] chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Fewest in flight, ties by longest since last chosen (never chosen first), then node id.
    #[default]
    LeastUsed,
    /// Uniform.
    Random,
}

/// Gauges of one ingress. Call [`pick`](Self::pick), then [`begin`](Self::begin) with the node
/// it named, then exactly one [`end`](Self::end) when that connection is over.
#[derive(Debug, Default)]
pub struct Balancer {
    nodes: BTreeMap<NodeId, Gauge>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    in_flight: u64,
    last_chosen: Option<Duration>,
}

impl Balancer {
    /// Chooses one of `candidates` that is not in `exclude`; `None` if nothing is left.
    ///
    /// `now` is monotonic time and becomes the node's "last chosen". Nodes that are no longer
    /// candidates and have nothing in flight are forgotten, so memory follows the candidates.
    pub fn pick(
        &mut self,
        candidates: &[NodeId],
        policy: Policy,
        now: Duration,
        rng: &mut impl Rng,
        exclude: &[NodeId],
    ) -> Option<NodeId> {
        if self.nodes.len() > candidates.len() {
            self.nodes
                .retain(|id, gauge| gauge.in_flight > 0 || candidates.contains(id));
        }
        let open = || candidates.iter().filter(|id| !exclude.contains(id));
        let chosen = match policy {
            Policy::LeastUsed => open().min_by_key(|id| self.rank(id)).copied()?,
            Policy::Random => {
                let left = open().count();
                if left == 0 {
                    return None;
                }
                open().nth(rng.random_range(0..left)).copied()?
            }
        };
        self.nodes.entry(chosen).or_default().last_chosen = Some(now);
        Some(chosen)
    }

    /// A connection to `node` starts.
    pub fn begin(&mut self, node: NodeId) {
        let gauge = self.nodes.entry(node).or_default();
        gauge.in_flight = gauge.in_flight.saturating_add(1);
    }

    /// A connection to `node` is over. Without a matching [`begin`](Self::begin) nothing happens.
    pub fn end(&mut self, node: NodeId) {
        if let Some(gauge) = self.nodes.get_mut(&node) {
            gauge.in_flight = gauge.in_flight.saturating_sub(1);
        }
    }

    /// Connections to `node` now.
    pub fn in_flight(&self, node: NodeId) -> u64 {
        self.nodes.get(&node).map_or(0, |gauge| gauge.in_flight)
    }

    /// Nodes remembered, for tests of the memory bound.
    pub fn remembered(&self) -> usize {
        self.nodes.len()
    }

    fn rank(&self, id: &NodeId) -> (u64, Option<Duration>, NodeId) {
        let gauge = self.nodes.get(id).copied().unwrap_or_default();
        (gauge.in_flight, gauge.last_chosen, *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::collections::HashMap;

    fn ids(count: u8) -> Vec<NodeId> {
        (0..count)
            .map(|n| Identity::from_seed(&[n + 1; 32]).id())
            .collect()
    }

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(7)
    }

    #[test]
    fn requests_one_after_another_spread_evenly() {
        let nodes = ids(3);
        let mut balancer = Balancer::default();
        let mut counts = HashMap::new();
        for tick in 0..300 {
            let now = Duration::from_millis(tick);
            let node = balancer
                .pick(&nodes, Policy::LeastUsed, now, &mut rng(), &[])
                .unwrap();
            balancer.begin(node);
            balancer.end(node);
            *counts.entry(node).or_insert(0) += 1;
        }
        assert!(counts.values().all(|&count| count == 100), "{counts:?}");
    }

    #[test]
    fn slow_requests_side_by_side_spread_evenly() {
        let nodes = ids(3);
        let mut balancer = Balancer::default();
        for _ in 0..30 {
            let node = balancer
                .pick(&nodes, Policy::LeastUsed, Duration::ZERO, &mut rng(), &[])
                .unwrap();
            balancer.begin(node);
        }
        assert!(nodes.iter().all(|&node| balancer.in_flight(node) == 10));
    }

    #[test]
    fn random_reaches_every_node_and_spares_the_excluded() {
        let nodes = ids(4);
        let mut balancer = Balancer::default();
        let mut rng = rng();
        let mut seen = HashMap::new();
        for _ in 0..4000 {
            let node = balancer
                .pick(
                    &nodes,
                    Policy::Random,
                    Duration::ZERO,
                    &mut rng,
                    &nodes[..1],
                )
                .unwrap();
            *seen.entry(node).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.get(&nodes[0]), None);
        assert!(
            nodes[1..]
                .iter()
                .all(|node| (1200..1470).contains(&seen[node]))
        );
    }

    #[test]
    fn memory_follows_the_candidates() {
        let nodes = ids(40);
        let mut balancer = Balancer::default();
        for node in &nodes {
            balancer.pick(&[*node], Policy::LeastUsed, Duration::ZERO, &mut rng(), &[]);
        }
        assert_eq!(
            balancer.remembered(),
            1 + 1,
            "the last pick and its forerunner"
        );
    }

    /// The rule as a sentence: sort everything, take the first.
    fn oracle(
        state: &HashMap<NodeId, (u64, Option<u64>)>,
        candidates: &[NodeId],
        exclude: &[NodeId],
    ) -> Option<NodeId> {
        let mut all: Vec<_> = candidates
            .iter()
            .filter(|id| !exclude.contains(id))
            .map(|id| {
                let (in_flight, last) = state.get(id).copied().unwrap_or((0, None));
                (in_flight, last.map_or(0, |at| at + 1), *id)
            })
            .collect();
        all.sort();
        all.first().map(|(_, _, id)| *id)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pick { candidates: u8, exclude: u8 },
        End { nth: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (any::<u8>(), any::<u8>())
                .prop_map(|(candidates, exclude)| Step::Pick { candidates, exclude: exclude & 0x11 }),
            2 => any::<usize>().prop_map(|nth| Step::End { nth }),
        ]
    }

    fn subset(nodes: &[NodeId], mask: u8) -> Vec<NodeId> {
        let chosen = nodes.iter().enumerate();
        chosen
            .filter(|(at, _)| mask & (1 << at) != 0)
            .map(|(_, id)| *id)
            .collect()
    }

    proptest! {
        #[test]
        fn least_used_agrees_with_the_oracle(steps in prop::collection::vec(step(), 1..200)) {
            let nodes = ids(8);
            let mut balancer = Balancer::default();
            let mut state: HashMap<NodeId, (u64, Option<u64>)> = HashMap::new();
            let mut running = Vec::new();
            for (tick, step) in (0_u64..).zip(steps) {
                match step {
                    Step::Pick { candidates, exclude } => {
                        let candidates = subset(&nodes, candidates);
                        let exclude = subset(&nodes, exclude);
                        if state.len() > candidates.len() {
                            state.retain(|id, s| s.0 > 0 || candidates.contains(id));
                        }
                        let expected = oracle(&state, &candidates, &exclude);
                        let now = Duration::from_secs(tick);
                        let got = balancer.pick(
                            &candidates, Policy::LeastUsed, now, &mut rng(), &exclude);
                        prop_assert_eq!(got, expected);
                        if let Some(node) = got {
                            balancer.begin(node);
                            let entry = state.entry(node).or_default();
                            *entry = (entry.0 + 1, Some(tick));
                            running.push(node);
                        }
                    }
                    Step::End { nth } if !running.is_empty() => {
                        let node = running.swap_remove(nth % running.len());
                        balancer.end(node);
                        state.get_mut(&node).unwrap().0 -= 1;
                    }
                    Step::End { .. } => {}
                }
            }
            for node in &nodes {
                let expected = state.get(node).map_or(0, |s| s.0);
                prop_assert_eq!(balancer.in_flight(*node), expected);
            }
        }
    }
}
