//! The JSON of the explorer, as types: LocalAI's list, and our own (`schema/explorer.openapi.json`).

use serde::Serialize;

use super::commands::JoinCommand;
use crate::formats::timestamp::Timestamp;
use crate::mesh::networks::{Cluster, ClusterKind, Network, NetworkKey, State};

/// A row of `GET /networks`, in LocalAI's order and spelling, and our fingerprint behind it.
#[derive(Serialize)]
pub(super) struct LocalAiNetwork<'a> {
    name: &'a str,
    description: &'a str,
    #[serde(rename = "Clusters")]
    clusters: Vec<LocalAiCluster<'a>>,
    #[serde(rename = "Failures")]
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    fingerprint: NetworkKey,
}

#[derive(Serialize)]
struct LocalAiCluster<'a> {
    #[serde(rename = "Workers")]
    workers: &'a [String],
    #[serde(rename = "Type")]
    kind: ClusterKind,
    #[serde(rename = "NetworkID")]
    network_id: &'a str,
}

impl<'a> LocalAiNetwork<'a> {
    pub(super) fn of(network: &'a Network, publish_tokens: bool) -> Self {
        let clusters = network.clusters.as_deref().unwrap_or_default().iter();
        let clusters = clusters.map(|cluster| LocalAiCluster {
            workers: &cluster.workers,
            kind: cluster.kind,
            network_id: &cluster.network_id,
        });
        Self {
            name: &network.name,
            description: &network.description,
            clusters: clusters.collect(),
            failures: network.failures,
            token: token(network, publish_tokens),
            fingerprint: network.key,
        }
    }
}

/// The token, if it is for everybody.
pub(super) fn token(network: &Network, publish_tokens: bool) -> Option<String> {
    let shown = publish_tokens && network.publish_token;
    shown.then(|| network.token.to_text().as_str().to_owned())
}

/// `GET /api/v1/networks`.
#[derive(Serialize)]
pub(super) struct Listing<'a> {
    /// Greater with each change.
    pub(super) revision: u64,
    /// Networks that are shown at all.
    pub(super) total: usize,
    /// Those of them with a worker online.
    pub(super) online: usize,
    /// Those that were asked for, on all pages.
    pub(super) matching: usize,
    pub(super) offset: usize,
    pub(super) limit: usize,
    pub(super) networks: Vec<Listed<'a>>,
}

/// One network, without its token.
#[derive(Serialize)]
pub(super) struct Listed<'a> {
    fingerprint: NetworkKey,
    name: &'a str,
    description: &'a str,
    state: State,
    /// What its members claim.
    clusters: Vec<ListedCluster<'a>>,
    workers: usize,
    nodes: u32,
    failures: u32,
    token_published: bool,
    added_at: Timestamp,
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    last_success: Option<Timestamp>,
}

#[derive(Serialize)]
struct ListedCluster<'a> {
    #[serde(rename = "type")]
    kind: ClusterKind,
    network_id: &'a str,
    workers: usize,
}

impl<'a> Listed<'a> {
    pub(super) fn of(network: &'a Network, publish_tokens: bool) -> Self {
        let clusters = network.clusters.as_deref().unwrap_or_default().iter();
        let clusters = clusters.map(|cluster| ListedCluster {
            kind: cluster.kind,
            network_id: &cluster.network_id,
            workers: cluster.workers.len(),
        });
        Self {
            fingerprint: network.key,
            name: &network.name,
            description: &network.description,
            state: network.state,
            clusters: clusters.collect(),
            workers: network.workers(),
            nodes: network.nodes,
            failures: network.failures,
            token_published: publish_tokens && network.publish_token,
            added_at: Timestamp(network.added_ms),
            first_seen: network.first_seen_ms.map(Timestamp),
            last_seen: network.last_seen_ms.map(Timestamp),
            last_success: network.last_success_ms.map(Timestamp),
        }
    }
}

/// `GET /api/v1/networks/{fingerprint}`.
#[derive(Serialize)]
pub(super) struct Detail<'a> {
    #[serde(flatten)]
    pub(super) network: Listed<'a>,
    /// Who is in each cluster, as its members claim.
    pub(super) members: Vec<Members<'a>>,
    /// If it is for everybody.
    pub(super) token: Option<String>,
    /// What to type; without a token nothing.
    pub(super) commands: Vec<JoinCommand>,
}

/// Who is in a cluster.
#[derive(Serialize)]
pub(super) struct Members<'a> {
    #[serde(rename = "type")]
    kind: ClusterKind,
    network_id: &'a str,
    workers: &'a [String],
}

impl<'a> From<&'a Cluster> for Members<'a> {
    fn from(cluster: &'a Cluster) -> Self {
        Self {
            kind: cluster.kind,
            network_id: &cluster.network_id,
            workers: &cluster.workers,
        }
    }
}

/// What `GET /api/v1/events` says.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    pub(super) at_ms: u64,
    pub(super) revision: u64,
    #[serde(flatten)]
    pub(super) what: What<'a>,
}

/// In JSON the field `event` names the kind.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum What<'a> {
    /// How many there are. Whatever was known before may be wrong.
    Networks { total: usize, online: usize },
    /// One that is new, or has changed.
    Network { network: Box<Listed<'a>> },
    /// One that is shown no more.
    NetworkRemoved { fingerprint: NetworkKey },
}

impl What<'_> {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Networks { .. } => "networks",
            Self::Network { .. } => "network",
            Self::NetworkRemoved { .. } => "network_removed",
        }
    }
}
