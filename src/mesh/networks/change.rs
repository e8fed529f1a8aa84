//! What comes in, what is asked to be changed, and what becomes of it.

use std::ops::AddAssign;
use std::sync::Arc;

use super::cluster::Cluster;
use super::look::Outcome;
use super::{
    History, MAX_BOOTSTRAP, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES, Network, NetworkKey, State,
};
use crate::mesh::addr::HostPort;
use crate::mesh::token::Token;

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
            bytes: 128_000_000,
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

    pub(super) fn check(&self) -> Result<(), Refused> {
        check_texts(&self.name, &self.description, &self.bootstrap)
    }

    pub(super) fn into_row(self, key: NetworkKey, incarnation: u64, now_ms: u64) -> Network {
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

pub(super) fn check_texts(
    name: &str,
    description: &str,
    bootstrap: &[HostPort],
) -> Result<(), Refused> {
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
    /// Networks for which there is no room.
    pub left_out: usize,
}

impl AddAssign for Merged {
    fn add_assign(&mut self, more: Self) {
        self.added += more.added;
        self.changed += more.changed;
        self.known += more.known;
        self.removed += more.removed;
        self.barred += more.barred;
        self.left_out += more.left_out;
    }
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

    /// Removes a row.
    pub(super) fn bury(&mut self, key: NetworkKey, at_ms: u64) {
        self.remove.push(Removed { key, at_ms });
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
