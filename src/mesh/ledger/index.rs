//! The entries kept, found by slot, by bucket and by id. All of them share the entry itself.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::mesh::entry::{Class, Entry, ItemId, NetworkId, Slot};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;

pub(super) struct Index {
    network: NetworkId,
    buckets: BTreeMap<Bucket, BTreeSet<Placed>>,
    by_id: HashMap<ItemId, Entry>,
    bytes: usize,
    digest: u64,
}

impl Index {
    pub(super) fn new(network: NetworkId) -> Self {
        Self {
            network,
            buckets: BTreeMap::new(),
            by_id: HashMap::new(),
            bytes: 0,
            digest: 0,
        }
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<&Entry> {
        let found = self.buckets.get(&slot.bucket)?.get(slot as &dyn Place);
        found.map(|placed| &placed.0)
    }

    pub(super) fn by_id(&self, id: &ItemId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    /// Sets a slot that is free.
    pub(super) fn insert(&mut self, entry: &Entry) {
        let id = entry.id(self.network);
        self.bytes += cost(entry);
        self.digest = self.digest.wrapping_add(id.prefix());
        self.by_id.insert(id, entry.clone());
        let placed = Placed(entry.clone());
        match self.buckets.get_mut(&entry.slot.bucket) {
            Some(bucket) => drop(bucket.insert(placed)),
            None => {
                let bucket = entry.slot.bucket.clone();
                self.buckets.insert(bucket, BTreeSet::from([placed]));
            }
        }
    }

    // What can change inside an entry is what it remembers of itself, never its place.
    #[allow(clippy::mutable_key_type)]
    pub(super) fn remove(&mut self, slot: &Slot) -> Option<Entry> {
        let bucket = self.buckets.get_mut(&slot.bucket)?;
        let Placed(entry) = bucket.take(slot as &dyn Place)?;
        if bucket.is_empty() {
            self.buckets.remove(&slot.bucket);
        }
        let id = entry.id(self.network);
        self.by_id.remove(&id);
        self.bytes -= cost(&entry);
        self.digest = self.digest.wrapping_sub(id.prefix());
        Some(entry)
    }

    /// By bucket, key, author and class.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.values().flatten().map(|placed| &placed.0)
    }

    /// By key, author and class.
    pub(super) fn bucket(&self, bucket: &Bucket) -> impl Iterator<Item = &Entry> {
        let placed = self.buckets.get(bucket).into_iter().flatten();
        placed.map(|placed| &placed.0)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ItemId> + '_ {
        self.entries().map(|entry| entry.id(self.network))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What the entries count against limits, together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sum of the ids' first 64 bits.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }
}

/// What an entry counts against limits: its text plus what the maps need for it.
pub(super) fn cost(entry: &Entry) -> usize {
    entry.value.len() + entry.slot.key.len() + entry.slot.bucket.as_str().len() + 128
}

/// An entry in the order of its bucket.
struct Placed(Entry);

/// Where something is within its bucket: a slot finds an entry without making one.
trait Place {
    fn place(&self) -> (&str, &NodeId, Class);
}

impl Place for Slot {
    fn place(&self) -> (&str, &NodeId, Class) {
        (&self.key, &self.author, self.class)
    }
}

impl Place for Placed {
    fn place(&self) -> (&str, &NodeId, Class) {
        self.0.slot.place()
    }
}

impl<'a> Borrow<dyn Place + 'a> for Placed {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl Ord for Placed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Placed {}
