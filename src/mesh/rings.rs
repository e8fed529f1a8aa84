//! Who keeps a link to whom, computed alike by every node that knows the same members.
//!
//! Each of [`RINGS`] rings orders the members by another hash of their ids; a node's neighbours
//! are the next and the previous member on every ring (Suresh et al., "Stable and Consistent
//! Membership at Scale with Rapid", USENIX ATC 2018, §4). Such a graph is an expander: a thousand
//! nodes are about five hops apart, and no group of members is ever without a watcher outside of
//! it, because whoever takes a dead watcher's place on a ring is its successor there.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use aws_lc_rs::digest;

use super::entry::NetworkId;
use super::id::NodeId;

/// Rings; a node has twice as many neighbours, or less where they coincide.
pub const RINGS: usize = 3;

const LABEL: &[u8] = b"warren/1 rings\0";

/// A place on a ring. The id decides between two equal hashes.
type Place = (u64, NodeId);

/// Which way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To greater hashes: whom this node watches.
    Next,
    /// To lesser hashes: who watches this node.
    Previous,
}

/// The members on all rings.
#[derive(Clone, Debug)]
pub struct Rings {
    network: NetworkId,
    rings: [BTreeSet<Place>; RINGS],
}

impl Rings {
    /// Empty rings of `network`.
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            rings: Default::default(),
        }
    }

    /// Puts a member on every ring; true if it was on none.
    pub fn insert(&mut self, id: NodeId) -> bool {
        let places = self.places(id);
        let mut new = false;
        for (ring, place) in self.rings.iter_mut().zip(places) {
            new |= ring.insert((place, id));
        }
        new
    }

    /// Takes a member off every ring; true if it was there.
    pub fn remove(&mut self, id: NodeId) -> bool {
        let places = self.places(id);
        let mut was = false;
        for (ring, place) in self.rings.iter_mut().zip(places) {
            was |= ring.remove(&(place, id));
        }
        was
    }

    /// Members on the rings.
    pub fn len(&self) -> usize {
        self.rings.first().map_or(0, BTreeSet::len)
    }

    /// Whether nobody is on the rings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every member, in no order that anybody could choose.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let first = self.rings.first();
        first.into_iter().flatten().map(|(_, id)| *id)
    }

    /// The members after (or before) `from` on one ring, nearest first, each once, without
    /// `from`, which need not be on the ring itself.
    pub fn walk(&self, ring: usize, way: Way, from: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let here = self
            .places(from)
            .get(ring)
            .map_or((0, from), |place| (*place, from));
        let ring = self.rings.get(ring);
        let after = ring.map(|ring| ring.range((Excluded(here), Unbounded)));
        let before = ring.map(|ring| ring.range((Unbounded, Excluded(here))));
        let (after, before) = (after.into_iter().flatten(), before.into_iter().flatten());
        let round: Box<dyn Iterator<Item = &Place>> = match way {
            Way::Next => Box::new(after.chain(before)),
            Way::Previous => Box::new(before.rev().chain(after.rev())),
        };
        round.map(|(_, id)| *id)
    }

    /// One hash gives the places on all rings.
    fn places(&self, id: NodeId) -> [u64; RINGS] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(LABEL);
        context.update(&self.network.0);
        context.update(id.as_bytes());
        let hash = context.finish();
        let mut places = [0; RINGS];
        for (place, bytes) in places.iter_mut().zip(hash.as_ref().chunks_exact(8)) {
            *place = bytes
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, VecDeque};

    fn rings(count: usize) -> (Rings, Vec<NodeId>) {
        let mut rings = Rings::new(NetworkId([5; 16]));
        let ids: Vec<NodeId> = (0..count)
            .map(|n| {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
                crate::mesh::id::Identity::from_seed(&seed).id()
            })
            .collect();
        for id in &ids {
            assert!(rings.insert(*id) && !rings.insert(*id));
        }
        (rings, ids)
    }

    fn neighbours(rings: &Rings, id: NodeId) -> BTreeSet<NodeId> {
        let ways = [Way::Next, Way::Previous];
        (0..RINGS)
            .flat_map(|ring| {
                ways.into_iter()
                    .filter_map(move |way| rings.walk(ring, way, id).next())
            })
            .collect()
    }

    #[test]
    fn neighbours_are_mutual_and_few() {
        let (rings, ids) = rings(200);
        for id in &ids {
            let near = neighbours(&rings, *id);
            assert!((2..=2 * RINGS).contains(&near.len()) && !near.contains(id));
            for other in near {
                assert!(neighbours(&rings, other).contains(id));
            }
        }
    }

    #[test]
    fn a_walk_goes_once_round_either_way() {
        let (rings, ids) = rings(20);
        let next: Vec<NodeId> = rings.walk(1, Way::Next, ids[3]).collect();
        let mut back: Vec<NodeId> = rings.walk(1, Way::Previous, ids[3]).collect();
        back.reverse();
        assert_eq!(next, back);
        assert_eq!(next.iter().collect::<BTreeSet<_>>().len(), 19);
    }

    #[test]
    fn a_thousand_members_are_seven_hops_apart_at_most() {
        let (rings, ids) = rings(1000);
        let near: BTreeMap<NodeId, BTreeSet<NodeId>> = ids
            .iter()
            .map(|id| (*id, neighbours(&rings, *id)))
            .collect();
        let mut hops = BTreeMap::from([(ids[0], 0)]);
        let mut queue = VecDeque::from([ids[0]]);
        while let Some(at) = queue.pop_front() {
            for other in &near[&at] {
                if !hops.contains_key(other) {
                    hops.insert(*other, hops[&at] + 1);
                    queue.push_back(*other);
                }
            }
        }
        assert_eq!(hops.len(), 1000);
        assert!(hops.values().max().unwrap() <= &7, "{hops:?}");
    }

    #[test]
    fn who_is_removed_is_skipped() {
        let (mut rings, ids) = rings(10);
        let next = rings.walk(0, Way::Next, ids[0]).next().unwrap();
        assert!(rings.remove(next) && !rings.remove(next));
        assert_ne!(rings.walk(0, Way::Next, ids[0]).next(), Some(next));
        assert_eq!((rings.len(), rings.members().count()), (9, 9));
    }
}
