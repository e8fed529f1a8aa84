//! How a running node is talked to: the admin socket with its client, and the loopback HTTP
//! server. Both translate; neither decides. What they need of a node is [`Control`], so they can
//! be built and tested without a mesh.
//!
//! | module | does |
//! |---|---|
//! | [`shapes`] | the JSON, as types |
//! | `feed` | what is and what changes, for whoever watches; the streams of both servers |
//! | [`admin`], [`socket`] | answer the commands, on a socket that only its owner reaches |
//! | [`http`] | answers on loopback: health, `/api/v1`, LocalAI's `/api/p2p` |
//! | [`probe`] | the IP table's probe as lines, with a daemon and without one |
//! | [`explorer`] | LocalAI's explorer over HTTP, for strangers: routes, page, changes |
//! | [`p2prc`] | P2PRC's routes, for strangers; off unless asked for |
//! | [`client`] | asks a daemon through its admin socket |
//! | [`cookie`] | proves to a daemon that the data directory could be read |

pub mod admin;
pub mod client;
mod clients;
pub mod cookie;
mod download;
pub mod explorer;
mod feed;
pub mod http;
mod input;
mod ip_table;
pub mod p2prc;
pub mod probe;
mod refusal;
mod serve;
pub mod shapes;
pub mod socket;
#[cfg(feature = "p2p")]
pub mod sync;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use crate::mesh::entry::Entry;
use crate::mesh::event::Event;
use crate::mesh::id::NodeId;
use crate::mesh::measure::Limits;
use crate::mesh::name::Bucket;
use crate::mesh::time::Now;
use crate::mesh::view::View;
pub use crate::service::ip_table::{ImportOptions, IpTable, MeshSide, TableError};
pub use crate::service::networks::{ImportOptions as NetworkImport, NetworkDb, NetworksError};
pub use crate::service::spec::TlsSpec;
use crate::service::spec::{ExposeSpec, IngressSpec};
use shapes::{Bench, BenchProgress, NodeError, RoleInfo, Status, Usage};

/// Name of the admin socket in the data directory.
pub const SOCKET_NAME: &str = "warren.sock";
/// Name of the file in the data directory whose text every admin request must carry
/// (security amendment D29).
pub const COOKIE_NAME: &str = "admin.cookie";

/// How a node is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Announce, let running connections end, close.
    Drain,
    /// Close at once.
    Now,
    /// As [`Stop::Drain`], and forget the token and the network's peers.
    Leave,
}

/// What the servers here need of a running node.
///
/// Futures do their work when polled; a future that is dropped halfway may or may not have done
/// it, but leaves the node consistent.
pub trait Control: Send + Sync + 'static {
    /// Both clocks.
    fn now(&self) -> Now;
    /// See [`Status`].
    fn status(&self) -> Status;
    /// The mesh now.
    fn view(&self) -> Arc<View>;
    /// The mesh as it changes: what an event tells of is in it before the event is sent.
    fn watch(&self) -> watch::Receiver<Arc<View>>;
    /// What happens from now on. A receiver that lags loses the oldest events.
    fn events(&self) -> broadcast::Receiver<Event>;
    /// Marked as changed whenever a role was taken or given up.
    fn watch_roles(&self) -> watch::Receiver<()>;
    /// Roles taken, by number.
    fn roles(&self) -> Vec<RoleInfo>;
    /// Requests by service and node.
    fn usage(&self) -> Vec<Usage>;
    /// Full id, short id, unambiguous prefix, name, or `<name>-<short id>`.
    ///
    /// # Errors
    /// `not_found` or `ambiguous`.
    fn resolve(&self, text: &str) -> Result<NodeId, NodeError>;
    /// The token that lets another machine join; for the admin socket only.
    fn join_token(&self) -> Zeroizing<String>;
    /// What `GET /api/p2p/token` tells: nothing, unless the operator enabled it.
    fn http_token(&self) -> Option<Zeroizing<String>>;
    /// Machines that are reached by address.
    fn ip_table(&self) -> IpTable;
    /// Networks of an explorer.
    fn networks(&self) -> NetworkDb;
    /// What the node adds to a probe of these machines: witnesses, and links to other nodes.
    fn mesh_side(&self) -> MeshSide {
        MeshSide::default()
    }
    /// Whether new work is welcome: started, and not on the way out.
    fn is_ready(&self) -> bool {
        self.status().state == "running"
    }

    /// Exposes a service; `keep` stores the role for the next start.
    fn expose(&self, spec: ExposeSpec, keep: bool) -> BoxFuture<'_, Result<RoleInfo, NodeError>>;
    /// Listens for a service; `keep` stores the role for the next start.
    fn ingress(&self, spec: IngressSpec, keep: bool) -> BoxFuture<'_, Result<RoleInfo, NodeError>>;
    /// Gives up a role.
    fn remove_role(&self, id: u64) -> BoxFuture<'_, Result<(), NodeError>>;
    /// Round trip over the mesh, dialling if need be.
    fn ping(&self, node: NodeId) -> BoxFuture<'_, Result<Duration, NodeError>>;
    /// Measures the way to a node; `progress` changes meanwhile. Ends when it is dropped.
    fn bench(
        &self,
        node: NodeId,
        limits: Limits,
        progress: watch::Sender<BenchProgress>,
    ) -> BoxFuture<'_, Result<Bench, NodeError>>;
    /// Asks others to stop, or again start, choosing this node.
    fn drain(&self, on: bool) -> BoxFuture<'_, Result<(), NodeError>>;
    /// Begins to end the node, and returns at once: whoever asks is told before the admin socket
    /// goes away. The socket shall go last, after the store is closed, so that who waits for it
    /// may start the next daemon.
    fn stop(&self, how: Stop);

    /// Writes this node's value; durable when the future ends.
    fn ledger_put(
        &self,
        bucket: Bucket,
        key: String,
        value: Vec<u8>,
    ) -> BoxFuture<'_, Result<Entry, NodeError>>;
    /// Removes this node's own value; `not_found` if there is none.
    fn ledger_remove(&self, bucket: Bucket, key: String) -> BoxFuture<'_, Result<(), NodeError>>;
    /// Every author's value, newest first, removals left out.
    fn ledger_get(
        &self,
        bucket: Bucket,
        key: String,
    ) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>>;
    /// All entries sorted by slot, removals left out; `bucket` filters.
    fn ledger_list(&self, bucket: Option<Bucket>) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>>;
    /// Everything durable, removals included.
    fn ledger_export(&self) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>>;
    /// Merges signed entries, all or nothing; (taken, already known or older).
    fn ledger_import(
        &self,
        entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<(usize, usize), NodeError>>;
}
