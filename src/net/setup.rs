//! What a net is made from, what it hands on, and why there is none.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use crate::mesh::alive::Alive;
use crate::mesh::brain::{Dialled, Input};
use crate::mesh::id::{Identity, NodeId};
use crate::mesh::knock::Knock;

use super::gate::SharedGate;
use super::tunnel::TunnelGuard;

/// What the net tells the driver.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // the large one is nearly all of them
pub enum LinkEvent {
    /// Something for the brain.
    Input(Input),
    /// A peer's clock differs notably.
    Clock {
        /// Whose.
        peer: NodeId,
        /// Seconds it is ahead; negative: behind.
        ahead_s: i64,
    },
    /// Another node than the wanted one, or this one itself, answered a dial.
    WrongNode {
        /// What the dial was for.
        dialled: Dialled,
        /// Who answered, for people.
        reason: String,
    },
}

/// Takes the tunnels that peers open.
pub trait TunnelSink: Send + Sync + 'static {
    /// Serves one tunnel until it ends. `guard` is held for as long as the tunnel lives.
    fn tunnel(
        &self,
        peer: NodeId,
        send: SendStream,
        recv: RecvStream,
        guard: TunnelGuard,
    ) -> BoxFuture<'static, ()>;
}

/// Why no tunnel could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No link to the node is up.
    #[error("no link to the node is up")]
    NoLink,
    /// The link ended before the stream was open.
    #[error("the link ended: {0}")]
    Ended(String),
}

/// What a net is made from.
pub struct NetSetup {
    /// This node's key.
    pub identity: Identity,
    /// The gate, loaded with the nonces used before a restart.
    pub gate: SharedGate,
    /// Addresses to bind.
    pub listen: Vec<SocketAddr>,
    /// How many threads carry bytes; one is the thread this node runs on.
    pub shards: NonZeroU32,
    /// This node's first sign of life.
    pub alive: Alive,
    /// Where events go. Bounded: a slow driver slows the links down, not the process.
    pub events: mpsc::Sender<LinkEvent>,
    /// Who serves tunnels.
    pub tunnels: Arc<dyn TunnelSink>,
    /// Told of every knock that was let in, to keep it beyond a restart (A7).
    pub knock_used: Arc<dyn Fn(&Knock) + Send + Sync>,
    /// Bytes that the windows of all links may be together.
    pub tunnel_memory: u64,
}

/// Why a net did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// An address cannot be bound.
    #[error("UDP {addr}: {source}")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The threads cannot be had.
    #[error("{count} shards: {source}")]
    Shards {
        /// How many were asked for.
        count: NonZeroU32,
        /// Why.
        source: io::Error,
    },
    /// TLS refused its own configuration.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}
