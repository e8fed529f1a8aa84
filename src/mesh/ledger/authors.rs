//! In which order authors were first seen: the youngest give way when the ledger is full (C22).

use std::collections::BTreeMap;

use super::MAX_ENTRIES;
use crate::mesh::id::NodeId;

#[derive(Default)]
pub(super) struct Authors {
    seen: BTreeMap<NodeId, u64>,
    count: u64,
    /// Those that keep entries, oldest first.
    keeping: BTreeMap<u64, NodeId>,
}

impl Authors {
    /// When `author` was first seen, as a number in a row; one not seen is younger than all.
    pub(super) fn rank(&self, author: &NodeId) -> u64 {
        self.seen.get(author).copied().unwrap_or(u64::MAX)
    }

    /// Remembers when an author was first seen, also while it keeps nothing: a restart must not
    /// make it the youngest. Identities cost a member nothing, so those for whom `keeps` is false
    /// go when there are too many. Returns the rank.
    pub(super) fn note(&mut self, author: NodeId, keeps: impl Fn(&NodeId) -> bool) -> u64 {
        let next = self.count + 1;
        let rank = *self.seen.entry(author).or_insert(next);
        if rank == next {
            self.count = next;
            if self.seen.len() > 2 * MAX_ENTRIES {
                self.seen.retain(|old, _| *old == author || keeps(old));
            }
        }
        rank
    }

    /// Says whether an author that was noted keeps entries.
    pub(super) fn set_keeping(&mut self, author: NodeId, keeping: bool) {
        let rank = self.rank(&author);
        if keeping {
            self.keeping.insert(rank, author);
        } else {
            self.keeping.remove(&rank);
        }
    }

    /// Those that keep entries.
    pub(super) fn youngest_first(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.keeping.values().rev().copied()
    }
}
