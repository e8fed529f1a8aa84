//! Values of live entries: what a node says of itself and of each service it serves.
//!
//! JSON, because `ledger ls` shows them and later versions add fields; unknown fields are ignored.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::name::{Bucket, Name};

/// Version of this program, as its nodes say it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Bucket and key of a node's own record.
pub const NODE_BUCKET: &str = "node";
/// Key of a node's own record. No service record has it: their keys are short ids.
pub const NODE_KEY: &str = "info";
/// Addresses kept of one node.
pub const MAX_ADDRESSES: usize = 8;

/// What a service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Whether it is TCP, which is not written where older nodes read.
    pub fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }

    /// Its word, in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name; self-asserted (C24).
    pub name: Name,
    /// Version of its program.
    #[serde(default)]
    pub version: String,
    /// Where it can be dialled, at most [`MAX_ADDRESSES`] are kept.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
    /// Asks not to be chosen for new work.
    #[serde(default)]
    pub draining: bool,
}

/// What a node says of one service. LocalAI's `NodeData` names are kept where they mean the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Name of the node.
    #[serde(rename = "Name")]
    pub name: Name,
    /// `<name>-<short id>`, as LocalAI shows nodes.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether the real server accepted a connection at the last check.
    pub ready: bool,
    /// What is forwarded to.
    pub target: String,
    /// The network id that its bucket's name begins with. The name alone does not tell: both may
    /// contain `_`.
    #[serde(rename = "NetworkID", default, skip_serializing_if = "Option::is_none")]
    pub network_id: Option<Name>,
    /// What it speaks. Nodes that do not know this field speak TCP.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// Whether streams to it shall say which client they are for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_client: bool,
}

impl NodeRecord {
    /// Reads a record another node wrote; `None` if it is not one.
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let mut record: Self = serde_json::from_slice(value).ok()?;
        record.addresses.truncate(MAX_ADDRESSES);
        let cut = floor_char(&record.version, 64);
        record.version.truncate(cut);
        Some(record)
    }
}

impl ServiceRecord {
    /// Reads a record another node wrote; `None` if it is not one.
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let mut record: Self = serde_json::from_slice(value).ok()?;
        let cut = floor_char(&record.target, 300);
        record.target.truncate(cut);
        Some(record)
    }
}

/// LocalAI's id of a node: `<name>-<short id>`.
pub fn display_id(name: &Name, id: &NodeId) -> String {
    format!("{name}-{}", id.short())
}

/// The bucket of node records.
pub fn is_node_record(bucket: &Bucket, key: &str) -> bool {
    bucket.as_str() == NODE_BUCKET && key == NODE_KEY
}

/// The greatest char boundary of `text` that is at most `max`.
fn floor_char(text: &str, max: usize) -> usize {
    let mut cut = max.min(text.len());
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_a_later_version_still_reads() {
        let value = br#"{"name":"a","version":"9","addresses":["127.0.0.1:1"],"gpu":"yes"}"#;
        let record = NodeRecord::from_value(value).unwrap();
        assert_eq!(record.name.as_str(), "a");
        assert!(!record.draining);
    }

    #[test]
    fn a_greedy_record_is_cut() {
        let many = vec!["\"127.0.0.1:1\""; 1000].join(",");
        let value = format!(
            r#"{{"name":"a","version":"{}","addresses":[{many}]}}"#,
            "ü".repeat(99)
        );
        let record = NodeRecord::from_value(value.as_bytes()).unwrap();
        assert_eq!(record.addresses.len(), MAX_ADDRESSES);
        assert!(record.version.len() <= 64);
        assert_eq!(NodeRecord::from_value(b"{}"), None);
    }
}
