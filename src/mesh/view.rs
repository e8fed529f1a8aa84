//! What the rest of the program sees of the mesh: one immutable snapshot, replaced on change.
//!
//! These are also the JSON shapes of `nodes --json` and the base of `services --json`
//! (`schema/nodes.schema.json`): fields may be added, none renamed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::name::{Bucket, Name};
use super::records::Protocol;

/// How bytes reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// It is this node.
    #[serde(rename = "self")]
    Own,
    /// Over its own QUIC connection.
    Direct,
    /// Through a relay.
    Relay,
    /// Over no link at present. A node that is online is dialled when it is needed.
    None,
}

/// A path and what was measured on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathView {
    /// Kind of path.
    pub kind: PathKind,
    /// Round-trip time in milliseconds; `None` while unknown.
    pub rtt_ms: Option<f64>,
    /// The relay, for a relayed path.
    pub via: Option<NodeId>,
}

/// One node of the network, this one included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Full id. In JSON its base32 text.
    #[serde(with = "id_text")]
    pub id: NodeId,
    /// Name the node gave itself.
    pub name: Name,
    /// Whether it is this node.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Whether it answers now.
    pub online: bool,
    /// Known from before, not reachable now.
    pub stale: bool,
    /// Whether it asks not to be chosen for new work.
    pub draining: bool,
    /// When bytes last came from it, milliseconds since the Unix epoch; 0 for never.
    pub last_seen_ms: u64,
    /// Version of its program; empty while unknown.
    pub version: String,
    /// Addresses it can be dialled at.
    pub addresses: Vec<SocketAddr>,
    /// How it is reached.
    pub path: PathView,
}

/// One node that serves a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provider {
    /// Who serves.
    #[serde(with = "id_text")]
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Whether the node answers now.
    pub online: bool,
    /// Whether its server accepted a connection at the last check.
    pub ready: bool,
    /// Whether it asks not to be chosen.
    pub draining: bool,
    /// What it forwards to, `HOST:PORT` or `udp:HOST:PORT`, as its owner wrote it.
    pub target: String,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether streams to it shall say which client they are for.
    #[serde(default)]
    pub wants_client: bool,
}

impl Provider {
    /// Whether new work may go there.
    pub fn usable(&self) -> bool {
        self.online && self.ready && !self.draining
    }
}

/// The mesh as one node sees it at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Raised with every change.
    pub version: u64,
    /// This node.
    pub me: NodeId,
    /// Every known node, by id.
    pub nodes: BTreeMap<NodeId, Arc<NodeView>>,
    /// Who serves what, by bucket; providers sorted by id. Offline providers are kept here
    /// (with `online: false`) only while their record is; ingress never chooses them.
    pub services: BTreeMap<Bucket, Arc<Vec<Provider>>>,
}

impl View {
    /// An empty view of a node that has just started.
    pub fn new(me: NodeId) -> Self {
        Self {
            version: 0,
            me,
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }
}

impl View {
    /// Who serves `bucket`, by id.
    pub fn providers(&self, bucket: &Bucket) -> &[Provider] {
        self.services.get(bucket).map_or(&[], |all| all)
    }

    /// Every provider of every service.
    pub fn all_providers(&self) -> impl Iterator<Item = &Provider> {
        self.services.values().flat_map(|all| all.iter())
    }
}

/// Serialises a [`NodeId`] as its base32 text where people or scripts read it.
pub mod id_text {
    use super::NodeId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the text form.
    pub fn serialize<S: Serializer>(id: &NodeId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    /// Reads the text form.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<NodeId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
