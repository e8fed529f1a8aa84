//! What a network says of its workers, and how much of it is kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most bytes kept of the clusters of one network ([`Cluster::bytes`]).
pub const MAX_CLUSTER_BYTES: usize = 36 * 1024;
/// Most clusters kept of one network.
const MAX_CLUSTERS: usize = 256;
/// Longest id of a worker, in bytes.
const MAX_WORKER_BYTES: usize = 256;
/// Longest network id, in bytes. LocalAI's are any text.
const MAX_NETWORK_ID_BYTES: usize = 256;
/// What a cluster takes besides its texts, and a worker besides its id.
const OVERHEAD: usize = 8;

/// Servers of one kind under one network id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cluster {
    /// What they are.
    pub kind: ClusterKind,
    /// The network id; empty without one. May have `_`, and from LocalAI's files any character.
    pub network_id: String,
    /// Ids of those that are online, as the network's members say.
    pub workers: Vec<String>,
}

impl Cluster {
    /// About how much it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let workers = self.workers.iter().map(|id| id.len() + OVERHEAD);
        OVERHEAD + self.network_id.len() + workers.sum::<usize>()
    }
}

/// What the members of a cluster do. Stored by number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterKind {
    /// llama.cpp RPC servers (LocalAI's bucket `worker`).
    Worker,
    /// MLX workers. LocalAI shows them as `worker` with the network id `mlx`.
    MlxWorker,
    /// Whole instances behind a federated server.
    Federated,
}

impl ClusterKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Worker, Self::MlxWorker, Self::Federated];

    /// LocalAI's word: `worker`, `mlx_worker` or `federated`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::MlxWorker => "mlx_worker",
            Self::Federated => "federated",
        }
    }
}

impl fmt::Display for ClusterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a [`ClusterKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is one of worker, mlx_worker, federated")]
pub struct ClusterKindError;

impl FromStr for ClusterKind {
    type Err = ClusterKindError;
    fn from_str(text: &str) -> Result<Self, ClusterKindError> {
        let named = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        named.ok_or(ClusterKindError)
    }
}

/// As much of `clusters` as is kept: each kind and network id once, in order, clusters without
/// workers left out, workers sorted and each once, no text over its limit, and no more than
/// `bytes` in all. What does not fit is cut from the end, so that the answer depends on nothing
/// but what was said.
pub fn fit(mut clusters: Vec<Cluster>, bytes: usize) -> Vec<Cluster> {
    clusters.retain(|cluster| cluster.network_id.len() <= MAX_NETWORK_ID_BYTES);
    clusters.sort();
    let mut kept: Vec<Cluster> = Vec::new();
    for cluster in clusters {
        match kept.last_mut() {
            Some(last) if last.kind == cluster.kind && last.network_id == cluster.network_id => {
                last.workers.extend(cluster.workers);
            }
            _ => kept.push(cluster),
        }
    }
    let mut room = bytes.min(MAX_CLUSTER_BYTES);
    for cluster in &mut kept {
        let fits = |id: &String| (1..=MAX_WORKER_BYTES).contains(&id.len());
        cluster.workers.retain(fits);
        cluster.workers.sort();
        cluster.workers.dedup();
        let mut left = room.saturating_sub(OVERHEAD + cluster.network_id.len());
        let taken = cluster.workers.iter().take_while(|id| {
            let rest = left.checked_sub(id.len() + OVERHEAD);
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        let taken = taken.count();
        cluster.workers.truncate(taken);
        if taken > 0 {
            room = left;
        }
    }
    kept.retain(|cluster| !cluster.workers.is_empty());
    kept.truncate(MAX_CLUSTERS);
    kept
}
