//! The sockets of a node: for each of its addresses one on every shard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::Endpoint;
use tokio::runtime::Handle;

use crate::mesh::close::CloseCode;
use crate::mesh::id::NodeId;

use super::close::close_endpoint;
use super::endpoint::Factory;
use super::setup::NetError;
use super::shards::Shards;
use super::steer::Steered;

/// The endpoints of one node, and what runs them.
pub(super) struct Sockets {
    pub(super) shards: Shards,
    /// By address, then by shard.
    endpoints: Vec<(SocketAddr, Vec<Endpoint>)>,
    dropped: Arc<AtomicU64>,
    steered: Arc<Steered>,
}

impl Sockets {
    /// Binds all of `listen` on all shards.
    ///
    /// # Errors
    /// The first address that cannot be bound; those before it are released.
    pub(super) fn bind(
        factory: &Factory,
        listen: Vec<SocketAddr>,
        shards: Shards,
    ) -> Result<Self, NetError> {
        let mut sockets = Self {
            shards,
            endpoints: Vec::new(),
            dropped: Arc::default(),
            steered: Arc::default(),
        };
        for addr in listen {
            let bind = |source| NetError::Bind { addr, source };
            let Self {
                shards,
                dropped,
                steered,
                ..
            } = &sockets;
            let bound = factory.bind_all(addr, shards, dropped, steered);
            let bound = bound.map_err(bind)?;
            let local = bound.first().map(Endpoint::local_addr).transpose();
            let local = local.map_err(bind)?.unwrap_or(addr);
            sockets.endpoints.push((local, bound));
        }
        Ok(sockets)
    }

    /// Addresses that were bound.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|(addr, _)| *addr).collect()
    }

    /// Datagrams that were not from a member.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Datagrams between shards.
    pub(super) fn steered(&self) -> &Steered {
        &self.steered
    }

    /// Every endpoint, with the shard it is on.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Endpoint, (u32, &Handle))> {
        let all = self.endpoints.iter();
        all.flat_map(|(_, endpoints)| endpoints.iter().zip(self.shards.all()))
    }

    /// The shard on which a peer is dialled: the same for every link to it, if its id is known.
    pub(super) fn shard_for(&self, pin: Option<NodeId>, addr: SocketAddr) -> u32 {
        match pin {
            Some(id) => self.shards.of(&id),
            None => self.shards.of(&addr),
        }
    }

    /// The socket of a shard that reaches `addr`: one of the same family, an IPv6 wildcard reaches
    /// both.
    pub(super) fn reaching(&self, addr: SocketAddr, shard: u32) -> Option<&Endpoint> {
        let same = |local: &SocketAddr| local.is_ipv4() == addr.is_ipv4();
        let dual = |local: &SocketAddr| local.is_ipv6() && local.ip().is_unspecified();
        // A socket bound to loopback reaches nothing else, and the other way round.
        let near = |local: &SocketAddr| {
            local.ip().is_unspecified() || local.ip().is_loopback() == addr.ip().is_loopback()
        };
        let fits = |local: &SocketAddr| (same(local) || dual(local)) && near(local);
        let (_, endpoints) = self.endpoints.iter().find(|(local, _)| fits(local))?;
        endpoints.get(shard as usize)
    }

    /// Accepts no more, and ends the connections that are left.
    pub(super) fn close(&self) {
        for (endpoint, _) in self.all() {
            close_endpoint(endpoint, CloseCode::Done);
        }
    }

    /// Resolves when all peers have heard of the end, or are given up.
    pub(super) async fn idle(&self) {
        for (endpoint, _) in self.all() {
            endpoint.wait_idle().await;
        }
    }
}
