//! Changes waiting to be written, reduced to what is left of them.
//!
//! A [`Batch`] is what a sequence of changes does to the tables: at most one change per row, so
//! it is bounded by the rows it touches and not by how often they change. Batches compose in
//! order: `a.then(b)` does what `a` and then `b` would have done.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use super::ip_table::{ip_key, put_ip};
use super::networks::{history_key, network_key, put_network, put_removed, removed_key};
use super::tables::{
    RowChange, RowKey, Table, count_key, floor_key, is_void, ledger_key, peer_key, put_entry,
    put_floor, put_knock, put_peer, put_role, role_key,
};
use super::{Change, StoreError};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::networks::Removed;

/// What a row costs in memory besides its bytes, roughly.
const ROW_OVERHEAD: usize = 128;

/// What a sequence of changes comes to. Applied in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Empty every table of the network first.
    pub(super) forget_network: bool,
    /// Then remove the knocks of all epochs before this one.
    pub(super) knocks_before: u64,
    /// Then remove the entries of these authors below these versions.
    pub(super) floors: BTreeMap<[u8; 32], u64>,
    /// Then empty the IP table.
    pub(super) clear_machines: bool,
    /// Then change these rows.
    pub(super) rows: BTreeMap<RowKey, RowChange>,
    /// Bytes of keys and values in `rows`.
    bytes: usize,
}

impl Batch {
    /// What `changes` come to.
    ///
    /// # Errors
    /// The first change that must not be stored; then none of them is.
    pub(super) fn of(changes: Vec<Change>) -> Result<Self, StoreError> {
        let mut batch = Self::default();
        for change in changes {
            batch.push(change)?;
        }
        Ok(batch)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.forget_network
            && self.knocks_before == 0
            && !self.clear_machines
            && self.rows.is_empty()
    }

    /// Whether every row that `next` changes is changed here already.
    pub(super) fn covers(&self, next: &Batch) -> bool {
        next.rows.keys().all(|key| self.rows.contains_key(key))
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.rows.len() * ROW_OVERHEAD
    }

    pub(super) fn push(&mut self, change: Change) -> Result<(), StoreError> {
        let (key, change) = match change {
            Change::PutEntry(entry) => put_entry(&entry)?,
            Change::DropEntry(slot) => ((Table::Ledger, ledger_key(&slot)?), RowChange::Remove),
            Change::PutFloor(floor) => {
                self.void_below(*floor.author.as_bytes(), floor.floor);
                put_floor(&floor)?
            }
            Change::DropFloor(author) => (floor_key(&author), RowChange::Remove),
            Change::Peer(peer) => put_peer(&peer)?,
            Change::ForgetPeer(id) => (peer_key(&id), RowChange::Remove),
            Change::Count { bucket, node, add } => (count_key(&bucket, &node), RowChange::Add(add)),
            Change::Knock { epoch, nonce } => put_knock(epoch, &nonce),
            Change::Role { id, spec } => put_role(id, &spec)?,
            Change::ForgetRole(id) => (role_key(id), RowChange::Remove),
            Change::ForgetKnocksBefore(epoch) => {
                self.forget_knocks_before(epoch);
                return Ok(());
            }
            Change::PutMachines(rows) => {
                for row in rows {
                    let (key, change) = put_ip(&row)?;
                    self.put(key, change);
                }
                return Ok(());
            }
            Change::RemoveMachine(place) => (ip_key(&place), RowChange::Remove),
            Change::ClearMachines => {
                self.clear_machines();
                return Ok(());
            }
            Change::PutNetworks(networks) => {
                for network in networks {
                    for (key, change) in put_network(&network)? {
                        self.put(key, change);
                    }
                }
                return Ok(());
            }
            Change::RemoveNetworks(removed) => {
                self.remove_networks(&removed);
                return Ok(());
            }
            Change::ForgetRemovals(keys) => {
                for key in keys {
                    self.put(removed_key(&key), RowChange::Remove);
                }
                return Ok(());
            }
            Change::ForgetNetwork => {
                self.forget_network();
                return Ok(());
            }
        };
        self.put(key, change);
        Ok(())
    }

    fn remove_networks(&mut self, removed: &[Removed]) {
        for gone in removed {
            self.put(network_key(&gone.key), RowChange::Remove);
            self.put(history_key(&gone.key), RowChange::Remove);
            let (key, change) = put_removed(gone);
            self.put(key, change);
        }
    }

    /// This, then `next`.
    pub(super) fn then(&mut self, next: Batch) {
        if next.forget_network {
            self.forget_network();
        }
        if next.clear_machines {
            self.clear_machines();
        }
        if next.knocks_before > 0 {
            self.forget_knocks_before(next.knocks_before);
        }
        for (author, floor) in next.floors {
            self.void_below(author, floor);
        }
        for (key, change) in next.rows {
            self.put(key, change);
        }
    }

    /// Adds to a count that is in here already; whether one is.
    pub(super) fn add(&mut self, bucket: &Bucket, node: &NodeId, add: u64) -> bool {
        let key = count_key(bucket, node);
        let waits = matches!(self.rows.get(&key), Some(RowChange::Add(_)));
        if waits {
            self.put(key, RowChange::Add(add));
        }
        waits
    }

    fn put(&mut self, key: RowKey, change: RowChange) {
        let key_bytes = key.1.len();
        match self.rows.entry(key) {
            Place::Vacant(place) => {
                self.bytes += key_bytes + value_bytes(&change);
                place.insert(change);
            }
            Place::Occupied(mut place) => {
                let old = place.get_mut();
                self.bytes = self.bytes - value_bytes(old) + value_bytes(&change);
                *old = match (&*old, change) {
                    (RowChange::Add(sum), RowChange::Add(add)) => {
                        RowChange::Add(sum.saturating_add(add))
                    }
                    (_, change) => change,
                };
            }
        }
    }

    /// Voids an author's entries: those on disk when this is applied, those waiting now. What
    /// waits may stand before an older row of its slot, so it is turned into that row's end.
    fn void_below(&mut self, author: [u8; 32], floor: u64) {
        let known = self.floors.entry(author).or_default();
        *known = floor.max(*known);
        let (first, end) = ((Table::Ledger, Vec::new()), (Table::Floors, Vec::new()));
        for ((_, key), change) in self.rows.range_mut(first..end) {
            if let RowChange::Put(value) = &*change
                && is_void(key, value, &author, floor)
            {
                self.bytes -= value_bytes(change);
                *change = RowChange::Remove;
                self.bytes += value_bytes(change);
            }
        }
    }

    /// Empties what is of the network, on disk and here; the IP table is the user's.
    fn forget_network(&mut self) {
        self.forget_network = true;
        self.knocks_before = 0;
        self.floors.clear();
        self.drop_rows(Table::is_of_network);
    }

    fn clear_machines(&mut self) {
        self.clear_machines = true;
        self.drop_rows(|table| table == Table::Machines);
    }

    fn drop_rows(&mut self, of: impl Fn(Table) -> bool) {
        let bytes = &mut self.bytes;
        self.rows.retain(|(table, key), change| {
            let goes = of(*table);
            if goes {
                *bytes -= key.len() + value_bytes(change);
            }
            !goes
        });
    }

    fn forget_knocks_before(&mut self, epoch: u64) {
        self.knocks_before = self.knocks_before.max(epoch);
        let (first, end) = knocks_before(epoch);
        let gone: Vec<RowKey> = self
            .rows
            .range((Table::Knocks, first)..(Table::Knocks, end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some(change) = self.rows.remove(&key) {
                self.bytes -= key.1.len() + value_bytes(&change);
            }
        }
    }
}

/// The keys of all knocks of epochs before `epoch`: from the first, up to but without the second.
pub(super) fn knocks_before(epoch: u64) -> (Vec<u8>, Vec<u8>) {
    (Vec::new(), epoch.to_be_bytes().to_vec())
}

fn value_bytes(change: &RowChange) -> usize {
    match change {
        RowChange::Put(value) => value.len(),
        RowChange::Remove | RowChange::Add(_) => size_of::<u64>(),
    }
}
