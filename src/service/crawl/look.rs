//! One look at one network.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Inner, Taken, lock};
use crate::clock;
use crate::mesh::addr::{HostPort, PeerAddr};
use crate::mesh::keys::NetworkKeys;
use crate::mesh::networks::{Network, Outcome};
use crate::mesh::observer::Seen;
use crate::mesh::probe::{Reach, Undecided};
use crate::net::observe::{Leave, ObserveError, Observer, Target};

/// A network none of whose addresses answers is given up after this.
const SILENCE: Duration = Duration::from_secs(3);
/// Part of that which names may take.
const LOOKUP_LIMIT: Duration = Duration::from_millis(1500);
/// Addresses dialled in one look.
const MAX_TARGETS: usize = 8;
/// Of these, addresses that the network told.
const MAX_LEARNT: usize = 3;
/// Addresses of one name.
const MAX_ADDRESSES: usize = 2;

/// What a look found.
pub(super) enum Found {
    /// What the network showed, and who did.
    Seen(Seen, SocketAddr),
    /// It can be reached, or names no address, and shows nothing.
    Failed(String),
    /// Nobody answered.
    Silent(String),
    /// Nothing is known.
    Excused(String),
}

/// A look that is over.
pub(super) struct Look {
    taken: Taken,
    pub(super) found: Found,
    /// How far away the farthest address is that did not answer.
    pub(super) reach: Reach,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Look {
    pub(super) fn network(&self) -> &Arc<Network> {
        &self.taken.network
    }

    /// One that nobody answered, the farthest of them at `reach`.
    #[cfg(test)]
    pub(super) fn silent(taken: Taken, reach: Reach) -> Self {
        let now = clock::instant();
        Self {
            taken,
            found: Found::Silent("silent".to_owned()),
            reach,
            began: now,
            ended: now,
        }
    }

    /// What it comes to; `None` if it takes a witness to tell.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match &self.found {
            Found::Seen(seen, _) => Some(Outcome::Seen {
                clusters: seen.clusters.clone(),
                nodes: seen.nodes,
            }),
            Found::Failed(reason) => Some(Outcome::Failed {
                reason: reason.clone(),
            }),
            Found::Excused(_) => Some(Outcome::Offline),
            Found::Silent(reason) => (self.reach == Reach::Own).then(|| Outcome::Silent {
                reason: reason.clone(),
            }),
        }
    }

    /// It was silent, and this machine online.
    pub(super) fn missed(self) -> (Self, Outcome) {
        let reason = match &self.found {
            Found::Silent(reason) | Found::Failed(reason) => reason.clone(),
            _ => String::new(),
        };
        (self, Outcome::Silent { reason })
    }

    /// It was silent, and so was everybody else.
    pub(super) fn excused(mut self) -> (Self, Outcome) {
        self.found = Found::Excused(Undecided::Offline.to_string());
        (self, Outcome::Offline)
    }

    /// Why nothing is known.
    pub(super) fn excuse(&self) -> Option<String> {
        match &self.found {
            Found::Excused(why) => Some(why.clone()),
            _ => None,
        }
    }
}

/// Looks at a network, once there is room for one more look.
pub(super) async fn look(taken: Taken) -> Look {
    let inner = Arc::clone(&taken.inner);
    // The semaphore is never closed.
    let _room = inner.room.acquire().await;
    let began = clock::instant();
    let (targets, unresolved) = inner.targets(&taken.network, began + LOOKUP_LIMIT).await;
    let reach = targets.iter().map(|one| inner.online.reach(one.addr.ip()));
    let reach = reach.max().unwrap_or(Reach::Far);
    let found = match (targets.is_empty(), unresolved) {
        (true, Some(at)) => Found::Silent(format!("the name of {at} has no address")),
        _ => inner.ask(&taken.network, &targets, began).await,
    };
    Look {
        taken,
        found,
        reach,
        began,
        ended: clock::instant(),
    }
}

impl Inner {
    async fn ask(self: &Arc<Self>, network: &Network, targets: &[Target], began: Instant) -> Found {
        let inner = Arc::clone(self);
        let leave: Leave = Arc::new(move |addr| {
            let now = inner.clock.now().mono;
            lock(&inner.restraint).ask(now, addr)
        });
        let observer = Observer {
            explorer: &self.explorer,
            keys: NetworkKeys::new(&network.token),
            clock: &self.clock,
            leave,
            silence: SILENCE.saturating_sub(began.elapsed()),
            limit: self.settings.limit.saturating_sub(began.elapsed()),
        };
        match Box::pin(observer.look(targets)).await {
            Ok((seen, addr)) => Found::Seen(seen, addr),
            Err(ObserveError::Silent(reason)) => Found::Silent(reason),
            Err(error @ (ObserveError::PutOff(_) | ObserveError::Here(_))) => {
                Found::Excused(error.to_string())
            }
            Err(error) => Found::Failed(error.to_string()),
        }
    }

    /// Where the network may be reached: as its token says and as was posted with it, and as it
    /// said itself in the last look. Also a name that has no address.
    async fn targets(&self, network: &Network, until: Instant) -> (Vec<Target>, Option<HostPort>) {
        let named = network.token.bootstrap().iter();
        let named = named.map(|peer| (peer.id, peer.at.clone()));
        let posted = network.bootstrap.iter().map(|at| (None, at.clone()));
        let places = in_turns(named.collect(), posted.collect());
        let found = places.iter().map(|(_, at)| self.resolve(at, until));
        let found = futures_util::future::join_all(found).await;
        let mut given: Vec<Target> = Vec::new();
        let mut unresolved = None;
        for ((id, at), addrs) in places.into_iter().zip(found) {
            if addrs.is_empty() {
                unresolved.get_or_insert_with(|| at.clone());
            }
            for addr in addrs {
                let at = at.clone();
                given.push(Target { id, at, addr });
            }
        }
        // Whoever is named by id is asked by it: then nobody else is believed.
        let pinned = given.iter().filter(|one| one.id.is_some());
        let pinned: BTreeSet<SocketAddr> = pinned.map(|one| one.addr).collect();
        let mut seen = BTreeSet::new();
        given.retain(|one| {
            let is_known = one.id.is_none() && pinned.contains(&one.addr);
            !is_known && seen.insert((one.id, one.addr))
        });
        let known = lock(&self.known).get(&network.key).cloned();
        let mut learnt: Vec<Target> = known.iter().flatten().filter_map(target).collect();
        // At an address that was given there may be another node by now.
        learnt.retain(|one| given.iter().all(|other| other.addr != one.addr));
        learnt.truncate(MAX_LEARNT);
        given.truncate(MAX_TARGETS - learnt.len());
        (in_turns(given, learnt), unresolved)
    }

    /// The addresses of a name. A lookup that takes too long keeps its place among those under way
    /// until it is over: the system does not end it any sooner.
    async fn resolve(&self, at: &HostPort, until: Instant) -> Vec<SocketAddr> {
        if let Some(addr) = at.socket_addr() {
            return vec![addr];
        }
        let lookups = Arc::clone(&self.lookups);
        let lookup = async {
            let place = lookups.acquire_owned().await;
            let (found, answer) = oneshot::channel();
            let at = (at.host().to_owned(), at.port());
            self.tasks.spawn(async move {
                let addrs = tokio::net::lookup_host(at).await;
                let addrs = addrs.map(|addrs| addrs.take(MAX_ADDRESSES).collect());
                // Whoever asked may have given up.
                let _ = found.send(addrs.unwrap_or_default());
                drop(place);
            });
            answer.await
        };
        let looked_up: Result<Vec<SocketAddr>, _> = match timeout_at(until, lookup).await {
            Ok(answer) => answer,
            Err(_) => return Vec::new(),
        };
        looked_up.unwrap_or_default()
    }
}

/// A node whose address is a number.
fn target(peer: &PeerAddr) -> Option<Target> {
    let addr = peer.at.socket_addr()?;
    Some(Target {
        id: peer.id,
        at: peer.at.clone(),
        addr,
    })
}

/// One of each, as long as there are both.
fn in_turns<T>(ones: Vec<T>, others: Vec<T>) -> Vec<T> {
    let mut all = Vec::with_capacity(ones.len() + others.len());
    let (mut ones, mut others) = (ones.into_iter(), others.into_iter());
    loop {
        let before = all.len();
        all.extend(ones.next());
        all.extend(others.next());
        if all.len() == before {
            return all;
        }
    }
}
