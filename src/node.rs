//! A node: started from a [`NodeBuilder`], used through [`Node`], stopped in a stated order.
//! SKELETON: signatures are the contract; bodies follow.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::mesh::addr::{HostPort, PeerAddr};
use crate::mesh::entry::Entry;
use crate::mesh::event::Event;
use crate::mesh::id::NodeId;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::token::Token;
use crate::mesh::view::View;

pub use crate::api::shapes::{NodeError, Problem, RoleInfo, RoleKind, Status, Usage};
pub use crate::service::spec::{ExposeSpec, Failover, IngressSpec, Mode, Strategy, TlsSpec};

/// Settings of a node about to start. Every setter returns the builder.
#[derive(Default)]
pub struct NodeBuilder {}

impl NodeBuilder {
    /// Where `identity.key`, the token and `warren.redb` live; made (0700) if missing.
    pub fn data_dir(self, _dir: impl Into<PathBuf>) -> Self {
        self
    }
    /// The network. Without one, the stored token is used, else a network is founded
    /// if [`NodeBuilder::found`] allows it.
    pub fn token(self, _token: Token) -> Self {
        self
    }
    /// Whether a new network may be founded when no token is known.
    pub fn found(self, _yes: bool) -> Self {
        self
    }
    /// The node's name; default the host name.
    pub fn name(self, _name: Name) -> Self {
        self
    }
    /// UDP addresses; default `[::]:7717`.
    pub fn listen(self, _addrs: Vec<SocketAddr>) -> Self {
        self
    }
    /// Addresses others can reach this node at.
    pub fn advertise(self, _addrs: Vec<HostPort>) -> Self {
        self
    }
    /// Nodes to dial.
    pub fn connect(self, _peers: Vec<PeerAddr>) -> Self {
        self
    }
    /// LocalAI's network id: prefix of buckets.
    pub fn network_id(self, _id: Option<Name>) -> Self {
        self
    }
    /// Loopback HTTP: dashboard, API, health. `None` switches it off.
    pub fn http(self, _addr: Option<SocketAddr>) -> Self {
        self
    }
    /// Whether `/api/p2p/token` answers.
    pub fn http_token(self, _yes: bool) -> Self {
        self
    }
    /// Whether the admin socket is opened.
    pub fn admin_socket(self, _yes: bool) -> Self {
        self
    }
    /// The clock; tests move it.
    pub fn clock(self, _clock: crate::clock::Clock) -> Self {
        self
    }
    /// How long running connections may take to end at shutdown.
    pub fn drain_timeout(self, _limit: Duration) -> Self {
        self
    }
    /// Starts the node: locks the directory, opens the store, binds, then dials.
    ///
    /// # Errors
    /// What could not be opened or bound, by name; nothing is left running.
    pub async fn start(self) -> Result<Node, NodeError> {
        Err(NodeError {
            code: "refused".into(),
            message: "skeleton".into(),
            hint: None,
        })
    }
}

/// A running node. Clones are handles to the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Node {
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }
    pub fn id(&self) -> NodeId {
        let _ = &self.inner;
        todo!()
    }
    pub fn name(&self) -> &Name {
        todo!()
    }
    /// The network's token with this node's id and addresses as bootstrap: what `up` prints.
    pub fn join_token(&self) -> Token {
        todo!()
    }
    pub fn udp_addrs(&self) -> Vec<SocketAddr> {
        todo!()
    }
    pub fn http_addr(&self) -> Option<SocketAddr> {
        todo!()
    }
    pub fn status(&self) -> Status {
        todo!()
    }
    pub fn view(&self) -> Arc<View> {
        todo!()
    }
    /// Changes as they happen.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        todo!()
    }
    /// Lagging receivers lose the oldest events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        todo!()
    }
    /// Full id, short id, unambiguous prefix of at least 6 characters, name, or `<name>-<short id>`.
    pub fn resolve(&self, text: &str) -> Result<NodeId, NodeError> {
        todo!()
    }
    /// Connects to the target first; `keep` stores the role for the next start.
    pub async fn expose(&self, spec: ExposeSpec, keep: bool) -> Result<RoleInfo, NodeError> {
        todo!()
    }
    pub async fn ingress(&self, spec: IngressSpec, keep: bool) -> Result<RoleInfo, NodeError> {
        todo!()
    }
    pub async fn remove_role(&self, id: u64) -> Result<(), NodeError> {
        todo!()
    }
    pub fn roles(&self) -> Vec<RoleInfo> {
        todo!()
    }
    pub fn usage(&self) -> Vec<Usage> {
        todo!()
    }
    /// Round trip over the mesh, dialling if need be.
    pub async fn ping(&self, node: NodeId) -> Result<Duration, NodeError> {
        todo!()
    }
    /// Asks others to stop (or again start) choosing this node.
    pub async fn drain(&self, on: bool) -> Result<(), NodeError> {
        todo!()
    }
    /// Durable ledger.
    pub fn ledger(&self) -> Ledger {
        todo!()
    }
    /// Announces the departure, drains up to the limit, closes. `forget` also forgets the token and peers.
    pub async fn shutdown(&self, forget: bool) {
        todo!()
    }
    /// Ends at once: no drain.
    pub async fn abort(&self) {
        todo!()
    }
    /// Resolves when the node has stopped, whoever asked for it.
    pub async fn stopped(&self) {
        todo!()
    }
}

/// The replicated map.
#[derive(Clone)]
pub struct Ledger {
    #[allow(dead_code)]
    inner: Arc<Inner>,
}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Ledger {
    /// Durable before it returns.
    pub async fn put(
        &self,
        bucket: Bucket,
        key: String,
        value: Vec<u8>,
    ) -> Result<Entry, NodeError> {
        todo!()
    }
    /// Removes this node's own value; `not_found` if there is none.
    pub async fn remove(&self, bucket: Bucket, key: String) -> Result<(), NodeError> {
        todo!()
    }
    /// Every author's value, newest first; tombstones left out.
    pub async fn get(&self, bucket: &Bucket, key: &str) -> Result<Vec<Entry>, NodeError> {
        todo!()
    }
    /// All entries, sorted by slot, tombstones left out; `bucket` filters.
    pub async fn list(&self, bucket: Option<&Bucket>) -> Result<Vec<Entry>, NodeError> {
        todo!()
    }
    /// Everything durable, tombstones included, for export.
    pub async fn export(&self) -> Result<Vec<Entry>, NodeError> {
        todo!()
    }
    /// Merges signed entries; returns (taken, already known or older). All or nothing.
    pub async fn import(&self, entries: Vec<Entry>) -> Result<(usize, usize), NodeError> {
        todo!()
    }
}
