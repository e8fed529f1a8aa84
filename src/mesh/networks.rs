//! What an explorer knows of networks: the rows of its database, and what a look at a network
//! changes. A row holds the network's token, so a row is a secret; what it says of clusters and
//! workers is what members of that network claim, and proves nothing.
//!
//! | part | decides |
//! |---|---|
//! | [`Network`] | what one row is |
//! | [`Cluster`], [`fit`] | what is kept of what a network says of its workers |
//! | [`Outcome`], [`Network::apply`], [`Policy`] | what a look changes, and when the next is due |
//! | [`Networks`] | all rows: who may come in, and what is shown |
//! | [`Query`] | which rows are shown, in which order |

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD_NOCASE;
use serde::{Deserialize, Serialize};

use super::addr::HostPort;
use super::keys::{FINGERPRINT_BYTES, NetworkKeys};
use super::token::Token;

mod change;
mod cluster;
mod import;
mod look;
mod page;
mod table;

pub use change::{Edit, Edits, Held, Looked, Merged, NewNetwork, Recorded, Refused, Removed};
pub use cluster::{Cluster, ClusterKind, ClusterKindError, MAX_CLUSTER_BYTES, fit};
pub use import::Import;
pub use look::{Change, History, Look, Outcome, Policy, Saw};
pub use page::{MAX_PAGE, Page, Query, Sort, SortError};
pub use table::Networks;

/// Longest name of a network, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest description, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 4 * 1024;
/// Most addresses posted with a token.
pub const MAX_BOOTSTRAP: usize = 8;
/// Longest text kept of what went wrong, in bytes.
pub const MAX_ERROR_BYTES: usize = 256;

/// Which network a row is of: the network's public name. Another spelling of the same token, and
/// a later generation of it, have the same key.
///
/// As text 16 characters of base32, as `token inspect` shows them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkKey([u8; FINGERPRINT_BYTES]);

impl NetworkKey {
    /// Bytes of a key.
    pub const BYTES: usize = FINGERPRINT_BYTES;

    /// The network of a token.
    pub fn of(token: &Token) -> Self {
        Self(NetworkKeys::new(token).fingerprint_bytes())
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD_NOCASE.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Text that is not the fingerprint of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network's fingerprint is 16 characters of a-z and 2-7, as `token inspect` shows it")]
pub struct NetworkKeyError;

impl FromStr for NetworkKey {
    type Err = NetworkKeyError;
    fn from_str(text: &str) -> Result<Self, NetworkKeyError> {
        let bytes = BASE32_NOPAD_NOCASE.decode(text.as_bytes());
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(NetworkKeyError)
    }
}

impl TryFrom<String> for NetworkKey {
    type Error = NetworkKeyError;
    fn try_from(text: String) -> Result<Self, NetworkKeyError> {
        text.parse()
    }
}

impl From<NetworkKey> for String {
    fn from(key: NetworkKey) -> String {
        key.to_string()
    }
}

/// One network. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its network: the key of the row, which follows from the token.
    pub key: NetworkKey,
    /// Which coming in of this network the row is from. No two are the same while a process runs,
    /// so that a look at a row that is gone, or that is another one by now, changes nothing. Not
    /// stored: no look outlives its process.
    pub incarnation: u64,
    /// Its token: a secret.
    pub token: Token,
    /// What it is called: any text, from strangers.
    pub name: String,
    /// What is said of it: any text, from strangers.
    pub description: String,
    /// Where to reach it, besides what the token names. Chosen by strangers.
    pub bootstrap: Vec<HostPort>,
    /// Whether who posted it agreed that its token is shown to everybody.
    pub publish_token: bool,
    /// What was last seen of its workers; `None` if never any, LocalAI's `null`.
    pub clusters: Option<Vec<Cluster>>,
    /// Nodes online in the last look that was answered.
    pub nodes: u32,
    /// Looks in a row that saw no worker online (LocalAI's `Failures`).
    pub failures: u32,
    /// What looks found.
    pub state: State,
    /// When it came in.
    pub added_ms: u64,
    /// When it first answered.
    pub first_seen_ms: Option<u64>,
    /// When it last answered.
    pub last_seen_ms: Option<u64>,
    /// When a worker was first online.
    pub first_success_ms: Option<u64>,
    /// When a worker was last online.
    pub last_success_ms: Option<u64>,
    /// When it was last looked at.
    pub last_look_ms: Option<u64>,
    /// What was wrong in the last look; `None` if nothing.
    pub last_error: Option<String>,
    /// How long it is hidden, as far as looks saw it: time in which nobody looked is not counted,
    /// nor is a jump of the clock.
    pub hidden_for_ms: u64,
    /// From when on it is to be looked at again.
    pub next_look_ms: u64,
    /// The last looks, oldest first.
    pub history: History,
}

impl Network {
    /// Whether a worker was online when it was last looked at with success.
    pub fn has_workers(&self) -> bool {
        self.workers() > 0
    }

    /// Workers in all clusters.
    pub fn workers(&self) -> usize {
        let clusters = self.clusters.iter().flatten();
        clusters.map(|cluster| cluster.workers.len()).sum()
    }

    /// Number of clusters.
    pub fn cluster_count(&self) -> usize {
        self.clusters.as_ref().map_or(0, Vec::len)
    }

    /// Whether `GET /networks` lists it: LocalAI shows who has a worker, until it removes the row.
    pub fn is_listed(&self) -> bool {
        self.state != State::Hidden && self.has_workers()
    }

    /// About how much memory and disk it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let bootstrap = self.bootstrap.iter().map(|at| at.host().len() + 6);
        ROW_OVERHEAD
            + self.token.text_bytes()
            + self.name.len()
            + self.description.len()
            + self.last_error.as_ref().map_or(0, String::len)
            + bootstrap.sum::<usize>()
            + self
                .clusters
                .iter()
                .flatten()
                .map(Cluster::bytes)
                .sum::<usize>()
            + self.history.bytes()
    }
}

/// What a row takes besides its texts, roughly.
const ROW_OVERHEAD: usize = 512;

/// What looks found of a network. Stored by number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No look saw a worker yet.
    New,
    /// The last look saw a worker.
    Active,
    /// An earlier look saw one, the last did not.
    Stale,
    /// Too many looks in a row saw none. It is not shown, and goes if that stays so.
    Hidden,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::New, Self::Active, Self::Stale, Self::Hidden];

    /// `new`, `active`, `stale` or `hidden`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Stale => "stale",
            Self::Hidden => "hidden",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is one of new, active, stale, hidden")]
pub struct StateError;

impl FromStr for State {
    type Err = StateError;
    fn from_str(text: &str) -> Result<Self, StateError> {
        let named = Self::ALL.into_iter().find(|state| state.as_str() == text);
        named.ok_or(StateError)
    }
}

#[cfg(test)]
mod tests;
