//! Dials: all addresses of a target race, the first checked Hello wins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use tokio::task::JoinSet;

use crate::mesh::addr::HostPort;
use crate::mesh::alive::Alive;
use crate::mesh::brain::Dialled;
use crate::mesh::close::CloseCode;
use crate::mesh::id::NodeId;
use crate::mesh::keys::Target;

use super::close::close;
use super::endpoint::Factory;
use super::gate::SharedGate;
use super::hello::{GreetError, Greeter, Greeting};
use super::hub::Net;
use super::link::reason;
use super::setup::LinkEvent;
use super::verify::{Accept, learn_name, pinned_name};

/// Longest wait for the first answer.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Addresses tried of one target.
const MAX_ADDRESSES: usize = 8;
/// Each further address starts this much later, so that the best one usually wins alone
/// (RFC 8305 §5, shorter because a wasted dial costs one datagram).
const STAGGER: Duration = Duration::from_millis(50);
/// Epochs tried when everybody is silent: the accepted ones are ±1 (A9).
const SEARCH_EPOCHS: std::ops::RangeInclusive<i64> = 2..=12;

/// Why a dial made no link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nothing at all came back from a dial by address.
    #[error("{0} is silent: nothing listens there, the token is another one, or the clocks differ")]
    Silent(HostPort),
    /// Nothing at all came back from a dial that was pinned. It is never repeated without the
    /// pin: whoever took over the address would be let in.
    #[error(
        "{at} is silent: nothing listens there, the node there is not {id}, the token is another \
         one, or the clocks differ; if it was replaced, connect once with its new ID@HOST:PORT"
    )]
    SilentNode {
        /// Where.
        at: HostPort,
        /// Short id of the node that should answer.
        id: String,
    },
    /// Somebody else than the wanted node answered.
    #[error("{at}: {cause}")]
    WrongNode {
        /// Where.
        at: HostPort,
        /// Who it is, as far as known.
        cause: String,
    },
    /// The host name has no address, or no socket of this node can reach it.
    #[error("{at} cannot be dialled: {cause}")]
    Address {
        /// Where.
        at: HostPort,
        /// Why.
        cause: String,
    },
    /// The connection failed after something came back.
    #[error("{at}: {cause}")]
    Failed {
        /// Where.
        at: HostPort,
        /// Why.
        cause: String,
    },
    /// Hello failed.
    #[error("{at}: {error}")]
    Greet {
        /// Where.
        at: HostPort,
        /// Why.
        error: GreetError,
    },
}

impl DialError {
    /// Whether nothing at all came back.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::SilentNode { .. })
    }
}

struct Reached {
    connection: Connection,
    greeting: Greeting,
    shard: u32,
}

/// Dials for the brain and reports the link or the failure.
pub async fn dial(net: Arc<Net>, dialled: Dialled, targets: Vec<HostPort>) {
    let pin = match &dialled {
        Dialled::Node(id) => Some(*id),
        Dialled::Host(_) => None,
    };
    match race(&net, pin, &targets, 0).await {
        Ok(reached) => {
            let Reached {
                connection,
                greeting,
                shard,
            } = reached;
            net.establish(connection, greeting, Some(dialled), shard)
                .await;
        }
        Err(error) => {
            let silent = error.is_silent();
            let reason = error.to_string();
            tracing::debug!(?dialled, %reason, "dial failed");
            if matches!(error, DialError::WrongNode { .. }) {
                let (dialled, reason) = (dialled.clone(), reason.clone());
                net.tell(LinkEvent::WrongNode { dialled, reason }).await;
            }
            let input = crate::mesh::brain::Input::DialFailed {
                dialled,
                silent,
                reason,
            };
            net.tell(LinkEvent::Input(input)).await;
        }
    }
}

/// Dials a pinned peer with epochs this node's clock does not name. If one answers, the clocks
/// differ, and its Hello says by how much. The connection is not kept (A9).
pub async fn search_clock(net: Arc<Net>, peer: NodeId, targets: Vec<HostPort>) {
    let mut tries = JoinSet::new();
    for distance in SEARCH_EPOCHS {
        for offset in [-distance, distance] {
            let (net, targets) = (Arc::clone(&net), targets.clone());
            tries.spawn(async move { race(&net, Some(peer), &targets, offset).await });
        }
    }
    while let Some(done) = tries.join_next().await {
        match done {
            // The difference was told where the Hello was refused.
            Ok(Err(DialError::Greet {
                error: GreetError::Clock { .. },
                ..
            })) => return,
            Ok(Ok(reached)) => close(&reached.connection, CloseCode::Clock),
            _ => {}
        }
    }
}

async fn race(
    net: &Arc<Net>,
    pin: Option<NodeId>,
    targets: &[HostPort],
    offset: i64,
) -> Result<Reached, DialError> {
    let mut tries = JoinSet::new();
    let mut last = None;
    let mut started: u32 = 0;
    for at in targets {
        let addresses = match resolve(at).await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        for addr in addresses.into_iter().take(MAX_ADDRESSES) {
            let (net, at, wait) = (Arc::clone(net), at.clone(), STAGGER * started);
            started += 1;
            tries.spawn(async move {
                tokio::time::sleep(wait).await;
                attempt(&net, pin, &at, addr, offset).await
            });
        }
    }
    // The most telling failure is kept: silence says least.
    while let Some(done) = tries.join_next().await {
        match done {
            Ok(Ok(reached)) => return Ok(reached),
            Ok(Err(error)) if !error.is_silent() || last.is_none() => last = Some(error),
            _ => {}
        }
    }
    let nowhere = || HostPort::from(SocketAddr::from(([0, 0, 0, 0], 0)));
    Err(last.unwrap_or_else(|| DialError::Address {
        at: targets.first().cloned().unwrap_or_else(nowhere),
        cause: "no address is known".to_owned(),
    }))
}

async fn resolve(at: &HostPort) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(addr) = at.socket_addr() {
        return Ok(vec![addr]);
    }
    let found = tokio::net::lookup_host((at.host(), at.port())).await;
    found
        .map(Iterator::collect)
        .map_err(|error| DialError::Address {
            at: at.clone(),
            cause: error.to_string(),
        })
}

async fn attempt(
    net: &Arc<Net>,
    pin: Option<NodeId>,
    at: &HostPort,
    addr: SocketAddr,
    offset: i64,
) -> Result<Reached, DialError> {
    let shard = net.sockets.shard_for(pin, addr);
    let endpoint = net
        .sockets
        .reaching(addr, shard)
        .ok_or_else(|| DialError::Address {
            at: at.clone(),
            cause: "no socket of this node reaches this kind of address".to_owned(),
        })?;
    let dialler = Dialler {
        endpoint,
        gate: &net.gate,
        factory: &net.factory,
        me: net.me,
        alive: net.alive(),
        features: 0,
        limit: net.dial_limit(DIAL_LIMIT),
    };
    let (connection, greeted) = dialler.dial(pin, at, addr, offset).await?;
    match greeted {
        Ok(greeting) => Ok(Reached {
            connection,
            greeting,
            shard,
        }),
        Err(error) => {
            net.refuse(&connection, &error).await;
            Err(DialError::Greet {
                at: at.clone(),
                error,
            })
        }
    }
}

/// What a dial is made with.
pub(super) struct Dialler<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) gate: &'a SharedGate,
    pub(super) factory: &'a Factory,
    pub(super) me: NodeId,
    /// What this side's Hello says of it.
    pub(super) alive: Alive,
    pub(super) features: u64,
    /// Longest wait for the end of the TLS handshake.
    pub(super) limit: Duration,
}

impl Dialler<'_> {
    /// A connection to `addr`, with a knock of the epoch `offset` from now, and what came of
    /// Hello on it. Whoever gets it closes it.
    pub(super) async fn dial(
        &self,
        pin: Option<NodeId>,
        at: &HostPort,
        addr: SocketAddr,
        offset: i64,
    ) -> Result<(Connection, Result<Greeting, GreetError>), DialError> {
        let address = |cause: String| DialError::Address {
            at: at.clone(),
            cause,
        };
        let (target, accept, name) = match pin {
            Some(id) => (Target::Node(id), Accept::Pinned, pinned_name(&id)),
            None => (Target::Address(addr), Accept::LearnOnce, learn_name()),
        };
        let knock = self
            .gate
            .knock(&target, offset)
            .map_err(|e| address(e.to_string()))?;
        let config = self.factory.client_config(&knock, accept, addr);
        let connecting = self
            .endpoint
            .connect_with(config, addr, &name)
            .map_err(|e| address(e.to_string()))?;
        let connection = match tokio::time::timeout(self.limit, connecting).await {
            Err(_) | Ok(Err(ConnectionError::TimedOut)) => return Err(silent(pin, at.clone())),
            Ok(Err(error)) => return Err(handshake_error(pin, at.clone(), &error)),
            Ok(Ok(connection)) => connection,
        };
        let greeter = Greeter {
            gate: self.gate,
            me: self.me,
            alive: self.alive.clone(),
            knock: &knock,
            features: self.features,
        };
        let greeted = greeter.dial(&connection).await;
        Ok((connection, greeted))
    }
}

fn silent(pin: Option<NodeId>, at: HostPort) -> DialError {
    match pin {
        Some(id) => DialError::SilentNode { at, id: id.short() },
        None => DialError::Silent(at),
    }
}

/// A refused key reads as a TLS alert; say what it means here.
fn handshake_error(pin: Option<NodeId>, at: HostPort, error: &ConnectionError) -> DialError {
    let cause = match (pin, error) {
        (Some(id), ConnectionError::TransportError(_)) => {
            format!("the node there is not {} ({error})", id.short())
        }
        (None, ConnectionError::TransportError(_)) => {
            format!("the node there is this node itself, or has no valid key ({error})")
        }
        _ => {
            let cause = reason(error);
            return DialError::Failed { at, cause };
        }
    };
    DialError::WrongNode { at, cause }
}
