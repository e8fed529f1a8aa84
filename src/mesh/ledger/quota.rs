//! What one author keeps of one class, and which of it stays when it is too much (C22).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::index::cost;
use super::{MAX_BYTES_PER_AUTHOR, MAX_ENTRIES_PER_AUTHOR};
use crate::mesh::entry::{Class, Entry, Slot};
use crate::mesh::name::Bucket;

/// An author's entries of one class, oldest first.
#[derive(Default)]
pub(super) struct Quota {
    entries: BTreeSet<Aged>,
    bytes: usize,
    tombstones: usize,
    /// The newest that was ever given up or refused for lack of room: nothing at or below it is
    /// taken.
    mark: Option<Box<(u64, Slot)>>,
    /// Live entries only: how many are in which bucket.
    buckets: BTreeMap<Bucket, usize>,
}

/// What becomes of an entry within its author's limits.
pub(super) struct Room {
    /// Whether the entry itself is among the newest that fit.
    pub(super) fits: bool,
    /// What no longer is, oldest first.
    pub(super) evicted: Vec<Slot>,
    /// Sum of their costs.
    pub(super) freed: usize,
}

impl Quota {
    /// Whether `entry` is no newer than something that was given up before.
    pub(super) fn is_below_mark(&self, entry: &Entry) -> bool {
        self.mark
            .as_deref()
            .is_some_and(|(version, slot)| (entry.version, &entry.slot) <= (*version, slot))
    }

    pub(super) fn raise_mark(&mut self, version: u64, slot: &Slot) {
        let mark = self.mark.as_deref();
        if mark.is_none_or(|(high, at)| (*high, at) < (version, slot)) {
            self.mark = Some(Box::new((version, slot.clone())));
        }
    }

    pub(super) fn forget_mark(&mut self) {
        self.mark = None;
    }

    /// Drops the oldest, `entry` among them, until the rest fits. `old` is what is in its slot.
    ///
    /// What is left is the longest run of the newest that keeps the limits, and nothing below its
    /// end: to fill a gap with something smaller and older would make the outcome a matter of
    /// which came first.
    pub(super) fn room_for(&self, entry: &Entry, old: Option<&Entry>) -> Room {
        let mut count = self.entries.len() + usize::from(old.is_none());
        let mut bytes = self.bytes - old.map_or(0, cost) + cost(entry);
        let mut room = Room {
            fits: true,
            evicted: Vec::new(),
            freed: 0,
        };
        let mut others = self.entries.iter().map(|aged| &aged.0);
        while count > MAX_ENTRIES_PER_AUTHOR || bytes > MAX_BYTES_PER_AUTHOR {
            let oldest = others.find(|other| other.slot != entry.slot);
            let Some(oldest) = oldest.filter(|other| aged(other) < aged(entry)) else {
                // What is in its slot is older still.
                room.fits = false;
                room.freed += old.map_or(0, cost);
                room.evicted.extend(old.map(|old| old.slot.clone()));
                break;
            };
            count -= 1;
            bytes -= cost(oldest);
            room.freed += cost(oldest);
            room.evicted.push(oldest.slot.clone());
        }
        room
    }

    pub(super) fn insert(&mut self, entry: &Entry) {
        self.bytes += cost(entry);
        self.tombstones += usize::from(entry.deleted);
        if entry.slot.class == Class::Live {
            *self.buckets.entry(entry.slot.bucket.clone()).or_default() += 1;
        }
        self.entries.insert(Aged(entry.clone()));
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        if !self.entries.remove(&Aged(entry.clone())) {
            return;
        }
        self.bytes -= cost(entry);
        self.tombstones -= usize::from(entry.deleted);
        if let Some(count) = self.buckets.get_mut(&entry.slot.bucket) {
            *count -= 1;
            if *count == 0 {
                self.buckets.remove(&entry.slot.bucket);
            }
        }
    }

    /// Oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|aged| &aged.0)
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn tombstones(&self) -> usize {
        self.tombstones
    }
}

/// An entry in the order in which its author's are given up. By slot where versions are equal:
/// all nodes must give up the same one.
struct Aged(Entry);

fn aged(entry: &Entry) -> (u64, &Slot) {
    (entry.version, &entry.slot)
}

impl Ord for Aged {
    fn cmp(&self, other: &Self) -> Ordering {
        aged(&self.0).cmp(&aged(&other.0))
    }
}

impl PartialOrd for Aged {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Aged {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Aged {}
