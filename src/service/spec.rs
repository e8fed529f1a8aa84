//! What the user asks the data plane to do. These types are also stored (`roles`) and travel
//! over the admin socket, so fields may be added, none renamed.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::mesh::addr::HostPort;
use crate::mesh::name::Name;

/// How an ingress picks a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Fewest requests in flight, ties by longest since last chosen, then node id.
    #[default]
    LeastUsed,
    /// Uniform over usable nodes.
    Random,
    /// Always this node: full id, short id, name, or LocalAI's `<name>-<short id>`.
    Target(String),
}

/// When a connection may move to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// Only while nothing has reached a server.
    Connect,
    /// Also repeats what the client sent, up to 256 KiB, before the first byte came back.
    Replay,
    /// Never.
    Off,
}

/// What an ingress understands of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Opaque bytes; each connection is balanced.
    #[default]
    Tcp,
    /// Each request is balanced (not built yet: refused by name).
    Http,
    /// By content (not built yet: refused by name).
    Auto,
}

/// TLS on an ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsSpec {
    /// A certificate made at start for the listen address and the host name.
    SelfSigned,
    /// PEM files, read again when they change.
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
}

/// A service to expose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposeSpec {
    /// Service name; the bucket gets the network id's prefix.
    pub service: Name,
    /// The real server.
    pub target: HostPort,
}

/// A local listener into the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressSpec {
    /// Service name.
    pub service: Name,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to pick a node.
    pub strategy: Strategy,
    /// When to move on.
    pub failover: Failover,
    /// What to understand.
    pub mode: Mode,
    /// TLS towards the client.
    pub tls: Option<TlsSpec>,
}
