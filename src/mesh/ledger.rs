//! The replicated map: one value per slot, merged by rank, bounded per author and in total.
//!
//! Signatures are checked by the caller ([`Entry::verify`], `Floor::verify`) before anything
//! gets here. Merging is commutative, associative and idempotent: within the limits, nodes that
//! saw the same entries and floors in any order, any number of times, hold the same map.
//!
//! # At an author's limit
//!
//! The longest run of its newest entries that fits stays (C22), and what is older than the newest
//! one given up is not taken again: the author's low-water mark. The mark only rises, so
//!
//! - what is kept is exactly every slot's greatest entry above the mark, whatever the order;
//! - where the author wrote each slot once, the mark too is the same in any order;
//! - where it replaced values while over its limit, the mark may be higher on a node that saw
//!   what was replaced before it saw the replacement: to know better it would have to keep what
//!   it gave up. Two nodes always agree above the higher of their marks.
//!
//! A mark lasts as long as the author keeps anything here, for live entries as long as its boot,
//! and is not on disk: after a restart older entries may come back into room that is free.
//! Nothing acknowledged depends on it, because a node never writes beyond its own limit.
//!
//! # At the total limit
//!
//! Whole authors go, youngest first-seen first, never this node. Nodes may have seen them in
//! different orders, so here they may differ; what they keep they agree on.
//!
//! # Removals
//!
//! A tombstone stays until its author voids it by a floor; `mesh::floor` says why nothing
//! else may. Of each author the greatest floor is kept, also when its entries are gone. At most
//! [`MAX_FLOORS`] are, because a member can mint authors: then the youngest author's goes, never
//! this node's. [`Ledger::compaction`] says when a node voids its own.

use std::collections::BTreeMap;

use super::entry::{Class, Entry, ItemId, NetworkId, Slot};
use super::id::NodeId;
use super::name::Bucket;
use super::time::Now;

mod authors;
mod floors;
mod index;
#[cfg(test)]
mod model;
mod quota;
mod refused;
#[cfg(test)]
mod tests;

pub use floors::{Compaction, MIN_TOMBSTONES};
pub use refused::MAX_REFUSED;

use authors::Authors;
use floors::Floors;
use index::{Index, cost};
use quota::Quota;
use refused::RefusedIds;

/// What one author may keep, per class.
pub const MAX_ENTRIES_PER_AUTHOR: usize = 4096;
/// What one author may keep, per class, keys and values together.
pub const MAX_BYTES_PER_AUTHOR: usize = 4 * 1024 * 1024;
/// What the ledger keeps of everybody.
pub const MAX_ENTRIES: usize = 65_536;
/// What the ledger keeps of everybody, in bytes.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Authors whose floor is kept.
pub const MAX_FLOORS: usize = 16_384;
/// How far a durable version may lie ahead of this node's wall clock (C23).
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;
/// A hybrid logical clock counts this many writes within one millisecond.
const VERSIONS_PER_MS: u64 = 1 << 16;

/// Why an entry or a floor was not merged although its signature holds. Counted per reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A durable version more than [`MAX_AHEAD_MS`] ahead of this node's clock.
    #[error("the entry's version is more than five minutes ahead of this node's clock")]
    Future,
    /// A live entry whose boot is not its author's current one.
    #[error("the entry belongs to an earlier start of its author, or to one not heard of yet")]
    Boot,
    /// The author has more and newer entries already.
    #[error(
        "its author keeps {MAX_ENTRIES_PER_AUTHOR} newer entries or {MAX_BYTES_PER_AUTHOR} bytes already"
    )]
    AuthorFull,
    /// The ledger is full.
    #[error("the ledger is full ({MAX_ENTRIES} entries or {MAX_BYTES} bytes)")]
    Full,
    /// The entry is older than its author's floor.
    #[error("its author has declared everything of that age void")]
    Floor,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It is the slot's value now. `evicted` were given up for it: the oldest of the same author,
    /// then whole other authors (C22).
    Taken {
        /// Slots that are gone.
        evicted: Vec<Slot>,
    },
    /// It is too large to stay beside its author's newer ones. Nothing older than it stays either
    /// or comes back: all nodes must keep the same set.
    NoRoom {
        /// Slots that are gone.
        evicted: Vec<Slot>,
    },
    /// The very same entry is there.
    Known,
    /// A greater one is there.
    Older,
    /// It may not be there. Nothing changed.
    Refused(Refusal),
}

/// What became of a floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FloorMerge {
    /// It is the author's floor now.
    Taken {
        /// Slots of the author that are gone.
        dropped: Vec<Slot>,
        /// Whose floor was given up for it.
        forgotten: Option<NodeId>,
    },
    /// The same floor is there.
    Known,
    /// A greater one is there.
    Older,
    /// It may not be there. Nothing changed.
    Refused(Refusal),
}

/// The map.
pub struct Ledger {
    network: NetworkId,
    me: NodeId,
    authors: Authors,
    index: Index,
    quotas: BTreeMap<(NodeId, Class), Quota>,
    floors: Floors,
    boots: BTreeMap<NodeId, u64>,
    refused: RefusedIds,
    last_version: u64,
}

impl Ledger {
    /// An empty ledger of `network`, kept by `me`.
    pub fn new(network: NetworkId, me: NodeId) -> Self {
        Self {
            network,
            me,
            authors: Authors::default(),
            index: Index::new(network),
            quotas: BTreeMap::new(),
            floors: Floors::new(network),
            boots: BTreeMap::new(),
            refused: RefusedIds::default(),
            last_version: 0,
        }
    }

    /// The next durable version: after everything merged, and not before the wall clock.
    pub fn next_version(&mut self, now: Now) -> u64 {
        let wall = now.unix_ms.saturating_mul(VERSIONS_PER_MS);
        self.last_version = wall.max(self.last_version + 1);
        self.last_version
    }

    /// Says which boot of `author` is current; live entries of others are void and dropped.
    pub fn set_boot(&mut self, author: NodeId, boot: u64) -> Vec<Slot> {
        let before = self.boots.insert(author, boot);
        self.refused.started(author);
        if before != Some(boot)
            && let Some(quota) = self.quotas.get_mut(&(author, Class::Live))
        {
            // Versions of live entries start anew.
            quota.forget_mark();
        }
        self.drop_live_where(author, |entry| entry.boot != boot)
    }

    /// Drops every live entry of an author that left, and refuses those that come late, until
    /// [`Ledger::set_boot`] tells of its next start.
    pub fn drop_live(&mut self, author: NodeId) -> Vec<Slot> {
        self.boots.remove(&author);
        self.drop_live_where(author, |_| true)
    }

    fn drop_live_where(&mut self, author: NodeId, which: impl Fn(&Entry) -> bool) -> Vec<Slot> {
        let dead = self.live(author).filter(|entry| which(entry));
        let dead: Vec<Slot> = dead.map(|entry| entry.slot.clone()).collect();
        for slot in &dead {
            self.drop_slot(slot);
        }
        dead
    }

    fn live(&self, author: NodeId) -> impl Iterator<Item = &Entry> {
        let quota = self.quotas.get(&(author, Class::Live));
        quota.into_iter().flat_map(Quota::entries)
    }

    /// What [`Ledger::merge`] would say, changing nothing.
    pub fn check(&self, entry: &Entry, now: Now) -> Merge {
        self.check_until(entry, now.unix_ms.saturating_add(MAX_AHEAD_MS))
    }

    fn check_until(&self, entry: &Entry, latest_ms: u64) -> Merge {
        let old = self.index.get(&entry.slot);
        if let Some(old) = old {
            if old == entry {
                return Merge::Known;
            }
            if old.cmp_rank(entry).is_ge() {
                return Merge::Older;
            }
        }
        let author = entry.slot.author;
        match entry.slot.class {
            Class::Live if self.boots.get(&author) != Some(&entry.boot) => {
                return Merge::Refused(Refusal::Boot);
            }
            Class::Durable if entry.version / VERSIONS_PER_MS > latest_ms => {
                return Merge::Refused(Refusal::Future);
            }
            Class::Durable
                if self
                    .floor_of(&author)
                    .is_some_and(|f| entry.version < f.floor) =>
            {
                return Merge::Refused(Refusal::Floor);
            }
            _ => {}
        }
        self.room_for(entry, old)
    }

    /// Takes `entry`, whose signature the caller has checked, if it is greater than what is there.
    pub fn merge(&mut self, entry: Entry, now: Now) -> Merge {
        self.merge_until(entry, now.unix_ms.saturating_add(MAX_AHEAD_MS))
    }

    fn merge_until(&mut self, entry: Entry, latest_ms: u64) -> Merge {
        let outcome = self.check_until(&entry, latest_ms);
        match &outcome {
            Merge::Taken { evicted } => {
                if entry.slot.class == Class::Durable {
                    self.last_version = self.last_version.max(entry.version);
                }
                if let Some(old) = self.index.remove(&entry.slot) {
                    self.quota_of(&entry.slot).remove(&old);
                }
                self.store(&entry);
                self.give_up(&entry.slot, evicted);
            }
            Merge::NoRoom { evicted } => {
                self.quota_of(&entry.slot)
                    .raise_mark(entry.version, &entry.slot);
                self.give_up(&entry.slot, evicted);
            }
            Merge::Known | Merge::Older | Merge::Refused(_) => {}
        }
        outcome
    }

    /// Loads an entry from this node's own store. Its version was checked when it was merged;
    /// against a clock that starts too early, what was stored would seem lost.
    pub fn load(&mut self, entry: Entry) -> bool {
        matches!(
            self.merge_until(entry, u64::MAX),
            Merge::Taken { .. } | Merge::Known
        )
    }

    fn room_for(&self, entry: &Entry, old: Option<&Entry>) -> Merge {
        let author = entry.slot.author;
        let mut evicted = Vec::new();
        let mut freed = old.map_or(0, cost);
        if let Some(quota) = self.quotas.get(&(author, entry.slot.class)) {
            if quota.is_below_mark(entry) {
                return Merge::Refused(Refusal::AuthorFull);
            }
            let room = quota.room_for(entry, old);
            if !room.fits {
                let evicted = room.evicted;
                return Merge::NoRoom { evicted };
            }
            freed += room.freed;
            evicted = room.evicted;
        }
        let count = self.len() + usize::from(old.is_none()) - evicted.len();
        let bytes = self.index.bytes() - freed + cost(entry);
        match self.make_room(author, count, bytes) {
            Some(newcomers) => {
                evicted.extend(newcomers);
                Merge::Taken { evicted }
            }
            None => Merge::Refused(Refusal::Full),
        }
    }

    /// What to give up so that `count` entries of `bytes` fit: whole authors, youngest first-seen
    /// first, never this node (C22). `None` if the writer would be the next to go itself.
    fn make_room(&self, writer: NodeId, mut count: usize, mut bytes: usize) -> Option<Vec<Slot>> {
        let mut evicted = Vec::new();
        if count <= MAX_ENTRIES && bytes <= MAX_BYTES {
            return Some(evicted);
        }
        let mine = self.authors.rank(&writer);
        let others = self.authors.youngest_first();
        for author in others.filter(|author| *author != self.me) {
            if writer != self.me && self.authors.rank(&author) <= mine {
                return None;
            }
            for class in [Class::Live, Class::Durable] {
                let Some(quota) = self.quotas.get(&(author, class)) else {
                    continue;
                };
                count -= quota.len();
                bytes -= quota.bytes();
                evicted.extend(quota.entries().map(|entry| entry.slot.clone()));
            }
            if count <= MAX_ENTRIES && bytes <= MAX_BYTES {
                return Some(evicted);
            }
        }
        None
    }

    fn store(&mut self, entry: &Entry) {
        let author = entry.slot.author;
        self.note_author(author);
        self.authors.set_keeping(author, true);
        self.index.insert(entry);
        self.quota_of(&entry.slot).insert(entry);
    }

    fn quota_of(&mut self, slot: &Slot) -> &mut Quota {
        self.quotas.entry((slot.author, slot.class)).or_default()
    }

    /// Notes when `author` was first seen; those without entries and floor may be forgotten.
    fn note_author(&mut self, author: NodeId) -> u64 {
        let (quotas, floors) = (&self.quotas, &self.floors);
        self.authors.note(author, |author| {
            let keeps = |class| quotas.contains_key(&(*author, class));
            keeps(Class::Live) || keeps(Class::Durable) || floors.get(author).is_some()
        })
    }

    /// Drops what the entry in `winner` displaces. What is of the same author and class raises
    /// its mark; another author's quota goes as a whole, and its mark with it.
    fn give_up(&mut self, winner: &Slot, evicted: &[Slot]) {
        for slot in evicted {
            let Some(gone) = self.drop_slot(slot) else {
                continue;
            };
            if (slot.author, slot.class) == (winner.author, winner.class) {
                self.quota_of(winner).raise_mark(gone.version, slot);
            }
        }
    }

    fn drop_slot(&mut self, slot: &Slot) -> Option<Entry> {
        let entry = self.index.remove(slot)?;
        let owner = (slot.author, slot.class);
        if let Some(quota) = self.quotas.get_mut(&owner) {
            quota.remove(&entry);
            if quota.len() == 0 {
                self.quotas.remove(&owner);
                let any = [Class::Live, Class::Durable].map(|class| (slot.author, class));
                let keeping = any.iter().any(|owner| self.quotas.contains_key(owner));
                self.authors.set_keeping(slot.author, keeping);
            }
        }
        Some(entry)
    }

    /// The entry in `slot`, tombstones included.
    pub fn get(&self, slot: &Slot) -> Option<&Entry> {
        self.index.get(slot)
    }

    /// The entry with this id.
    pub fn by_id(&self, id: &ItemId) -> Option<&Entry> {
        self.index.by_id(id)
    }

    /// Ids of everything kept, entries and floors, for reconciliation.
    pub fn ids(&self) -> impl Iterator<Item = ItemId> + '_ {
        self.index.ids().chain(self.floors.ids())
    }

    /// The sum of the first 64 bits of all [`Ledger::ids`]: equal where the ids are, and kept up
    /// with every change, so that asking costs nothing. A hint only: an author can search for
    /// entries whose ids add up to a wanted sum. Reconciliation salts what it compares.
    pub fn digest(&self) -> u64 {
        self.index.digest().wrapping_add(self.floors.digest())
    }

    /// Every entry, tombstones included, by slot.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.index.entries()
    }

    /// The entries of one bucket, tombstones included, by key and author.
    pub fn bucket(&self, bucket: &Bucket) -> impl Iterator<Item = &Entry> {
        self.index.bucket(bucket)
    }

    /// Live entries of one author, tombstones included, oldest first.
    pub fn live_of(&self, author: NodeId) -> Vec<Entry> {
        self.live(author).cloned().collect()
    }

    /// The buckets in which an author has live entries, tombstones included.
    pub fn live_buckets_of(&self, author: NodeId) -> impl Iterator<Item = &Bucket> {
        let quota = self.quotas.get(&(author, Class::Live));
        quota.into_iter().flat_map(Quota::buckets)
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
