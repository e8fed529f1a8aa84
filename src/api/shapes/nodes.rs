//! Nodes and services as scripts see them.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Usage;
use crate::formats::timestamp::Timestamp;
use crate::mesh::id::NodeId;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::records::Protocol;
use crate::mesh::view::{NodeView, PathKind, PathView, Provider, View};

/// `nodes --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// Every known node, this one included, by id.
    pub nodes: Vec<NodeShape>,
}

impl Nodes {
    /// The nodes of `view` at `now_ms`, milliseconds since the Unix epoch.
    pub fn of(view: &View, now_ms: u64) -> Self {
        let shape = |node: &Arc<NodeView>| NodeShape::of(node, now_ms);
        Self {
            nodes: view.nodes.values().map(shape).collect(),
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeShape {
    /// Full id.
    #[serde(with = "crate::mesh::view::id_text")]
    pub id: NodeId,
    /// Name the node gave itself.
    pub name: Name,
    /// Whether it is the node that answers.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Whether it answers now.
    pub online: bool,
    /// Known from before, not reachable now.
    pub stale: bool,
    /// Whether it asks not to be chosen for new work.
    pub draining: bool,
    /// When it was last heard; now for a node that is online, null for one never heard.
    pub last_seen: Option<Timestamp>,
    /// Version of its program; empty while unknown.
    pub version: String,
    /// Addresses it can be dialled at.
    pub addresses: Vec<SocketAddr>,
    /// How it is reached.
    pub path: PathShape,
}

impl NodeShape {
    pub(in crate::api) fn of(node: &NodeView, now_ms: u64) -> Self {
        Self {
            id: node.id,
            name: node.name.clone(),
            is_self: node.is_self,
            online: node.online,
            stale: node.stale,
            draining: node.draining,
            last_seen: last_seen(node, now_ms),
            version: node.version.clone(),
            addresses: node.addresses.clone(),
            path: PathShape::from(&node.path),
        }
    }
}

/// A view is replaced when something changes, not with every byte: the moment it holds for a node
/// that is online may be old, although the node was heard within the last probe interval.
fn last_seen(node: &NodeView, now_ms: u64) -> Option<Timestamp> {
    Timestamp::known(if node.online {
        now_ms
    } else {
        node.last_seen_ms
    })
}

/// How a node is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathShape {
    /// `self`, `direct`, `relay` or `none`: no link at present; a node that is online is dialled
    /// when it is needed.
    pub kind: PathKind,
    /// Round trip in milliseconds; null while unknown.
    pub rtt_ms: Option<f64>,
    /// Full id of the relay; null without one.
    pub via: Option<String>,
}

impl From<&PathView> for PathShape {
    fn from(path: &PathView) -> Self {
        Self {
            kind: path.kind,
            rtt_ms: path.rtt_ms.filter(|ms| ms.is_finite()),
            via: path.via.map(|id| id.to_string()),
        }
    }
}

/// `services --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Services {
    /// By name.
    pub services: Vec<ServiceShape>,
}

impl Services {
    /// The services of `view`, with the requests that this node counted.
    pub fn of(view: &View, usage: &[Usage]) -> Self {
        let shape = |(service, providers): (&Bucket, &Arc<Vec<Provider>>)| ServiceShape {
            service: service.clone(),
            nodes: providers
                .iter()
                .map(|provider| ProviderShape::of(service, provider, usage))
                .collect(),
        };
        Self {
            services: view.services.iter().map(shape).collect(),
        }
    }
}

/// One service and who serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceShape {
    /// Its bucket: the service's name, prefixed with the network id where one is set.
    pub service: Bucket,
    /// Providers, by id.
    pub nodes: Vec<ProviderShape>,
}

/// One node that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderShape {
    /// Full id.
    #[serde(with = "crate::mesh::view::id_text")]
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Whether the node answers now.
    pub online: bool,
    /// Whether its server accepted a connection at the last check.
    pub ready: bool,
    /// Whether it asks not to be chosen.
    pub draining: bool,
    /// Requests that this node has running there.
    pub in_flight: u64,
    /// Requests that this node ever sent there.
    pub served: u64,
    /// What it forwards to, as its owner wrote it.
    pub target: String,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
}

impl ProviderShape {
    fn of(service: &Bucket, provider: &Provider, usage: &[Usage]) -> Self {
        let counted = usage
            .iter()
            .find(|usage| usage.node == provider.id && usage.service == *service);
        Self {
            id: provider.id,
            name: provider.name.clone(),
            online: provider.online,
            ready: provider.ready,
            draining: provider.draining,
            in_flight: counted.map_or(0, |usage| usage.in_flight),
            served: counted.map_or(0, |usage| usage.served),
            target: provider.target.clone(),
            protocol: provider.protocol,
        }
    }
}
