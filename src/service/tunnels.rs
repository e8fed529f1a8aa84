//! What an ingress needs from the rest of the node.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::end::QuicEnd;
use super::expose::InFlight;
use super::udp::side::{Linked, Server};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::stream::{Client, Refusal};
use crate::mesh::view::View;

/// The mesh as an ingress uses it. The node implements this.
pub trait Tunnels: Send + Sync + 'static {
    /// The mesh now. Called once for each choice, so it must be cheap.
    fn view(&self) -> Arc<View>;

    /// Opens a stream to `node`, over the link that exists or a new one. The ingress gives up
    /// after [`OPEN_LIMIT`](super::ingress::OPEN_LIMIT) by dropping the future. When a node is
    /// declared dead its link must be closed, or its streams hang: that is how connections to a
    /// frozen node move on.
    fn open(&self, node: NodeId) -> BoxFuture<'_, Result<QuicEnd, OpenError>>;

    /// Where connections that go to `node` run best: on the thread of its link. `None` where
    /// everything runs on one.
    fn runtime(&self, _node: NodeId) -> Option<Handle> {
        None
    }

    /// Connects to this node's own server for `bucket`:
    /// [`Exposes::connect_local`](super::expose::Exposes::connect_local).
    fn connect_local<'a>(
        &'a self,
        bucket: &'a Bucket,
        client: Option<&'a Client>,
    ) -> BoxFuture<'a, Result<(TcpStream, InFlight), Refusal>>;

    /// Opens a stream to `node` for a flow of datagrams, as [`open`](Self::open) does.
    fn open_flow(&self, node: NodeId) -> BoxFuture<'_, Result<Linked, OpenError>>;

    /// A socket towards this node's own UDP server for `bucket`:
    /// [`Exposes::connect_local_flow`](super::expose::Exposes::connect_local_flow).
    fn connect_local_flow<'a>(
        &'a self,
        bucket: &'a Bucket,
    ) -> BoxFuture<'a, Result<(Server, InFlight), Refusal>>;

    /// The node that a user's words name: full id, short id, name, `<name>-<short id>`.
    ///
    /// # Errors
    /// Nobody, or several.
    fn resolve(&self, text: &str, view: &View) -> Result<NodeId, ResolveError>;
}

/// Why no stream to a node could be opened. Nothing reached it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no link and none could be made.
    #[error("node {} cannot be reached: {cause}", node.short())]
    Unreachable {
        /// Who.
        node: NodeId,
        /// What the link said.
        cause: String,
    },
    /// It took too long.
    #[error("node {} did not answer in time", node.short())]
    TimedOut {
        /// Who.
        node: NodeId,
    },
}

/// Why words name no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Nobody is called that.
    #[error("no node is called {0:?}; see `warren nodes`")]
    Unknown(String),
    /// Several are.
    #[error("{0:?} may be several nodes; give more of the id")]
    Ambiguous(String),
}
