//! The rows together: who may come in, and what a change does.
//!
//! [`Networks`] is a value that is read while the next one is made. Changes are values, too:
//! [`Networks::add`] and its like say what is to be stored, and [`Networks::with`] is the table
//! with it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::cluster::{Cluster, MAX_CLUSTER_BYTES};
use super::look::{Change, Outcome, Policy};
use super::page::Sort;
use super::{
    History, MAX_BOOTSTRAP, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES, Network, NetworkKey, State,
};
use crate::mesh::addr::HostPort;
use crate::mesh::token::Token;

/// Most networks of which it is remembered that they were removed; the oldest are forgotten.
const MAX_REMOVED: usize = 20_000;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Most networks.
    pub rows: usize,
    /// Most bytes of all networks together ([`Network::bytes`]).
    pub bytes: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            rows: 20_000,
            bytes: 128 * 1024 * 1024,
        }
    }
}

/// A network that is to come in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNetwork {
    /// Its token.
    pub token: Token,
    /// What it is called.
    pub name: String,
    /// What is said of it.
    pub description: String,
    /// Where to reach it, besides what the token names.
    pub bootstrap: Vec<HostPort>,
    /// Whether its token may be shown to everybody.
    pub publish_token: bool,
    /// What a document says of its workers.
    pub clusters: Option<Vec<Cluster>>,
    /// What a document says of its failures.
    pub failures: u32,
}

impl NewNetwork {
    /// A network of which only the token is known, and that agreed to nothing.
    pub fn new(token: Token) -> Self {
        Self {
            token,
            name: String::new(),
            description: String::new(),
            bootstrap: Vec::new(),
            publish_token: false,
            clusters: None,
            failures: 0,
        }
    }

    fn check(&self) -> Result<(), Refused> {
        check_texts(&self.name, &self.description, &self.bootstrap)
    }

    fn into_row(self, key: NetworkKey, incarnation: u64, now_ms: u64) -> Network {
        let mut row = Network {
            key,
            incarnation,
            token: self.token,
            name: self.name,
            description: self.description,
            bootstrap: self.bootstrap,
            publish_token: self.publish_token,
            clusters: self.clusters,
            nodes: 0,
            failures: self.failures,
            state: State::New,
            added_ms: now_ms,
            first_seen_ms: None,
            last_seen_ms: None,
            first_success_ms: None,
            last_success_ms: None,
            last_look_ms: None,
            last_error: None,
            hidden_for_ms: 0,
            next_look_ms: now_ms,
            history: History::default(),
        };
        if row.has_workers() {
            // Another explorer saw them.
            row.state = State::Stale;
        }
        row
    }
}

fn check_texts(name: &str, description: &str, bootstrap: &[HostPort]) -> Result<(), Refused> {
    let (len, max) = (name.len(), MAX_NAME_BYTES);
    if len > max {
        return Err(Refused::Name { len });
    }
    let (len, max) = (description.len(), MAX_DESCRIPTION_BYTES);
    if len > max {
        return Err(Refused::Description { len });
    }
    match bootstrap.len() {
        count if count > MAX_BOOTSTRAP => Err(Refused::Bootstrap { count }),
        _ => Ok(()),
    }
}

/// What the operator changes of a row; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// What it is called.
    pub name: Option<String>,
    /// What is said of it.
    pub description: Option<String>,
    /// Where to reach it; looks at it at once.
    pub bootstrap: Option<Vec<HostPort>>,
    /// Whether its token may be shown to everybody.
    pub publish_token: Option<bool>,
    /// Another token of the same network; looks at it at once.
    pub token: Option<Token>,
}

/// What a look found, and at which row.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// The network.
    pub key: NetworkKey,
    /// [`Network::incarnation`] of the row that was looked at.
    pub incarnation: u64,
    /// What was found.
    pub outcome: Outcome,
    /// Any number: spreads the next looks.
    pub random: u32,
}

/// What became of looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// With a worker online.
    pub active: usize,
    /// Without one.
    pub missed: usize,
    /// Without one, once too often: hidden now.
    pub hidden: Vec<NetworkKey>,
    /// Hidden for long enough: removed.
    pub gone: Vec<NetworkKey>,
    /// The explorer was offline.
    pub excused: usize,
    /// The row is not there any more, or another one by now.
    pub void: usize,
}

/// What an import does, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Networks that were not known.
    pub added: usize,
    /// Networks whose name or description is the document's now.
    pub changed: usize,
    /// Networks that were known; nothing of them is changed.
    pub known: usize,
    /// Networks that are not in the document and go.
    pub removed: usize,
    /// Networks that were removed here and do not come back.
    pub barred: usize,
}

/// That a network was removed: what brings rows from elsewhere leaves it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Which.
    pub key: NetworkKey,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What is to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Rows to remove, which is remembered.
    pub remove: Vec<Removed>,
    /// Rows to set, after that.
    pub put: Vec<Arc<Network>>,
    /// Removals to forget.
    pub forget: Vec<NetworkKey>,
}

impl Edits {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty() && self.forget.is_empty()
    }
}

/// Why a change was not made. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The network is there already, perhaps in another spelling of its token.
    #[error("network {0} is known already")]
    Exists(NetworkKey),
    /// There is no such network.
    #[error("there is no network {0}")]
    NotFound(NetworkKey),
    /// More than [`Held`] allows.
    #[error("the database would have {rows} networks of {bytes} bytes, at most {} of {} are kept", held.rows, held.bytes)]
    Full {
        /// How many networks there would be.
        rows: usize,
        /// How many bytes they would take.
        bytes: usize,
        /// How many may be.
        held: Held,
    },
    /// A name is too long.
    #[error("the name has {len} bytes, at most {MAX_NAME_BYTES} are kept")]
    Name {
        /// Its bytes.
        len: usize,
    },
    /// A description is too long.
    #[error("the description has {len} bytes, at most {MAX_DESCRIPTION_BYTES} are kept")]
    Description {
        /// Its bytes.
        len: usize,
    },
    /// Too many addresses.
    #[error("{count} addresses were given, at most {MAX_BOOTSTRAP} are kept")]
    Bootstrap {
        /// How many.
        count: usize,
    },
    /// The token is another network's.
    #[error("the token is of network {given}, not of {wanted}")]
    OtherNetwork {
        /// The row's network.
        wanted: NetworkKey,
        /// The token's.
        given: NetworkKey,
    },
    /// Replacing everything with nothing is an accident.
    #[error("there are no networks to replace the others with")]
    Empty,
}

/// All networks of an explorer, at one moment.
#[derive(Debug, Default)]
pub struct Networks {
    rows: BTreeMap<NetworkKey, Arc<Network>>,
    removed: BTreeMap<NetworkKey, u64>,
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
            removed: removed.iter().map(|gone| (gone.key, gone.at_ms)).collect(),
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
        self.check_room(1, row.bytes(), 0)?;
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
        self.check_room(0, row.bytes(), old.bytes())?;
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
            self.bury(*key, now_ms, &mut edits);
        }
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
                    self.bury(key, now_ms, &mut edits);
                    continue;
                }
            }
            bytes = bytes.saturating_sub(old_bytes) + row.bytes();
            put.insert(key, row.into());
        }
        edits.put = put.into_values().collect();
        (edits, recorded)
    }

    /// The table with `edits`.
    #[must_use]
    pub fn with(&self, edits: &Edits) -> Self {
        let mut next = Self {
            rows: self.rows.clone(),
            removed: self.removed.clone(),
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
            next.removed.insert(gone.key, gone.at_ms);
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
            next.removed.remove(key);
        }
        next
    }

    fn check_room(&self, rows: usize, more: usize, less: usize) -> Result<(), Refused> {
        let rows = self.rows.len() + rows;
        let bytes = (self.bytes + more).saturating_sub(less);
        // What makes a full database smaller is welcome.
        match rows > self.held.rows || (bytes > self.held.bytes && more > less) {
            true => Err(Refused::Full {
                rows,
                bytes,
                held: self.held,
            }),
            false => Ok(()),
        }
    }

    /// Removes a row, and forgets the oldest removal if there are too many.
    fn bury(&self, key: NetworkKey, at_ms: u64, edits: &mut Edits) {
        edits.remove.push(Removed { key, at_ms });
        let known = self.removed.len() + edits.remove.len() - edits.forget.len();
        if known > MAX_REMOVED {
            let oldest = self
                .removed
                .iter()
                .filter(|(key, _)| !edits.forget.contains(key));
            let oldest = oldest.min_by_key(|(_, at_ms)| **at_ms).map(|(key, _)| *key);
            edits.forget.extend(oldest);
        }
    }
}
