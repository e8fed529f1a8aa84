//! The state of the mesh as a stream: first all of it, then what changes.

use serde::{Deserialize, Serialize};

use super::{NodeShape, Nodes, ServiceShape, Services};
use crate::mesh::id::NodeId;

/// One line of `nodes --watch --json`, `services --watch --json` and of the event streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What holds since then.
    #[serde(flatten)]
    pub state: State,
}

/// What a line says. In JSON the field `event` names the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Every node. Replaces what was known before.
    Nodes(Nodes),
    /// A node that is new, or no longer what the last line about it said.
    Node {
        /// The node as it is now.
        node: NodeShape,
    },
    /// A node that is listed no more: it left, or was forgotten.
    NodeRemoved {
        /// Who.
        #[serde(with = "crate::mesh::view::id_text")]
        id: NodeId,
    },
    /// Every service. Replaces what was known before.
    Services(Services),
    /// A service that is new or has changed, with all its nodes; without nodes it is listed no
    /// more.
    Service(ServiceShape),
    /// The reader was too slow: events were dropped. What was asked for of the state follows
    /// anew.
    Lagged {
        /// How many events, of all kinds.
        missed: u64,
    },
}

impl State {
    /// The kind, as the field `event` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nodes(_) => "nodes",
            Self::Node { .. } => "node",
            Self::NodeRemoved { .. } => "node_removed",
            Self::Services(_) => "services",
            Self::Service(_) => "service",
            Self::Lagged { .. } => "lagged",
        }
    }
}
