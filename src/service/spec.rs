//! What the user asks the data plane to do. These types are also stored (`roles`) and travel
//! over the admin socket, so fields may be added, none renamed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::mesh::addr::HostPort;
use crate::mesh::name::Name;
pub use crate::mesh::records::Protocol;

/// Milliseconds that [`IngressSpec::flow_timeout_ms`] may say.
pub const FLOW_TIMEOUT_MS: RangeInclusive<u64> = 100..=24 * 60 * 60 * 1000;

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

/// Tells a server who its client is: a header in front of the connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// HAProxy's PROXY protocol, version 2 (binary).
    V2,
}

/// A service to expose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposeSpec {
    /// Service name; the bucket gets the network id's prefix.
    pub service: Name,
    /// The real server.
    pub target: HostPort,
    /// What the server speaks.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// Whether the server is told its client's address. The address is what the ingress node
    /// says. TCP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl ExposeSpec {
    /// A TCP server that is told nothing of its clients.
    pub fn new(service: Name, target: HostPort) -> Self {
        Self {
            service,
            target,
            protocol: Protocol::Tcp,
            proxy_protocol: None,
        }
    }

    /// The server as people see it: `HOST:PORT`, `udp:HOST:PORT`.
    pub fn shown(&self) -> String {
        match self.protocol {
            Protocol::Tcp => self.target.to_string(),
            Protocol::Udp => format!("udp:{}", self.target),
        }
    }
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
    /// What clients speak: only nodes whose server speaks the same are chosen.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// Milliseconds without a datagram after which a flow is over; `None`: one minute. UDP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_timeout_ms: Option<u64>,
}

impl IngressSpec {
    /// A TCP listener: least used node, moves on only while nothing has reached a server.
    pub fn new(service: Name, listen: SocketAddr) -> Self {
        Self {
            service,
            listen,
            strategy: Strategy::default(),
            failover: Failover::Connect,
            mode: Mode::default(),
            tls: None,
            protocol: Protocol::Tcp,
            flow_timeout_ms: None,
        }
    }
}
