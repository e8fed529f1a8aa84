//! The rows together: who may come in, and what a change does.
//!
//! [`Networks`] is a value that is read while the next one is made. Changes are values, too:
//! [`Networks::add`] and its like say what is to be stored, and [`Networks::with`] is the table
//! with it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::change::{
    Edit, Edits, Held, Looked, NewNetwork, Recorded, Refused, Removed, check_texts,
};
use super::cluster::{Cluster, MAX_CLUSTER_BYTES};
use super::look::{Change, Policy};
use super::page::Sort;
use super::{Network, NetworkKey};

/// Most networks of which it is remembered that they were removed; the oldest are forgotten.
const MAX_REMOVED: usize = 20_000;

/// All networks of an explorer, at one moment.
#[derive(Debug, Default)]
pub struct Networks {
    rows: BTreeMap<NetworkKey, Arc<Network>>,
    /// Shared with the table before, because it seldom changes.
    removed: Arc<BTreeMap<NetworkKey, u64>>,
    held: Held,
    bytes: usize,
    revision: u64,
    next_incarnation: u64,
    orders: [OnceLock<Vec<Arc<Network>>>; Sort::ALL.len()],
}

impl Networks {
    /// The networks that were stored.
    pub fn new(rows: Vec<Network>, removed: Vec<Removed>, held: Held) -> Self {
        let mut table = Self {
            held,
            removed: Arc::new(removed.iter().map(|gone| (gone.key, gone.at_ms)).collect()),
            ..Self::default()
        };
        for mut row in rows {
            row.incarnation = table.next_incarnation;
            table.next_incarnation += 1;
            table.bytes += row.bytes();
            table.rows.insert(row.key, row.into());
        }
        table
    }

    /// Counts the changes since the start.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many networks there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many bytes they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One network.
    pub fn get(&self, key: &NetworkKey) -> Option<&Arc<Network>> {
        self.rows.get(key)
    }

    /// All networks, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.rows.values()
    }

    /// All networks in an order, which is made once.
    pub fn sorted(&self, sort: Sort) -> &[Arc<Network>] {
        let all = Sort::ALL.iter().position(|(_, known)| *known == sort);
        let made = all.and_then(|at| self.orders.get(at)).map(|order| {
            order.get_or_init(|| {
                let mut rows: Vec<_> = self.rows.values().cloned().collect();
                sort.sort(&mut rows);
                rows
            })
        });
        made.map(Vec::as_slice).unwrap_or_default()
    }

    /// What `GET /networks` lists, most clusters first.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Network>> {
        let sorted = self.sorted(Sort::Clusters).iter();
        sorted.filter(|row| row.is_listed())
    }

    /// The networks to look at now, the longest waiting first.
    pub fn due(&self, now_ms: u64, policy: &Policy) -> Vec<Arc<Network>> {
        let mut due: Vec<_> = self
            .rows
            .values()
            .filter(|row| row.is_due(now_ms, policy))
            .cloned()
            .collect();
        due.sort_by_key(|row| row.next_look_ms);
        due
    }

    /// When the next network is due, in milliseconds since the Unix epoch; `None` without any.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.rows.values().map(|row| row.next_look_ms).min()
    }

    /// Whether the network was removed, and did not come back since.
    pub fn is_removed(&self, key: &NetworkKey) -> bool {
        self.removed.contains_key(key)
    }

    /// Takes a network in, as somebody's word: also one that was removed before.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn add(&self, new: NewNetwork, now_ms: u64) -> Result<(Edits, Arc<Network>), Refused> {
        new.check()?;
        let key = NetworkKey::of(&new.token);
        if self.rows.contains_key(&key) {
            return Err(Refused::Exists(key));
        }
        let row = Arc::new(new.into_row(key, self.next_incarnation, now_ms));
        let mut room = self.room(&Edits::default());
        if !room.take(row.bytes()) {
            return Err(room.refused(row.bytes()));
        }
        let mut edits = Edits::default();
        edits.put.push(Arc::clone(&row));
        edits.forget.extend(self.is_removed(&key).then_some(key));
        Ok((edits, row))
    }

    /// Changes a row.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn edit(
        &self,
        key: &NetworkKey,
        edit: Edit,
        now_ms: u64,
    ) -> Result<(Edits, Arc<Network>), Refused> {
        let old = self.rows.get(key).ok_or(Refused::NotFound(*key))?;
        let mut row = Network::clone(old);
        let look_now = edit.token.is_some() || edit.bootstrap.is_some();
        row.name = edit.name.unwrap_or(row.name);
        row.description = edit.description.unwrap_or(row.description);
        row.bootstrap = edit.bootstrap.unwrap_or(row.bootstrap);
        row.publish_token = edit.publish_token.unwrap_or(row.publish_token);
        if let Some(token) = edit.token {
            let given = NetworkKey::of(&token);
            if given != *key {
                return Err(Refused::OtherNetwork {
                    wanted: *key,
                    given,
                });
            }
            row.token = token;
        }
        if look_now {
            row.next_look_ms = now_ms;
            row.incarnation = self.next_incarnation;
        }
        check_texts(&row.name, &row.description, &row.bootstrap)?;
        let mut room = self.room(&Edits::default());
        room.rows = room.rows.saturating_sub(1);
        room.swap(old.bytes(), 0);
        // What makes a full database smaller is welcome.
        if row.bytes() > old.bytes() && !room.fits(row.bytes()) {
            return Err(room.refused(row.bytes()));
        }
        let mut edits = Edits::default();
        let row = Arc::new(row);
        if row != *old {
            edits.put.push(Arc::clone(&row));
        }
        Ok((edits, row))
    }

    /// Removes networks.
    ///
    /// # Errors
    /// [`Refused::NotFound`]; then none is removed.
    pub fn remove(&self, keys: &[NetworkKey], now_ms: u64) -> Result<Edits, Refused> {
        if let Some(missing) = keys.iter().find(|key| !self.rows.contains_key(key)) {
            return Err(Refused::NotFound(*missing));
        }
        let mut edits = Edits::default();
        for key in keys {
            edits.bury(*key, now_ms);
        }
        self.forget_oldest(&mut edits);
        Ok(edits)
    }

    /// Notes what looks at networks found. Rows that are not there any more, or are others by
    /// now, stay as they are.
    pub fn record(&self, looks: Vec<Looked>, now_ms: u64, policy: &Policy) -> (Edits, Recorded) {
        let mut edits = Edits::default();
        let mut recorded = Recorded::default();
        let mut put: BTreeMap<NetworkKey, Arc<Network>> = BTreeMap::new();
        let mut bytes = self.bytes;
        for looked in looks {
            let key = looked.key;
            let old = put.get(&key).or_else(|| self.rows.get(&key));
            let same = |row: &&Arc<Network>| row.incarnation == looked.incarnation;
            let Some(old) = old.filter(same) else {
                recorded.void += 1;
                continue;
            };
            let mut row = Network::clone(old);
            let old_bytes = row.bytes();
            let clusters = row
                .clusters
                .iter()
                .flatten()
                .map(Cluster::bytes)
                .sum::<usize>();
            let room = self.held.bytes.saturating_sub(bytes) + clusters;
            let room = room.min(MAX_CLUSTER_BYTES);
            match row.apply(looked.outcome, now_ms, looked.random, policy, room) {
                Change::Active => recorded.active += 1,
                Change::Missed => recorded.missed += 1,
                Change::Excused => recorded.excused += 1,
                Change::Hidden => recorded.hidden.push(key),
                Change::Gone => {
                    recorded.gone.push(key);
                    put.remove(&key);
                    bytes = bytes.saturating_sub(old_bytes);
                    edits.bury(key, now_ms);
                    continue;
                }
            }
            bytes = bytes.saturating_sub(old_bytes) + row.bytes();
            put.insert(key, row.into());
        }
        edits.put = put.into_values().collect();
        self.forget_oldest(&mut edits);
        (edits, recorded)
    }

    /// The table with `edits`.
    #[must_use]
    pub fn with(&self, edits: &Edits) -> Self {
        let mut next = Self {
            rows: self.rows.clone(),
            removed: Arc::clone(&self.removed),
            held: self.held,
            bytes: self.bytes,
            revision: self.revision.saturating_add(1),
            next_incarnation: self.next_incarnation,
            orders: Default::default(),
        };
        for gone in &edits.remove {
            if let Some(old) = next.rows.remove(&gone.key) {
                next.bytes = next.bytes.saturating_sub(old.bytes());
            }
            Arc::make_mut(&mut next.removed).insert(gone.key, gone.at_ms);
        }
        for row in &edits.put {
            let after = row.incarnation.saturating_add(1);
            next.next_incarnation = next.next_incarnation.max(after);
            next.bytes += row.bytes();
            if let Some(old) = next.rows.insert(row.key, Arc::clone(row)) {
                next.bytes = next.bytes.saturating_sub(old.bytes());
            }
        }
        for key in &edits.forget {
            Arc::make_mut(&mut next.removed).remove(key);
        }
        next
    }

    /// The number of the row that comes in as the next but `nth`.
    pub(super) fn incarnation(&self, nth: usize) -> u64 {
        let nth = u64::try_from(nth).unwrap_or(u64::MAX);
        self.next_incarnation.saturating_add(nth)
    }

    /// What there is with `edits`, against what may be.
    pub(super) fn room(&self, edits: &Edits) -> Room {
        let removed = edits.remove.iter().filter_map(|gone| self.get(&gone.key));
        let mut room = Room {
            rows: self.rows.len(),
            bytes: self.bytes,
            held: self.held,
        };
        for row in removed {
            room.rows = room.rows.saturating_sub(1);
            room.swap(row.bytes(), 0);
        }
        room
    }

    /// Forgets the oldest removals, if there are too many with those of `edits`.
    pub(super) fn forget_oldest(&self, edits: &mut Edits) {
        let known = self.removed.len() + edits.remove.len();
        let extra = known.saturating_sub(MAX_REMOVED);
        if extra > 0 {
            let mut oldest: Vec<(u64, NetworkKey)> = self
                .removed
                .iter()
                .map(|(key, at_ms)| (*at_ms, *key))
                .collect();
            oldest.sort_unstable();
            let oldest = oldest.into_iter().take(extra);
            edits.forget.extend(oldest.map(|(_, key)| key));
        }
    }
}

/// How much is there while rows come in.
pub(super) struct Room {
    rows: usize,
    bytes: usize,
    held: Held,
}

impl Room {
    fn fits(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.held.bytes
    }

    /// Whether one more row of so many bytes fits; then it is counted.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.rows < self.held.rows && self.fits(bytes);
        if fits {
            self.rows += 1;
            self.bytes += bytes;
        }
        fits
    }

    /// Counts a row with other bytes.
    pub(super) fn swap(&mut self, old: usize, new: usize) {
        self.bytes = self.bytes.saturating_sub(old) + new;
    }

    /// Why a row of so many bytes does not come in.
    pub(super) fn refused(&self, bytes: usize) -> Refused {
        Refused::Full {
            rows: self.rows + 1,
            bytes: self.bytes + bytes,
            held: self.held,
        }
    }
}
