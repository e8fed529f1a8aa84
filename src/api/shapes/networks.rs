//! The networks of an explorer as its operator's scripts see them.

use std::borrow::Borrow;
use std::fmt;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::NodeError;
use super::ip_table::control_free;
use crate::formats::explorer::Problem;
use crate::formats::timestamp::Timestamp;
use crate::mesh::addr::HostPort;
use crate::mesh::networks::{Cluster, ClusterKind, Look, Network, NetworkKey, Saw, State};
use crate::mesh::token::Token;
use crate::service::networks::{Imported, NetworksError};

/// One row of `explorer tokens ls --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Public name of the network.
    pub fingerprint: NetworkKey,
    /// The token; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<TokenLine>,
    /// What it is called.
    pub name: String,
    /// What is said of it.
    pub description: String,
    /// Whether its token is shown to everybody.
    pub publish_token: bool,
    /// Where it is reached, besides what the token names.
    pub bootstrap: Vec<HostPort>,
    /// `new`, `active`, `stale` or `hidden`.
    pub state: State,
    /// What its members said of its workers; null if no look saw one.
    pub clusters: Option<Vec<ClusterInfo>>,
    /// Nodes online when it last answered.
    pub nodes: u32,
    /// Looks in a row that saw no worker.
    pub failures: u32,
    /// When it came in.
    pub added_at: Timestamp,
    /// When it first answered.
    pub first_seen: Option<Timestamp>,
    /// When it last answered.
    pub last_seen: Option<Timestamp>,
    /// When a worker was first online.
    pub first_success: Option<Timestamp>,
    /// When a worker was last online.
    pub last_success: Option<Timestamp>,
    /// When it was last looked at.
    pub last_look: Option<Timestamp>,
    /// What was wrong then.
    pub last_error: Option<String>,
    /// From when on it is looked at again.
    pub next_look: Timestamp,
    /// The last looks, oldest first.
    pub looks: Vec<LookInfo>,
}

impl NetworkInfo {
    /// Of a row; with its token only if that is wanted.
    pub fn of(network: &Network, with_token: bool) -> Self {
        let clusters = network.clusters.as_ref();
        let looks = network.history.looks().iter();
        Self {
            fingerprint: network.key,
            token: with_token.then(|| TokenLine::from(&network.token)),
            name: network.name.clone(),
            description: network.description.clone(),
            publish_token: network.publish_token,
            bootstrap: network.bootstrap.clone(),
            state: network.state,
            clusters: clusters.map(|all| all.iter().map(ClusterInfo::from).collect()),
            nodes: network.nodes,
            failures: network.failures,
            added_at: Timestamp(network.added_ms),
            first_seen: network.first_seen_ms.map(Timestamp),
            last_seen: network.last_seen_ms.map(Timestamp),
            first_success: network.first_success_ms.map(Timestamp),
            last_success: network.last_success_ms.map(Timestamp),
            last_look: network.last_look_ms.map(Timestamp),
            last_error: network.last_error.clone(),
            next_look: Timestamp(network.next_look_ms),
            looks: looks.map(LookInfo::from).collect(),
        }
    }

    /// Workers in all clusters.
    pub fn workers(&self) -> usize {
        let clusters = self.clusters.iter().flatten();
        clusters.map(|cluster| cluster.workers.len()).sum()
    }
}

/// A token on its way to or from the operator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct TokenLine(String);

impl TokenLine {
    /// Of a text that need not be a token.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text: a secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&Token> for TokenLine {
    fn from(token: &Token) -> Self {
        Self(token.to_text().as_str().to_owned())
    }
}

impl fmt::Debug for TokenLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenLine(secret)")
    }
}

/// Workers of one kind under one network id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// `worker`, `mlx_worker` or `federated`.
    #[serde(rename = "type")]
    pub kind: ClusterKind,
    /// Empty without one.
    pub network_id: String,
    /// Ids of those that were online.
    pub workers: Vec<String>,
}

impl From<&Cluster> for ClusterInfo {
    fn from(cluster: &Cluster) -> Self {
        Self {
            kind: cluster.kind,
            network_id: cluster.network_id.clone(),
            workers: cluster.workers.clone(),
        }
    }
}

/// One look at a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookInfo {
    /// When.
    pub at: Timestamp,
    /// `workers`, `nodes`, `nobody` or `failure`.
    pub saw: Saw,
    /// Nodes online.
    pub nodes: u32,
    /// Workers online.
    pub workers: u32,
}

impl From<&Look> for LookInfo {
    fn from(look: &Look) -> Self {
        Self {
            at: Timestamp(look.at_ms),
            saw: look.saw,
            nodes: look.nodes,
            workers: look.workers,
        }
    }
}

/// `explorer tokens ls --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkList {
    /// In the order that was asked for.
    pub networks: Vec<NetworkInfo>,
}

/// Writes a [`NetworkList`] row by row, so that a large one is in memory once.
///
/// # Errors
/// Those of `out`.
pub fn write_networks<N: Borrow<Network>>(
    out: &mut impl Write,
    rows: impl IntoIterator<Item = N>,
    with_tokens: bool,
) -> io::Result<()> {
    out.write_all(b"{\"networks\":[")?;
    for (nth, row) in rows.into_iter().enumerate() {
        if nth > 0 {
            out.write_all(b",\n")?;
        }
        control_free(out, &NetworkInfo::of(row.borrow(), with_tokens))?;
    }
    out.write_all(b"]}\n")
}

/// Body of `POST /v1/networks/add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddNetwork {
    /// The token.
    pub token: TokenLine,
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// What is said of it.
    #[serde(default)]
    pub description: String,
    /// Where it is reached, besides what the token names.
    #[serde(default)]
    pub bootstrap: Vec<HostPort>,
    /// Whether its token is shown to everybody.
    #[serde(default)]
    pub publish_token: bool,
}

/// Body of `POST /v1/networks/edit`; what is not there stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditNetwork {
    /// Which network.
    pub fingerprint: NetworkKey,
    /// What it is called.
    #[serde(default)]
    pub name: Option<String>,
    /// What is said of it.
    #[serde(default)]
    pub description: Option<String>,
    /// Where it is reached, besides what the token names.
    #[serde(default)]
    pub bootstrap: Option<Vec<HostPort>>,
    /// Whether its token is shown to everybody.
    #[serde(default)]
    pub publish_token: Option<bool>,
}

/// `explorer tokens add --json` and `edit --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStored {
    /// Public name of the network.
    pub fingerprint: NetworkKey,
}

impl From<&Network> for NetworkStored {
    fn from(network: &Network) -> Self {
        Self {
            fingerprint: network.key,
        }
    }
}

/// Body of `POST /v1/networks/remove`, and `explorer tokens rm --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveNetworks {
    /// Public names.
    pub removed: Vec<NetworkKey>,
}

/// `explorer tokens import --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworksImported {
    /// Whether nothing was stored.
    pub dry_run: bool,
    /// Rows of the document.
    pub rows: usize,
    /// Rows of a network that is there before.
    pub merged: usize,
    /// Networks that were not known.
    pub added: usize,
    /// Networks whose name or description changed.
    pub changed: usize,
    /// Networks that were known and stay as they are.
    pub known: usize,
    /// Networks that were replaced.
    pub removed: usize,
    /// Bad rows that were left out.
    pub skipped: usize,
    /// The first of them, each with its place.
    pub problems: Vec<String>,
    /// What was read otherwise than written: how often.
    pub note_count: usize,
    /// The first of that.
    pub notes: Vec<String>,
}

impl NetworksImported {
    /// Of what an import did.
    pub fn of(imported: &Imported, dry_run: bool) -> Self {
        let Imported { report, merged } = imported;
        let texts = |all: &[Problem]| all.iter().map(ToString::to_string).collect();
        Self {
            dry_run,
            rows: report.rows,
            merged: report.merged,
            added: merged.added,
            changed: merged.changed,
            known: merged.known,
            removed: merged.removed,
            skipped: report.problem_count,
            problems: texts(&report.problems),
            note_count: report.note_count,
            notes: texts(&report.notes),
        }
    }
}

impl From<NetworksError> for NodeError {
    fn from(error: NetworksError) -> Self {
        let shown = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => shown.with_hint(hint),
            None => shown,
        }
    }
}
