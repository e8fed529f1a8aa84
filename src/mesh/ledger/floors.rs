//! The greatest floor of each author, and when this node sets its own (C21).

use std::collections::{BTreeMap, HashMap};

use super::quota::Quota;
use super::{FloorMerge, Ledger, MAX_AHEAD_MS, MAX_FLOORS, Refusal, VERSIONS_PER_MS};
use crate::mesh::entry::{Class, Draft, ItemId, NetworkId, Slot};
use crate::mesh::floor::Floor;
use crate::mesh::id::NodeId;
use crate::mesh::time::Now;

/// Fewer tombstones than this are no reason to sign everything again.
pub const MIN_TOMBSTONES: usize = 256;

/// What this node signs to be rid of its tombstones. See [`Ledger::compaction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The floor to sign: above every durable entry of this node, below every survivor.
    pub floor: u64,
    /// What this node still stands by, to be signed under these versions.
    pub survivors: Vec<Draft>,
}

pub(super) struct Floors {
    network: NetworkId,
    kept: BTreeMap<NodeId, Kept>,
    by_id: HashMap<ItemId, NodeId>,
    /// Rank of the author when its floor was taken: the youngest is the first to go.
    by_rank: BTreeMap<u64, NodeId>,
    digest: u64,
}

struct Kept {
    floor: Floor,
    id: ItemId,
    rank: u64,
}

impl Floors {
    pub(super) fn new(network: NetworkId) -> Self {
        Self {
            network,
            kept: BTreeMap::new(),
            by_id: HashMap::new(),
            by_rank: BTreeMap::new(),
            digest: 0,
        }
    }

    pub(super) fn get(&self, author: &NodeId) -> Option<&Floor> {
        self.kept.get(author).map(|kept| &kept.floor)
    }

    pub(super) fn by_id(&self, id: &ItemId) -> Option<&Floor> {
        self.by_id.get(id).and_then(|author| self.get(author))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Floor> {
        self.kept.values().map(|kept| &kept.floor)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ItemId> + '_ {
        self.kept.values().map(|kept| kept.id)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    fn insert(&mut self, floor: Floor, rank: u64) {
        self.remove(&floor.author);
        let id = floor.id(self.network);
        self.digest = self.digest.wrapping_add(id.prefix());
        self.by_id.insert(id, floor.author);
        self.by_rank.insert(rank, floor.author);
        self.kept.insert(floor.author, Kept { floor, id, rank });
    }

    fn remove(&mut self, author: &NodeId) {
        if let Some(kept) = self.kept.remove(author) {
            self.digest = self.digest.wrapping_sub(kept.id.prefix());
            self.by_id.remove(&kept.id);
            self.by_rank.remove(&kept.rank);
        }
    }
}

impl Ledger {
    /// The greatest floor of each author that has one.
    pub fn floors(&self) -> impl Iterator<Item = &Floor> {
        self.floors.iter()
    }

    /// The greatest floor of `author`.
    pub fn floor_of(&self, author: &NodeId) -> Option<&Floor> {
        self.floors.get(author)
    }

    /// The floor with this id.
    pub fn floor_by_id(&self, id: &ItemId) -> Option<&Floor> {
        self.floors.by_id(id)
    }

    /// What [`Ledger::merge_floor`] would say, changing nothing.
    pub fn check_floor(&self, floor: &Floor, now: Now) -> FloorMerge {
        self.check_floor_until(floor, now.unix_ms.saturating_add(MAX_AHEAD_MS))
    }

    /// Takes `floor`, whose signature the caller has checked, if it is greater than what is known
    /// of its author, and drops what it voids.
    pub fn merge_floor(&mut self, floor: Floor, now: Now) -> FloorMerge {
        self.merge_floor_until(floor, now.unix_ms.saturating_add(MAX_AHEAD_MS))
    }

    /// Loads a floor from this node's own store, whatever the clock says; to be called before
    /// entries are loaded. Whether it is the author's greatest now.
    pub fn load_floor(&mut self, floor: Floor) -> bool {
        let outcome = self.merge_floor_until(floor, u64::MAX);
        matches!(outcome, FloorMerge::Taken { .. } | FloorMerge::Known)
    }

    fn check_floor_until(&self, floor: &Floor, latest_ms: u64) -> FloorMerge {
        match self.floors.get(&floor.author) {
            Some(known) if known.floor == floor.floor => return FloorMerge::Known,
            Some(known) if known.floor > floor.floor => return FloorMerge::Older,
            _ => {}
        }
        // Of a clock that ran ahead: it would void what its author writes until then.
        if floor.floor / VERSIONS_PER_MS > latest_ms {
            return FloorMerge::Refused(Refusal::Future);
        }
        let Ok(forgotten) = self.room_for_floor(floor.author) else {
            return FloorMerge::Refused(Refusal::Full);
        };
        let quota = self.quotas.get(&(floor.author, Class::Durable));
        let oldest = quota.into_iter().flat_map(Quota::entries);
        let dropped = oldest
            .take_while(|entry| entry.version < floor.floor)
            .map(|entry| entry.slot.clone())
            .collect();
        FloorMerge::Taken { dropped, forgotten }
    }

    /// Whose floor gives way to one of `author`: the youngest first-seen, never this node's, as
    /// with entries. An error if that is `author` itself.
    fn room_for_floor(&self, author: NodeId) -> Result<Option<NodeId>, ()> {
        let known = self.floors.kept.contains_key(&author);
        if known || self.floors.kept.len() < MAX_FLOORS {
            return Ok(None);
        }
        let mut youngest = self.floors.by_rank.iter().rev();
        let next = youngest.find(|(_, other)| **other != self.me);
        match next {
            Some((rank, other)) if author == self.me || self.authors.rank(&author) < *rank => {
                Ok(Some(*other))
            }
            _ => Err(()),
        }
    }

    fn merge_floor_until(&mut self, floor: Floor, latest_ms: u64) -> FloorMerge {
        let outcome = self.check_floor_until(&floor, latest_ms);
        if let FloorMerge::Taken { dropped, forgotten } = &outcome {
            for slot in dropped {
                self.drop_slot(slot);
            }
            if let Some(author) = forgotten {
                self.floors.remove(author);
            }
            self.last_version = self.last_version.max(floor.floor);
            let rank = self.note_author(floor.author);
            self.floors.insert(floor, rank);
        }
        outcome
    }

    /// Whether this node's tombstones are worth getting rid of, and how: when there are at least
    /// [`MIN_TOMBSTONES`] and more of them than values. Each value signed again, and sent to
    /// every node again, is then paid for by a removal, however the author goes on.
    ///
    /// The caller signs the survivors and the floor, stores both in one transaction, and only
    /// then merges them, survivors first: a floor that is known while its survivors are not is
    /// loss of data. No other durable write of this node may be under way meanwhile, from the
    /// call of [`Ledger::next_version`] on: its version is below the floor.
    pub fn compaction(&mut self, now: Now) -> Option<Compaction> {
        let quota = self.quotas.get(&(self.me, Class::Durable))?;
        let tombstones = quota.tombstones();
        if tombstones < MIN_TOMBSTONES || 2 * tombstones <= quota.len() {
            return None;
        }
        let kept = quota.entries().filter(|entry| !entry.deleted);
        let kept: Vec<(Slot, Vec<u8>)> = kept
            .map(|entry| (entry.slot.clone(), entry.value.clone()))
            .collect();
        let floor = self.next_version(now);
        let mut draft = |(slot, value): (Slot, Vec<u8>)| Draft {
            bucket: slot.bucket,
            key: slot.key,
            class: Class::Durable,
            version: self.next_version(now),
            boot: 0,
            deleted: false,
            value,
        };
        let survivors = kept.into_iter().map(&mut draft).collect();
        Some(Compaction { floor, survivors })
    }
}
