//! What the admin socket and the loopback HTTP server say, and what `--json` prints: plain data,
//! one Rust type per JSON shape. Fields may be added, none renamed (`schema/*.schema.json`).
//! Opens nothing and decides nothing.

mod bench;
mod ip_table;
mod ledger;
mod networks;
mod nodes;
mod probe;
mod sync;
mod update;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::mesh::id::NodeId;
use crate::mesh::name::{Bucket, Name};
use crate::service::spec::{ExposeSpec, IngressSpec};

pub use bench::{Bench, BenchLine, BenchPhase, BenchProgress, BenchRequest};
pub use ip_table::{
    AddMachine, Annotate, Machine, MachineAdded, Machines, OwnFigures, PruneRequest, Pruned,
    RemoveMachines, TableImported, write_machines,
};
pub use ledger::{
    ExportedEntry, Imported, LEDGER_FORMAT, LedgerDocument, LedgerItem, LedgerList, LedgerValue,
};
pub use networks::{
    AddNetwork, ClusterInfo, EditNetwork, LookInfo, NetworkInfo, NetworkList, NetworkStored,
    NetworksImported, RemoveNetworks, TokenLine, write_networks,
};
pub use nodes::{NodeShape, Nodes, PathShape, ProviderShape, ServiceShape, Services};
pub use probe::{MachineProbed, ProbeDone, ProbeLine, ProbeOutcome, ProbeRequest, ProbeStart};
pub use sync::{NetworkSynced, SyncDone, SyncLine, SyncOutcome, SyncReport, SyncStart};
pub use update::{State, Update};

/// A role this node has taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleInfo {
    /// Number, for `role rm`.
    pub id: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: RoleKind,
    /// Whether it is kept in the store (`--bg`) and comes back at the next start.
    pub kept: bool,
}

/// Kind of a role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum RoleKind {
    /// Exposes a service.
    Expose {
        /// What is exposed.
        spec: ExposeSpec,
        /// Whether the real server accepted a connection at the last check.
        ready: bool,
    },
    /// Listens for a service.
    Ingress {
        /// What was asked for.
        spec: IngressSpec,
        /// What was bound.
        listen: SocketAddr,
    },
}

/// Requests of one service at one node, as this node counts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Service.
    pub service: Bucket,
    /// Who serves.
    #[serde(with = "crate::mesh::view::id_text")]
    pub node: NodeId,
    /// Now.
    pub in_flight: u64,
    /// Ever; survives restarts.
    pub served: u64,
}

/// `status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    #[serde(with = "crate::mesh::view::id_text")]
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Version of the program.
    pub version: String,
    /// Public fingerprint of the network.
    pub network: String,
    /// Network id (LocalAI's), if set.
    pub network_id: Option<Name>,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_s: u64,
    /// `running`, `draining` or `leaving`.
    pub state: String,
    /// UDP sockets.
    pub udp: Vec<SocketAddr>,
    /// Threads that carry bytes.
    #[serde(default = "one_shard")]
    pub shards: u32,
    /// Datagrams that came to one of them and were handed over to another.
    #[serde(default)]
    pub steered: u64,
    /// Dashboard and API, if on.
    pub http: Option<SocketAddr>,
    /// P2PRC's routes, if on.
    #[serde(default)]
    pub p2prc_http: Option<SocketAddr>,
    /// Nodes that answer, this one included.
    pub nodes_online: usize,
    /// Nodes known.
    pub nodes_known: usize,
    /// Roles taken.
    pub roles: Vec<RoleInfo>,
    /// Requests by service and node.
    pub usage: Vec<Usage>,
    /// What the operator should look at: a wrong clock, a full disk, a bootstrap that is silent.
    pub problems: Vec<Problem>,
    /// Counted refusals by reason, for example `bad_signature`.
    pub refused: BTreeMap<String, u64>,
}

/// Daemons that do not say so have one.
fn one_shard() -> u32 {
    1
}

/// Something wrong that persists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable word for programs: `clock`, `store`, `unreachable`, `wrong_node`, `cloned`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// Why a call on a node failed. `code` is stable for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct NodeError {
    /// Stable word: `in_use`, `unreachable`, `not_found`, `ambiguous`, `refused`, `store`, `usage`.
    pub code: String,
    /// What happened, to whom.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl NodeError {
    /// An error without a hint.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same error with what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `{"error":{"code","message","hint"}}`: every refusal, on the admin socket, over HTTP and on
/// stdout under `--json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// What went wrong.
    pub error: NodeError,
}

/// `services --roles --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roles {
    /// By number.
    pub roles: Vec<RoleInfo>,
}

/// A role to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum RoleSpec {
    /// Expose a service.
    Expose(ExposeSpec),
    /// Listen for a service.
    Ingress(IngressSpec),
}

/// Body of `POST /v1/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// What to take on.
    pub spec: RoleSpec,
    /// Whether it is stored and comes back at the next start. Not together with `hold`.
    #[serde(default)]
    pub keep: bool,
    /// Whether it ends with this connection.
    #[serde(default)]
    pub hold: bool,
}

/// Body of `POST /v1/ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// Full id, short id, unambiguous prefix, name, or `<name>-<short id>`.
    pub node: String,
}

/// `ping --json`: one round trip over the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// Who answered.
    #[serde(with = "crate::mesh::view::id_text")]
    pub id: NodeId,
    /// Its name, if known.
    pub name: Option<Name>,
    /// There and back, in milliseconds.
    pub rtt_ms: f64,
}

/// Body of `POST /v1/drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Whether others shall stop choosing this node.
    pub on: bool,
}

/// Body of `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Whether running connections are cut instead of drained.
    #[serde(default)]
    pub now: bool,
}

/// Last line of the answer to a [`RoleRequest`] with `hold`; the first is the [`RoleInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "lowercase")]
pub enum HoldLine {
    /// Somebody removed the role.
    Removed,
    /// The daemon stops.
    Stopping,
}
