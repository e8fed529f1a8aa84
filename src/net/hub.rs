//! The net of one node: its endpoints, its links, and the way to and from the driver.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mesh::addr::HostPort;
use crate::mesh::alive::{Alive, LifeState};
use crate::mesh::brain::{Dialled, Input, LinkUp};
use crate::mesh::close::CloseCode;
use crate::mesh::id::NodeId;
use crate::mesh::knock::Knock;
use crate::mesh::members::LinkId;
use crate::mesh::observed::network_of;
use crate::mesh::wire::Frame;

use super::accept::{self, Admission};
use super::close::close;
use super::dial;
use super::endpoint::Factory;
use super::gate::SharedGate;
use super::hello::{GreetError, Greeting};
use super::link::{Link, ends_only_the_link, reason};
use super::refused::Refused;
use super::setup::{LinkEvent, NetError, NetSetup, OpenError, TunnelSink};
use super::shards::Shards;
use super::sockets::Sockets;
use super::tunnel::TunnelGuard;
use super::window::Budget;

/// Links of one process.
const MAX_LINKS: usize = 4_096;
/// Links with peers in one /24 or /56: identities cost nothing, addresses do (D27).
const MAX_LINKS_PER_NETWORK: usize = MAX_LINKS / 4;
/// How long a last frame may take before its link is closed.
const LAST_WORD: Duration = Duration::from_millis(200);
/// A clock difference worth telling people about although the epochs still fit.
const NOTABLE_CLOCK_S: i64 = 60;

/// All endpoints and links of a node.
pub struct Net {
    pub(super) gate: SharedGate,
    pub(super) me: NodeId,
    pub(super) factory: Factory,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) knock_used: Arc<dyn Fn(&Knock) + Send + Sync>,
    pub(super) refused: Refused,
    pub(super) sockets: Sockets,
    links: Mutex<BTreeMap<LinkId, Arc<Link>>>,
    next_link: AtomicU64,
    admission: Mutex<Admission>,
    alive: Mutex<Alive>,
    events: mpsc::Sender<LinkEvent>,
    tunnels: Arc<dyn TunnelSink>,
    budget: Arc<Budget>,
}

impl Net {
    /// Binds every address and starts to accept.
    ///
    /// # Errors
    /// The first address that cannot be bound; those before it are released. Or the system has no
    /// threads for the shards.
    pub fn start(setup: NetSetup) -> Result<Arc<Self>, NetError> {
        let count = setup.shards;
        let shards = Shards::start(count).map_err(|source| NetError::Shards { count, source })?;
        let gate = setup.gate.among(shards.count());
        let factory = Factory::new(&setup.identity, gate.clone())?;
        let sockets = Sockets::bind(&factory, setup.listen, shards)?;
        let net = Arc::new(Self {
            gate,
            me: setup.identity.id(),
            factory,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            knock_used: setup.knock_used,
            refused: Refused::default(),
            sockets,
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            admission: Mutex::default(),
            alive: Mutex::new(setup.alive),
            events: setup.events,
            tunnels: setup.tunnels,
            budget: Arc::new(Budget::new(setup.tunnel_memory)),
        });
        for (endpoint, (shard, runtime)) in net.sockets.all() {
            let accepting = accept::run(Arc::clone(&net), endpoint.clone(), shard);
            net.tasks.spawn_on(accepting, runtime);
        }
        Ok(net)
    }

    /// Addresses that were bound.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.addrs()
    }

    /// Datagrams that were not from a member.
    pub fn dropped(&self) -> u64 {
        self.sockets.dropped()
    }

    /// Datagrams that came to one shard and were handed over to another.
    pub fn steered(&self) -> u64 {
        self.sockets.steered().given()
    }

    /// How many threads carry bytes.
    pub fn shards(&self) -> u32 {
        self.sockets.shards.count()
    }

    /// Dials, Hellos and links of members that were refused, by stable reason, and datagrams that
    /// a shard had no room for.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = self.refused.counts();
        let lost = self.sockets.steered().lost();
        counts.extend((lost > 0).then_some(("shard_overflow", lost)));
        counts
    }

    /// The gate.
    pub fn gate(&self) -> &SharedGate {
        &self.gate
    }

    /// What Hellos say of this node from now on. Whoever has left is dialled no more.
    pub fn set_alive(&self, alive: Alive) {
        if alive.state == LifeState::Leave {
            self.gate.lock().close();
        }
        *lock(&self.alive) = alive;
    }

    pub(super) fn alive(&self) -> Alive {
        lock(&self.alive).clone()
    }

    pub(super) fn admission(&self) -> MutexGuard<'_, Admission> {
        lock(&self.admission)
    }

    pub(super) fn has_room(&self, from: IpAddr) -> bool {
        let source = network_of(from);
        let links = lock(&self.links);
        let near = links.values().filter(|link| link.source == source);
        links.len() < MAX_LINKS && near.count() < MAX_LINKS_PER_NETWORK
    }

    /// A dial must not outlive its knock: with short epochs it is made anew sooner (A10).
    pub(super) fn dial_limit(&self, longest: Duration) -> Duration {
        let interval = self.gate.lock().network().crypto_interval().seconds();
        longest.min(Duration::from_secs(u64::from(interval)) * 3 / 2)
    }

    /// Where work over `link` to `peer` shall run, or, without one, over the link that a dial would
    /// make; what is for this node itself runs anywhere. `None`: here, like everything.
    pub fn runtime(&self, peer: NodeId, link: Option<LinkId>) -> Option<Handle> {
        let shards = &self.sockets.shards;
        if shards.count() == 1 {
            return None;
        }
        if peer == self.me {
            return Some(shards.next().clone());
        }
        let link = link.and_then(|link| self.link(link));
        let dialled = || shards.runtime(shards.of(&peer)).clone();
        Some(link.map_or_else(dialled, |link| link.runtime.clone()))
    }

    /// Starts a dial.
    pub fn dial(self: &Arc<Self>, dialled: Dialled, targets: Vec<HostPort>) {
        self.spawn(dial::dial(Arc::clone(self), dialled, targets));
    }

    /// Starts the search for a wrong clock.
    pub fn search_clock(self: &Arc<Self>, peer: NodeId, targets: Vec<HostPort>) {
        self.spawn(dial::search_clock(Arc::clone(self), peer, targets));
    }

    /// Sends a frame; a link that is gone swallows it.
    pub fn send(&self, link: LinkId, frame: &Frame) {
        if let Some(link) = self.link(link) {
            link.send(frame);
        }
    }

    /// Closes a link now; but one of an older start of its node only after it was told why, and
    /// one that has just come up only after it was greeted.
    pub fn close(&self, link: LinkId, code: CloseCode) {
        let Some(link) = self.link(link) else {
            return;
        };
        if code == CloseCode::OldBoot || !link.has_spoken() {
            // QUIC drops what is queued when it closes, and the frame before this is the only
            // word the older process gets of its clone. Without a Hello a dial has failed; it may
            // wait for another thread, or behind a probe of the path.
            self.spawn(async move {
                tokio::time::sleep(LAST_WORD).await;
                link.close(code);
            });
        } else {
            link.close(code);
        }
    }

    /// Closes a link whose peer is silent, when its tunnels have no hope either.
    pub fn lose(&self, link: LinkId) {
        if let Some(link) = self.link(link) {
            link.lose();
        }
    }

    /// Ends this side's control stream of a link behind what was sent on it.
    pub fn finish(&self, link: LinkId) {
        if let Some(link) = self.link(link) {
            link.finish();
        }
    }

    /// Closes a link when no tunnel is left on it.
    pub fn retire(&self, link: LinkId) {
        if let Some(link) = self.link(link) {
            link.retire();
        }
    }

    /// Closes a link that nobody has used for a while.
    pub fn trim(&self, link: LinkId) {
        if let Some(link) = self.link(link) {
            link.trim();
        }
    }

    /// Whether a link is up; one that is not may still be known to the brain for a moment.
    pub fn is_up(&self, link: LinkId) -> bool {
        self.link(link).is_some_and(|link| link.is_up())
    }

    /// Resolves when the net shuts down: no dial is answered any more.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// The link with this number.
    pub fn link(&self, id: LinkId) -> Option<Arc<Link>> {
        lock(&self.links).get(&id).cloned()
    }

    /// Which node is at the other end of each link that is up, and where. Observers are none.
    pub fn peers(&self) -> Vec<(NodeId, SocketAddr)> {
        let links = lock(&self.links);
        let up = links.values().filter(|link| link.is_up() && !link.observes);
        up.map(|link| (link.peer, link.remote())).collect()
    }

    /// Links on which datagrams came since the last call, with their round trips.
    pub fn heard(&self) -> Vec<(LinkId, Duration)> {
        let links: Vec<Arc<Link>> = lock(&self.links).values().cloned().collect();
        links
            .iter()
            .filter_map(|link| link.heard().map(|rtt| (link.id, rtt)))
            .collect()
    }

    /// Opens a tunnel stream on a link.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn open(
        &self,
        link: LinkId,
    ) -> Result<(SendStream, RecvStream, TunnelGuard), OpenError> {
        let link = self.link(link).ok_or(OpenError::NoLink)?;
        link.open()
            .await
            .map_err(|error| OpenError::Ended(reason(&error)))
    }

    /// Makes a greeted connection on `shard` a link and runs it there. That of an observer stays
    /// within what it had before its Hello, and carries nothing but what it is shown.
    pub(super) async fn establish(
        self: &Arc<Self>,
        connection: Connection,
        greeting: Greeting,
        dialled: Option<Dialled>,
        shard: u32,
    ) {
        let id = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let observes = greeting.hello.observes();
        let remote = connection.remote_address();
        let up = LinkUp {
            link: id,
            peer: greeting.peer,
            alive: greeting.hello.alive,
            dialled,
            remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            observed: greeting.hello.observed,
            again: false,
        };
        let again = LinkUp {
            again: true,
            ..up.clone()
        };
        let source = network_of(up.remote.ip());
        let budget = Arc::clone(&self.budget);
        let runtime = self.sockets.shards.runtime(shard).clone();
        let (link, waiting) = Link::new(
            id,
            greeting.peer,
            source,
            connection,
            observes,
            budget,
            runtime.clone(),
        );
        lock(&self.links).insert(id, Arc::clone(&link));
        // The driver must hear of the link before the first frame on it.
        let up = match observes {
            true => Input::ObserverUp { link: id },
            false => Input::LinkUp(up),
        };
        self.tell(LinkEvent::Input(up)).await;
        if greeting.ahead_s.abs() > NOTABLE_CLOCK_S {
            let (peer, ahead_s) = (greeting.peer, greeting.ahead_s);
            self.tell(LinkEvent::Clock { peer, ahead_s }).await;
        }
        let net = Arc::clone(self);
        let run = async move {
            let control = (greeting.send, greeting.recv);
            let serve = |send, recv, guard| {
                if !observes {
                    net.tasks
                        .spawn(net.tunnels.tunnel(link.peer, send, recv, guard));
                }
            };
            let run = link.run(control, waiting, &net.events, &again, &net.refused, serve);
            let end = run.await;
            lock(&net.links).remove(&id);
            let by_us = matches!(end, ConnectionError::LocallyClosed);
            let down = Input::LinkDown {
                link: id,
                let_go: by_us || ends_only_the_link(&end),
                reason: reason(&end),
            };
            net.tell(LinkEvent::Input(down)).await;
        };
        self.tasks.spawn_on(run, &runtime);
    }

    /// Closes a connection that did not become a link, and tells about a wrong clock.
    pub(super) async fn refuse(&self, connection: &Connection, error: &GreetError) {
        tracing::debug!(remote = %connection.remote_address(), %error, "connection refused");
        if let Some(word) = error.word() {
            self.refused.count(word);
        }
        close(connection, error.code());
        if let GreetError::Clock { peer, ahead_s } = error {
            self.tell(LinkEvent::Clock {
                peer: *peer,
                ahead_s: *ahead_s,
            })
            .await;
        }
    }

    pub(super) async fn tell(&self, event: LinkEvent) {
        // The driver is gone only while the node stops.
        let _ = self.events.send(event).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Closes every link and endpoint. Peers may take `limit` to hear what is queued for them,
    /// and once more to hear of the end.
    pub async fn shutdown(&self, limit: Duration) {
        self.stop.cancel();
        // A closed endpoint would answer a knock with a refusal.
        self.gate.lock().close();
        let links: Vec<Arc<Link>> = lock(&self.links).values().cloned().collect();
        links.iter().for_each(|link| link.finish());
        let heard = join_all(links.iter().map(|link| link.closed()));
        let _ = tokio::time::timeout(limit, heard).await;
        links.iter().for_each(|link| link.close(CloseCode::Done));
        self.sockets.close();
        self.tasks.close();
        let told = async {
            self.sockets.idle().await;
            self.tasks.wait().await;
        };
        let _ = tokio::time::timeout(limit, told).await;
        self.sockets.shards.end().await;
    }
}

/// No code panics while it holds one of these locks, and what they guard is whole after every
/// statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
