//! What `explorer sync --json` and `POST /v1/networks/sync` say.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::NodeError;
use super::ip_table::control_free;
use crate::mesh::networks::{Cluster, NetworkKey, Outcome, State};

/// One line of the answer to `POST /v1/networks/sync`: how many there are, each network as soon as
/// what was found is on disk, then one of the others, last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncLine {
    /// It has begun.
    Syncing(SyncStart),
    /// What was found of one network.
    Network(NetworkSynced),
    /// Every network was looked at.
    Done(SyncDone),
    /// It broke off.
    Error(NodeError),
}

/// How many networks are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStart {
    /// So many lines follow before the last, if none comes or goes meanwhile.
    pub networks: usize,
}

/// What a look found, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncOutcome {
    /// Workers that are online.
    Workers,
    /// Nodes, and no worker.
    Nodes,
    /// Nobody.
    Nobody,
    /// It could not look.
    Failure,
    /// Nothing: the fault was with this machine, or the network has to wait.
    Unknown,
}

impl SyncOutcome {
    /// Of what a look found.
    pub fn of(outcome: &Outcome) -> Self {
        let serves = |cluster: &Cluster| !cluster.workers.is_empty();
        match outcome {
            Outcome::Seen { clusters, .. } if clusters.iter().any(serves) => Self::Workers,
            Outcome::Seen { .. } => Self::Nodes,
            Outcome::Silent { .. } => Self::Nobody,
            Outcome::Failed { .. } => Self::Failure,
            Outcome::Offline => Self::Unknown,
        }
    }
}

/// What a look at one network found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSynced {
    /// Its fingerprint.
    pub network: NetworkKey,
    /// What it is called.
    pub name: String,
    /// What the look found.
    pub outcome: SyncOutcome,
    /// Why no more was found.
    pub reason: Option<String>,
    /// What it is from now on; `null` if it was removed.
    pub state: Option<State>,
    /// Looks in a row that saw no worker.
    pub failures: u32,
    /// Nodes that are online, as one of them says.
    pub nodes: u32,
    /// Workers that are online, as their network says.
    pub workers: usize,
    /// The same in full; empty unless there are workers.
    pub clusters: Vec<Cluster>,
    /// How long the look took, in milliseconds.
    pub took_ms: u64,
}

/// What came of all, in networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDone {
    /// Looked at.
    pub networks: usize,
    /// With a worker online.
    pub active: usize,
    /// Without one.
    pub missed: usize,
    /// Of these, not shown any more.
    pub hidden: usize,
    /// Of these, removed.
    pub removed: usize,
    /// Of which nothing is known.
    pub unknown: usize,
    /// Removed or replaced by somebody during the look.
    pub gone: usize,
}

/// What `explorer sync --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncReport {
    /// What came of all.
    pub sync: SyncDone,
    /// Each network, in the order in which they ended.
    pub networks: Vec<NetworkSynced>,
}

impl SyncReport {
    /// Writes it as a line of JSON without control characters: names are from strangers.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        control_free(out, self)?;
        out.write_all(b"\n")
    }
}
