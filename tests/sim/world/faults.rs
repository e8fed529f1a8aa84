//! What a test can break: paths between machines.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, World};

/// Paths that carry nothing.
#[derive(Default)]
pub(super) struct Faults {
    /// Side of each machine; those made later are on every side.
    side: Vec<u32>,
    one_way: BTreeSet<(usize, usize)>,
    refused: BTreeSet<(usize, usize)>,
}

impl Faults {
    /// Whether bytes that `from` sends do not reach `to`.
    pub(super) fn cuts(&self, from: usize, to: usize) -> bool {
        let apart = match (self.side.get(from), self.side.get(to)) {
            (Some(a), Some(b)) => a != b,
            _ => false,
        };
        apart || (!self.one_way.is_empty() && self.one_way.contains(&(from, to)))
    }

    /// Whether a connection between the two cannot come up.
    pub(super) fn parts(&self, a: usize, b: usize) -> bool {
        self.cuts(a, b) || self.cuts(b, a)
    }

    pub(super) fn refuses(&self, from: usize, to: usize) -> bool {
        !self.refused.is_empty() && self.refused.contains(&(from, to))
    }
}

impl World {
    /// No byte passes between `side` and the rest until [`World::heal`]. What an earlier call
    /// parted stays parted.
    pub(crate) fn partition(&mut self, side: &[usize]) {
        let mut inside = vec![false; self.nodes.len()];
        side.iter().for_each(|node| inside[*node] = true);
        let before = &mut self.faults.side;
        before.resize(inside.len(), 0);
        let mut names = BTreeMap::new();
        for (old, inside) in before.iter_mut().zip(inside) {
            let next = u32::try_from(names.len()).unwrap();
            *old = *names.entry((*old, inside)).or_insert(next);
        }
    }

    /// No byte passes between two nodes.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.faults.one_way.extend([(a, b), (b, a)]);
    }

    /// Bytes pass from `to` to `from`, but not from `from` to `to`.
    pub(crate) fn cut_one_way(&mut self, from: usize, to: usize) {
        self.faults.one_way.insert((from, to));
    }

    /// Every path carries bytes again; what QUIC held back is sent.
    pub(crate) fn heal(&mut self) {
        self.faults.side.clear();
        self.faults.one_way.clear();
        for conn in 0..self.conns.len() {
            for end in 0..2 {
                let held = self.conns[conn].as_mut().is_some_and(|conn| {
                    let end = &mut conn.ends[end];
                    std::mem::take(&mut end.held) && !end.closed
                });
                if held {
                    let at = self.time + self.flight_between(conn, end);
                    self.push(at, Event::Arrival { conn, end });
                }
            }
        }
    }

    /// Dials from `from` to `to` never arrive; the other way they do.
    pub(crate) fn refuse_dials(&mut self, from: usize, to: usize) {
        self.faults.refused.insert((from, to));
    }
}
