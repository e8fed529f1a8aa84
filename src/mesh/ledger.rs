//! The replicated map: one value per slot, merged by rank, bounded per author and in total.
//!
//! Merge is commutative and idempotent: nodes that saw the same entries in any order hold the
//! same map. Signatures are checked by the caller ([`Entry::verify`]) before an entry gets here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::entry::{Class, Entry, ItemId, NetworkId, Slot};
use super::id::NodeId;
use super::name::Bucket;
use super::time::Now;

/// What one author may keep, per class.
pub const MAX_ENTRIES_PER_AUTHOR: usize = 4096;
/// What one author may keep, per class, keys and values together.
pub const MAX_BYTES_PER_AUTHOR: usize = 4 * 1024 * 1024;
/// What the ledger keeps of everybody.
pub const MAX_ENTRIES: usize = 65_536;
/// What the ledger keeps of everybody, in bytes.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How far a durable version may lie ahead of this node's wall clock (C23).
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;
/// A hybrid logical clock counts this many writes within one millisecond.
const VERSIONS_PER_MS: u64 = 1 << 16;

/// Why an entry was not merged although its signature holds. Counted per reason.
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
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It is the slot's value now. `evicted` were given up for it (C22: lowest versions of the
    /// same author first, so that all nodes keep the same set).
    Taken {
        /// Slots that are gone.
        evicted: Vec<Slot>,
    },
    /// The very same entry is there.
    Known,
    /// A greater one is there.
    Older,
    /// It may not be there.
    Refused(Refusal),
}

#[derive(Default)]
struct Quota {
    bytes: usize,
    by_version: BTreeSet<(u64, Slot)>,
}

struct Stored {
    entry: Entry,
    id: ItemId,
}

/// The map.
pub struct Ledger {
    network: NetworkId,
    me: NodeId,
    /// In which order authors were first seen.
    seen: BTreeMap<NodeId, u64>,
    authors: u64,
    slots: BTreeMap<Slot, Stored>,
    by_id: HashMap<ItemId, Slot>,
    quotas: BTreeMap<(NodeId, Class), Quota>,
    boots: BTreeMap<NodeId, u64>,
    bytes: usize,
    last_version: u64,
    digest: u64,
}

impl Ledger {
    /// An empty ledger of `network`, kept by `me`.
    pub fn new(network: NetworkId, me: NodeId) -> Self {
        Self {
            network,
            me,
            seen: BTreeMap::new(),
            authors: 0,
            slots: BTreeMap::new(),
            by_id: HashMap::new(),
            quotas: BTreeMap::new(),
            boots: BTreeMap::new(),
            bytes: 0,
            last_version: 0,
            digest: 0,
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
        self.boots.insert(author, boot);
        let dead = self.live_slots(author, |entry| entry.boot != boot);
        for slot in &dead {
            self.drop_slot(slot);
        }
        dead
    }

    /// Drops every live entry of an author that left, and refuses those that come late, until
    /// [`Ledger::set_boot`] tells of its next start.
    pub fn drop_live(&mut self, author: NodeId) -> Vec<Slot> {
        self.boots.remove(&author);
        let dead = self.live_slots(author, |_| true);
        for slot in &dead {
            self.drop_slot(slot);
        }
        dead
    }

    fn live_slots(&self, author: NodeId, which: impl Fn(&Entry) -> bool) -> Vec<Slot> {
        let Some(quota) = self.quotas.get(&(author, Class::Live)) else {
            return Vec::new();
        };
        let slots = quota.by_version.iter().map(|(_, slot)| slot);
        slots
            .filter(|slot| {
                self.slots
                    .get(slot)
                    .is_some_and(|stored| which(&stored.entry))
            })
            .cloned()
            .collect()
    }

    /// What [`Ledger::merge`] would say, changing nothing.
    pub fn check(&self, entry: &Entry, now: Now) -> Merge {
        self.check_until(entry, now.unix_ms.saturating_add(MAX_AHEAD_MS))
    }

    fn check_until(&self, entry: &Entry, latest_ms: u64) -> Merge {
        if let Some(stored) = self.slots.get(&entry.slot) {
            if stored.entry == *entry {
                return Merge::Known;
            }
            if stored.entry.cmp_rank(entry).is_ge() {
                return Merge::Older;
            }
        }
        match entry.slot.class {
            Class::Live if self.boots.get(&entry.slot.author) != Some(&entry.boot) => {
                return Merge::Refused(Refusal::Boot);
            }
            Class::Durable if entry.version / VERSIONS_PER_MS > latest_ms => {
                return Merge::Refused(Refusal::Future);
            }
            _ => {}
        }
        self.room_for(entry)
    }

    /// Takes `entry`, whose signature the caller has checked, if it is greater than what is there.
    pub fn merge(&mut self, entry: Entry, now: Now) -> Merge {
        self.merge_until(entry, now.unix_ms.saturating_add(MAX_AHEAD_MS))
    }

    fn merge_until(&mut self, entry: Entry, latest_ms: u64) -> Merge {
        let outcome = self.check_until(&entry, latest_ms);
        if let Merge::Taken { evicted } = &outcome {
            for slot in evicted {
                self.drop_slot(slot);
            }
            if entry.slot.class == Class::Durable {
                self.last_version = self.last_version.max(entry.version);
            }
            self.drop_slot(&entry.slot);
            self.store(entry);
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

    fn room_for(&self, entry: &Entry) -> Merge {
        let old = self
            .slots
            .get(&entry.slot)
            .map_or(0, |stored| cost(&stored.entry));
        let is_new = usize::from(old == 0);
        let mut evicted = Vec::new();
        let mut freed = 0;
        let author = (entry.slot.author, entry.slot.class);
        if let Some(quota) = self.quotas.get(&author) {
            let mut count = quota.by_version.len() + is_new;
            let mut bytes = quota.bytes - old + cost(entry);
            let wanted = bytes;
            for (version, slot) in &quota.by_version {
                if count <= MAX_ENTRIES_PER_AUTHOR && bytes <= MAX_BYTES_PER_AUTHOR {
                    break;
                }
                if *slot == entry.slot {
                    continue;
                }
                // By slot where versions are equal: all nodes must give up the same one.
                if (*version, slot) >= (entry.version, &entry.slot) {
                    return Merge::Refused(Refusal::AuthorFull);
                }
                count -= 1;
                bytes -= self.slots.get(slot).map_or(0, |stored| cost(&stored.entry));
                evicted.push(slot.clone());
            }
            freed = wanted - bytes;
        }
        let count = self.slots.len() + is_new - evicted.len();
        let bytes = self.bytes - old - freed + cost(entry);
        match self.make_room(entry.slot.author, count, bytes) {
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
        let rank = |author: &NodeId| self.seen.get(author).copied().unwrap_or(u64::MAX);
        let mut authors: Vec<NodeId> = self.quotas.keys().map(|(author, _)| *author).collect();
        authors.dedup();
        authors.sort_by_key(|author| std::cmp::Reverse(rank(author)));
        for author in authors.into_iter().filter(|author| *author != self.me) {
            if writer != self.me && rank(&author) <= rank(&writer) {
                return None;
            }
            for class in [Class::Live, Class::Durable] {
                let quota = self.quotas.get(&(author, class));
                for (_, slot) in quota.into_iter().flat_map(|quota| &quota.by_version) {
                    count -= 1;
                    bytes -= self.slots.get(slot).map_or(0, |stored| cost(&stored.entry));
                    evicted.push(slot.clone());
                }
            }
            if count <= MAX_ENTRIES && bytes <= MAX_BYTES {
                return Some(evicted);
            }
        }
        None
    }

    fn store(&mut self, entry: Entry) {
        let id = entry.id(self.network);
        self.digest = self.digest.wrapping_add(id.prefix());
        self.note_author(entry.slot.author);
        let quota = self
            .quotas
            .entry((entry.slot.author, entry.slot.class))
            .or_default();
        quota.bytes += cost(&entry);
        quota.by_version.insert((entry.version, entry.slot.clone()));
        self.bytes += cost(&entry);
        self.by_id.insert(id, entry.slot.clone());
        self.slots.insert(entry.slot.clone(), Stored { entry, id });
    }

    /// Remembers when an author was first seen, also while it keeps nothing: a restart must not
    /// make it the youngest. Identities cost a member nothing, so those without entries go when
    /// there are too many.
    fn note_author(&mut self, author: NodeId) {
        self.authors += 1;
        self.seen.entry(author).or_insert(self.authors);
        if self.seen.len() > 2 * MAX_ENTRIES {
            let quotas = &self.quotas;
            self.seen.retain(|author, _| {
                let any = [Class::Live, Class::Durable];
                any.iter()
                    .any(|class| quotas.contains_key(&(*author, *class)))
            });
        }
    }

    fn drop_slot(&mut self, slot: &Slot) {
        let Some(stored) = self.slots.remove(slot) else {
            return;
        };
        self.by_id.remove(&stored.id);
        self.digest = self.digest.wrapping_sub(stored.id.prefix());
        self.bytes -= cost(&stored.entry);
        let owner = (slot.author, slot.class);
        if let Some(quota) = self.quotas.get_mut(&owner) {
            quota.bytes -= cost(&stored.entry);
            quota
                .by_version
                .remove(&(stored.entry.version, slot.clone()));
            if quota.by_version.is_empty() {
                self.quotas.remove(&owner);
            }
        }
    }

    /// The entry in `slot`, tombstones included.
    pub fn get(&self, slot: &Slot) -> Option<&Entry> {
        self.slots.get(slot).map(|stored| &stored.entry)
    }

    /// The entry with this id.
    pub fn by_id(&self, id: &ItemId) -> Option<&Entry> {
        self.by_id.get(id).and_then(|slot| self.get(slot))
    }

    /// Ids of everything kept, for reconciliation.
    pub fn ids(&self) -> impl Iterator<Item = ItemId> + '_ {
        self.slots.values().map(|stored| stored.id)
    }

    /// Every entry, tombstones included, by slot.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.values().map(|stored| &stored.entry)
    }

    /// The entries of one bucket, tombstones included, by key and author.
    pub fn bucket<'a>(&'a self, bucket: &'a Bucket) -> impl Iterator<Item = &'a Entry> {
        // Slots order by bucket first, so a bucket is one range; its start is any lowest slot.
        self.slots
            .values()
            .map(|stored| &stored.entry)
            .filter(move |entry| entry.slot.bucket == *bucket)
    }

    /// Order-independent sum over the ids kept.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Buckets in which an author has live entries.
    pub fn live_buckets_of(&self, author: NodeId) -> BTreeSet<Bucket> {
        let slots = self.live_slots(author, |_| true);
        slots.into_iter().map(|slot| slot.bucket).collect()
    }

    /// Live entries of one author.
    pub fn live_of(&self, author: NodeId) -> Vec<Entry> {
        self.live_slots(author, |_| true)
            .iter()
            .filter_map(|slot| self.get(slot).cloned())
            .collect()
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// What an entry counts against limits: its text plus what the maps need for it.
fn cost(entry: &Entry) -> usize {
    entry.value.len() + entry.slot.key.len() + entry.slot.bucket.as_str().len() + 128
}

#[cfg(test)]
mod tests;
