//! A node: started from a [`NodeBuilder`], used through [`Node`], stopped in a stated order.
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use warren::{Node, Token};
//! use warren::node::ExposeSpec;
//!
//! let token: Token = "warren1…".parse()?;
//! let node = Node::builder().data_dir("/var/lib/warren").token(token).start().await?;
//! let target = "127.0.0.1:8080".parse()?;
//! node.expose(ExposeSpec::new("chat".parse()?, target), false).await?;
//! node.shutdown(false).await;
//! # Ok(()) }
//! ```
//!
//! Stop order: announce the departure, stop accepting, drain until the deadline, cut what is left,
//! close the links, close the store, and only then the admin socket.

mod bench;
mod builder;
mod control;
mod guests;
mod ip_table;
mod ledger;
mod network;
mod refusal;
mod roles;
mod start;
mod stop;
mod tunnels;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::driver::{Driver, PingError};
use crate::mesh::event::Event;
use crate::mesh::id::NodeId;
use crate::mesh::keys::NetworkKeys;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::resolve;
use crate::mesh::time::Now;
use crate::mesh::token::Token;
use crate::mesh::view::View;
use crate::net::Net;
use crate::service::counts::Counters;
use crate::service::expose::Exposes;
use crate::service::ip_table::IpTable;
use crate::service::networks::NetworkDb;
use crate::store::Store;

pub use crate::api::p2prc::{Key as P2prcKey, KeyError as P2prcKeyError};
pub use crate::api::shapes::{
    Bench, BenchPhase, BenchProgress, NodeError, Problem, RoleInfo, RoleKind, Status, Usage,
};
pub use crate::mesh::ip_table::{RefreshError, RefreshPolicy};
pub use crate::mesh::measure::Limits;
pub use crate::service::spec::{
    ExposeSpec, FLOW_TIMEOUT_MS, Failover, IngressSpec, Mode, Protocol, ProxyProtocol, Strategy,
    TlsSpec,
};
pub use builder::{DEFAULT_HTTP, DEFAULT_LISTEN, NodeBuilder};
pub use ledger::Ledger;

/// A running node. Clones are handles to the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    id: NodeId,
    name: Name,
    token: Token,
    network_id: Option<Name>,
    data_dir: PathBuf,
    /// Whether the data directory held nothing of a network before this start.
    was_blank: bool,
    advertise: Vec<SocketAddr>,
    http: Option<SocketAddr>,
    http_token: bool,
    p2prc_http: Option<SocketAddr>,
    guests: guests::Guests,
    drain_timeout: Duration,
    started: Now,
    clock: Clock,
    driver: Driver,
    net: Arc<Net>,
    store: Store,
    exposes: Exposes,
    counters: Counters,
    ip_table: IpTable,
    networks: NetworkDb,
    roles: Mutex<roles::Roles>,
    phase: watch::Sender<Phase>,
    /// Ends what serves the node's API; cancelled last.
    api: CancellationToken,
    /// Ends the node's own tasks.
    stop: CancellationToken,
    tasks: TaskTracker,
    api_tasks: TaskTracker,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Leaving,
    Stopped,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Draining => "draining",
            Phase::Leaving => "leaving",
            Phase::Stopped => "stopped",
        }
    }
}

impl Node {
    /// Settings of a node about to start.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// This node's name.
    pub fn name(&self) -> &Name {
        &self.inner.name
    }

    /// The network's token, as it was given or made.
    pub fn token(&self) -> &Token {
        &self.inner.token
    }

    /// The network's token with this node's id and addresses in front: all another machine needs.
    pub fn join_token(&self) -> Token {
        use crate::mesh::addr::{HostPort, PeerAddr};
        use crate::mesh::token::MAX_BOOTSTRAP;
        let own = self.inner.advertise.iter().map(|addr| PeerAddr {
            id: Some(self.inner.id),
            at: HostPort::from(*addr),
        });
        let others = self.inner.token.bootstrap().iter();
        let others = others
            .filter(|peer| peer.id != Some(self.inner.id))
            .cloned();
        let nodes = own
            .take(MAX_BOOTSTRAP / 2)
            .chain(others)
            .take(MAX_BOOTSTRAP)
            .collect();
        let native = self.inner.token.to_native();
        // Every entry has an id and a port; a token without entries still joins with --connect.
        native.clone().with_bootstrap(nodes).unwrap_or(native)
    }

    /// UDP addresses that were bound.
    pub fn udp_addrs(&self) -> Vec<SocketAddr> {
        self.inner.net.local_addrs()
    }

    /// Address of the loopback HTTP server, if it is on.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.inner.http
    }

    /// Address at which P2PRC's routes are answered, if they are.
    pub fn p2prc_http_addr(&self) -> Option<SocketAddr> {
        self.inner.p2prc_http
    }

    /// Everything about this node at once.
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let view = self.view();
        let problems = inner
            .driver
            .problems()
            .into_iter()
            .map(|(code, message)| Problem {
                // A problem with one peer is kept under `word peer`; programs see the word.
                code: code.split(' ').next().unwrap_or_default().to_owned(),
                message,
            });
        Status {
            id: inner.id,
            name: inner.name.clone(),
            version: crate::mesh::records::VERSION.to_owned(),
            network: NetworkKeys::new(&inner.token).fingerprint(),
            network_id: inner.network_id.clone(),
            pid: std::process::id(),
            uptime_s: inner
                .clock
                .now()
                .mono
                .saturating_sub(inner.started.mono)
                .as_secs(),
            state: self.phase().word().to_owned(),
            udp: self.udp_addrs(),
            shards: inner.net.shards(),
            steered: inner.net.steered(),
            http: inner.http,
            p2prc_http: inner.p2prc_http,
            nodes_online: view.nodes.values().filter(|node| node.online).count(),
            nodes_known: view.nodes.len(),
            roles: self.roles(),
            usage: self.usage(),
            problems: problems.collect(),
            refused: self.refused(),
        }
    }

    /// What was refused and what was lost, by reason.
    fn refused(&self) -> BTreeMap<String, u64> {
        let mut counts = self.inner.driver.refused();
        for (reason, count) in self.inner.counters.lost() {
            *counts.entry(reason.to_owned()).or_default() += count;
        }
        counts
    }

    /// The mesh now.
    pub fn view(&self) -> Arc<View> {
        self.inner.driver.view()
    }

    /// The mesh as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.inner.driver.watch()
    }

    /// What happens from now on. A receiver that lags loses the oldest events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.driver.events()
    }

    /// The node that `text` names: full id, short id, unambiguous prefix of an id, name, or
    /// LocalAI's `<name>-<short id>`.
    ///
    /// # Errors
    /// `not_found`, or `ambiguous` with the list.
    pub fn resolve(&self, text: &str) -> Result<NodeId, NodeError> {
        resolve::resolve(text, &self.view()).map_err(|error| {
            let code = match &error {
                resolve::ResolveError::Unknown { .. } => "not_found",
                resolve::ResolveError::Ambiguous { .. } => "ambiguous",
            };
            NodeError::new(code, error.to_string()).with_hint("`warren nodes` lists them")
        })
    }

    /// Requests by service and node, as this node counts them.
    pub fn usage(&self) -> Vec<Usage> {
        let counts = self.inner.counters.snapshot().into_iter();
        let usage = counts.map(|(service, node, count)| Usage {
            service,
            node,
            in_flight: count.in_flight,
            served: count.served,
        });
        usage.collect()
    }

    /// Round trip to a node over the mesh.
    ///
    /// # Errors
    /// `unreachable` if it is offline, no link can be made, or it does not answer in time.
    pub async fn ping(&self, node: NodeId) -> Result<Duration, NodeError> {
        if node == self.inner.id {
            return Ok(Duration::ZERO);
        }
        self.inner.driver.ping(node).await.map_err(|error| {
            let message = format!("node {}: {error}", node.short());
            let hint = match error {
                PingError::Unreachable(_) => "`warren nodes` shows who answers",
                PingError::Silent => "it may be frozen or overloaded; try again",
            };
            NodeError::new("unreachable", message).with_hint(hint)
        })
    }

    /// Asks others to stop, or again start, choosing this node; running connections go on.
    ///
    /// # Errors
    /// `refused` when the node is on its way out.
    pub async fn drain(&self, on: bool) -> Result<(), NodeError> {
        if self.phase() >= Phase::Leaving {
            return Err(NodeError::new("refused", "the node is stopping"));
        }
        self.inner.driver.set_draining(on).await;
        let phase = if on { Phase::Draining } else { Phase::Running };
        self.inner.phase.send_replace(phase);
        Ok(())
    }

    /// The durable ledger.
    pub fn ledger(&self) -> Ledger {
        Ledger {
            driver: self.inner.driver.clone(),
        }
    }

    /// Machines that are reached by address.
    pub fn ip_table(&self) -> IpTable {
        self.inner.ip_table.clone()
    }

    /// Networks that an explorer on this node's data directory knows.
    pub fn networks(&self) -> NetworkDb {
        self.inner.networks.clone()
    }

    fn phase(&self) -> Phase {
        *self.inner.phase.borrow()
    }

    fn bucket(&self, service: &Name) -> Bucket {
        Bucket::of(self.inner.network_id.as_ref(), service)
    }

    fn lock_roles(&self) -> MutexGuard<'_, roles::Roles> {
        // No code panics while it holds this lock.
        self.inner
            .roles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests kept from before, by service and node.
fn kept_counts(counts: Vec<(Bucket, NodeId, u64)>) -> BTreeMap<(Bucket, NodeId), u64> {
    counts
        .into_iter()
        .map(|(bucket, node, count)| ((bucket, node), count))
        .collect()
}
