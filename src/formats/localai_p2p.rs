//! What LocalAI says about its p2p network (`core/schema/localai.go`, `core/http/routes/ui_api.go`),
//! said of ours, so that its web page and its users' scripts keep working. Pure: a view and the
//! time in, JSON types out.
//!
//! Arrays are never null and are sorted by `ID`; nodes that are offline are in them, as there.

use serde::Serialize;

use super::timestamp::Timestamp;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::view::{Provider, View};

/// What LocalAI writes where it never saw a node: Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// LocalAI's groups of nodes, each a ledger bucket (`core/p2p/p2p.go`, `NetworkID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    LlamaCpp,
    Federated,
    Mlx,
}

impl Group {
    fn service(self) -> &'static str {
        match self {
            Self::LlamaCpp => "worker",
            Self::Federated => "federated",
            Self::Mlx => "mlx_worker",
        }
    }

    /// Whether `bucket` is this group's under the network id, if there is one.
    fn owns(self, network_id: Option<&Name>, bucket: &Bucket) -> bool {
        let service = match network_id {
            Some(id) => bucket
                .as_str()
                .strip_prefix(id.as_str())
                .and_then(|rest| rest.strip_prefix('_')),
            None => Some(bucket.as_str()),
        };
        service == Some(self.service())
    }
}

/// The three groups of a view at a moment.
#[derive(Clone, Debug)]
pub struct Swarm {
    llama_cpp: Vec<Node>,
    federated: Vec<Node>,
    mlx: Vec<Node>,
}

impl Swarm {
    /// Sorts the providers in `view` into LocalAI's groups. `now_ms`, milliseconds since the Unix
    /// epoch, becomes the `LastSeen` of every node that is online: LocalAI's readers call a node
    /// offline whose `LastSeen` is 40 s old, and a view says nothing while nothing changes.
    pub fn of(view: &View, network_id: Option<&Name>, now_ms: u64) -> Self {
        let group = |group: Group| {
            let mut nodes: Vec<Node> = view
                .services
                .iter()
                .filter(|(bucket, _)| group.owns(network_id, bucket))
                .flat_map(|(_, providers)| providers.iter())
                .map(|provider| Node::of(provider, view, now_ms))
                .collect();
            nodes.sort_by(|a, b| a.id.cmp(&b.id));
            nodes
        };
        Self {
            llama_cpp: group(Group::LlamaCpp),
            federated: group(Group::Federated),
            mlx: group(Group::Mlx),
        }
    }

    /// `GET /api/p2p`.
    pub fn p2p(&self) -> P2p {
        let data = |nodes: &[Node]| nodes.iter().map(NodeData::from).collect();
        P2p {
            llama_cpp_nodes: data(&self.llama_cpp),
            federated_nodes: data(&self.federated),
            mlx_nodes: data(&self.mlx),
        }
    }

    /// `GET /api/p2p/workers`.
    pub fn workers(&self) -> Workers {
        Workers {
            llama_cpp: NodeList::of(&self.llama_cpp),
            mlx: NodeList::of(&self.mlx),
            nodes: NodeList::of(&self.llama_cpp).nodes,
        }
    }

    /// `GET /api/p2p/federation`.
    pub fn federation(&self) -> NodeList {
        NodeList::of(&self.federated)
    }

    /// `GET /api/p2p/stats`.
    pub fn stats(&self) -> Stats {
        Stats {
            llama_cpp_workers: Count::of(&self.llama_cpp),
            federated: Count::of(&self.federated),
            mlx_workers: Count::of(&self.mlx),
        }
    }
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    id: String,
    last_seen: String,
    online: bool,
}

impl Node {
    fn of(provider: &Provider, view: &View, now_ms: u64) -> Self {
        let seen_ms = if provider.online {
            now_ms
        } else {
            view.nodes.get(&provider.id).map_or(0, |n| n.last_seen_ms)
        };
        let last_seen = Timestamp::known(seen_ms).map(|at| at.to_string());
        Self {
            name: provider.name.to_string(),
            id: format!("{}-{}", provider.name, provider.id.short()),
            last_seen: last_seen.unwrap_or_else(|| NEVER.into()),
            online: provider.online,
        }
    }
}

/// `GET /api/p2p`.
#[derive(Clone, Debug, Serialize)]
pub struct P2p {
    /// Workers of llama.cpp's RPC.
    pub llama_cpp_nodes: Vec<NodeData>,
    /// Whole instances.
    pub federated_nodes: Vec<NodeData>,
    /// Workers of MLX.
    pub mlx_nodes: Vec<NodeData>,
}

/// A node in `GET /api/p2p`: Go's field names.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeData {
    /// The node's name.
    pub name: String,
    /// `<name>-<short id>`.
    #[serde(rename = "ID")]
    pub id: String,
    /// Empty: here no node opens a local port for another.
    pub tunnel_address: String,
    /// Key of the node's record, unique among nodes: as `ID`.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// RFC 3339 in UTC.
    pub last_seen: String,
}

impl From<&Node> for NodeData {
    fn from(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            id: node.id.clone(),
            tunnel_address: String::new(),
            service_id: node.id.clone(),
            last_seen: node.last_seen.clone(),
        }
    }
}

/// `GET /api/p2p/workers`.
#[derive(Clone, Debug, Serialize)]
pub struct Workers {
    /// Workers of llama.cpp's RPC.
    pub llama_cpp: NodeList,
    /// Workers of MLX.
    pub mlx: NodeList,
    /// The same as `llama_cpp`, where older clients look for it.
    pub nodes: Vec<Worker>,
}

/// Nodes of one group; also `GET /api/p2p/federation`.
#[derive(Clone, Debug, Serialize)]
pub struct NodeList {
    /// By id.
    pub nodes: Vec<Worker>,
}

impl NodeList {
    fn of(nodes: &[Node]) -> Self {
        Self {
            nodes: nodes.iter().map(Worker::from).collect(),
        }
    }
}

/// A node in the lists of the web page: JavaScript's field names.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// See [`NodeData::name`].
    pub name: String,
    /// See [`NodeData::id`].
    pub id: String,
    /// See [`NodeData::tunnel_address`].
    pub tunnel_address: String,
    /// See [`NodeData::service_id`].
    #[serde(rename = "serviceID")]
    pub service_id: String,
    /// See [`NodeData::last_seen`].
    pub last_seen: String,
    /// Whether the node answers now.
    pub is_online: bool,
}

impl From<&Node> for Worker {
    fn from(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            id: node.id.clone(),
            tunnel_address: String::new(),
            service_id: node.id.clone(),
            last_seen: node.last_seen.clone(),
            is_online: node.online,
        }
    }
}

/// `GET /api/p2p/stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Workers of llama.cpp's RPC.
    pub llama_cpp_workers: Count,
    /// Whole instances.
    pub federated: Count,
    /// Workers of MLX.
    pub mlx_workers: Count,
}

/// How many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// That answer now.
    pub online: usize,
    /// In the list.
    pub total: usize,
}

impl Count {
    fn of(nodes: &[Node]) -> Self {
        Self {
            online: nodes.iter().filter(|node| node.online).count(),
            total: nodes.len(),
        }
    }
}
