//! The one loop around the brain: it feeds it what happened and carries out what it decides.
//!
//! Everything that waits is somewhere else: dials and links in [`crate::net`], commits in
//! [`crate::store`]. The loop itself never waits for either.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock::{self, Clock};
use crate::mesh::brain::{Brain, Dialled, DraftError, Effect, Input, Save};
use crate::mesh::entry::{Class, Entry, Slot};
use crate::mesh::event::{Event, What};
use crate::mesh::id::NodeId;
use crate::mesh::ledger::Merge;
use crate::mesh::members::LinkId;
use crate::mesh::name::Bucket;
use crate::mesh::records::ServiceRecord;
use crate::mesh::view::View;
use crate::mesh::wire::Frame;
use crate::net::{LinkEvent, Net};
use crate::store::{Change, Health, Store, StoreError};

/// Requests that may wait for the loop.
const MAX_REQUESTS: usize = 1_024;
/// Events taken in one turn before effects are carried out and timers looked at.
const EVENTS_PER_TURN: usize = 256;
/// Events kept for watchers that lag.
const EVENTS_KEPT: usize = 4_096;
/// Sleep while the brain has nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);
/// A ping of a person is answered within this, or not at all.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// Pings of people under way at once.
const MAX_PINGS: usize = 1_024;
/// Problems with single peers shown at once: identities cost nothing, and must not hide the
/// problems of this node.
const MAX_PROBLEMS: usize = 64;

/// Why a write to the ledger failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It breaks a limit.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The disk does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An imported entry is not what its author signed, or breaks a limit.
    #[error("entry {index} of the import ({bucket}/{key}): {cause}; nothing was imported")]
    Import {
        /// Position in the document, from 0.
        index: usize,
        /// Its bucket.
        bucket: Bucket,
        /// Its key.
        key: String,
        /// Why.
        cause: String,
    },
    /// This node has no value there.
    #[error("this node has no value under {bucket}/{key}; only a value's author can remove it")]
    NotFound {
        /// Bucket.
        bucket: Bucket,
        /// Key.
        key: String,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// Why a ping failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// No link to the node is up.
    #[error("the node is not online")]
    Offline,
    /// No answer in time, or too many pings at once.
    #[error("no answer within {PING_LIMIT:?}")]
    Silent,
}

type Reply<T> = oneshot::Sender<T>;
type Read = Box<dyn FnOnce(&Brain) + Send>;

enum Request {
    Write {
        bucket: Bucket,
        key: String,
        value: Option<Vec<u8>>,
        reply: Reply<Result<Entry, WriteError>>,
    },
    Import {
        entries: Vec<Entry>,
        reply: Reply<Result<(usize, usize), WriteError>>,
    },
    Service {
        bucket: Bucket,
        record: Option<ServiceRecord>,
    },
    Draining(bool),
    Leave {
        reply: Reply<()>,
    },
    Ping {
        node: NodeId,
        reply: Reply<Duration>,
    },
    Read(Read),
}

/// What the driver shows without being asked.
#[derive(Default)]
struct Shown {
    routes: HashMap<NodeId, LinkId>,
    refused: BTreeMap<&'static str, u64>,
    problems: BTreeMap<String, String>,
}

/// The way to a running driver. Clones are handles to the same one.
#[derive(Clone)]
pub struct Driver {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<View>>,
    events: broadcast::Sender<Event>,
    shown: Arc<Mutex<Shown>>,
    net: Arc<Net>,
    clock: Clock,
}

/// What a driver runs with.
pub struct DriverSetup {
    /// The brain, loaded.
    pub brain: Brain,
    /// The net; its events come over `links`.
    pub net: Arc<Net>,
    /// What the net tells.
    pub links: mpsc::Receiver<LinkEvent>,
    /// The disk.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Addresses this node can be dialled at, as configured; agreed observations are added.
    pub addresses: Vec<SocketAddr>,
    /// Those of them a dial without id may be made for, as the gate has them (A4).
    pub knockable: Vec<SocketAddr>,
}

impl Driver {
    /// Makes a driver and the future that runs it; the future ends when every handle is gone.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn new(
        setup: DriverSetup,
    ) -> Result<(Self, impl Future<Output = ()> + Send), aws_lc_rs::error::Unspecified> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed)?;
        let (requests, inbox) = mpsc::channel(MAX_REQUESTS);
        let (view_out, view) = watch::channel(Arc::new(View::new(setup.brain.me())));
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let shown = Arc::new(Mutex::new(Shown::default()));
        let driver = Self {
            requests,
            view,
            events: events.clone(),
            shown: Arc::clone(&shown),
            net: Arc::clone(&setup.net),
            clock: setup.clock.clone(),
        };
        let health = setup.store.health();
        let mut turn = Turn {
            brain: setup.brain,
            net: setup.net,
            store: setup.store,
            clock: setup.clock,
            addresses: setup.addresses,
            knockable: setup.knockable,
            rng: StdRng::from_seed(seed),
            commits: FuturesUnordered::new(),
            pings: HashMap::new(),
            view: view_out,
            events,
            shown,
        };
        // The first view, and this node's record in it, are there before anyone can ask.
        turn.carry_out();
        Ok((driver, turn.run(setup.links, inbox, health)))
    }

    /// The mesh now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The mesh as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The link that work for `node` goes over.
    pub fn route(&self, node: NodeId) -> Option<LinkId> {
        lock(&self.shown).routes.get(&node).copied()
    }

    /// Counted refusals, by reason.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        let brain = lock(&self.shown).refused.clone();
        let dropped = self.net.dropped();
        let dropped = (dropped > 0).then_some(("datagrams", dropped));
        let mut counts = BTreeMap::new();
        for (reason, count) in brain.into_iter().chain(self.net.refused()).chain(dropped) {
            *counts.entry(reason.to_owned()).or_default() += count;
        }
        counts
    }

    /// What persists and should be looked at: stable word and text.
    pub fn problems(&self) -> BTreeMap<String, String> {
        lock(&self.shown).problems.clone()
    }

    /// Writes (`Some`) or removes (`None`) a value of this node: durable when it returns.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(
        &self,
        bucket: Bucket,
        key: String,
        value: Option<Vec<u8>>,
    ) -> Result<Entry, WriteError> {
        let reply = |reply| Request::Write {
            bucket,
            key,
            value,
            reply,
        };
        self.ask(reply).await.unwrap_or(Err(WriteError::Stopped))
    }

    /// Merges signed entries, all or nothing: how many were taken, how many were known or older.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn import(&self, entries: Vec<Entry>) -> Result<(usize, usize), WriteError> {
        let reply = |reply| Request::Import { entries, reply };
        self.ask(reply).await.unwrap_or(Err(WriteError::Stopped))
    }

    /// Announces, changes or (`None`) withdraws a service of this node.
    pub async fn set_service(&self, bucket: Bucket, record: Option<ServiceRecord>) {
        let _ = self
            .requests
            .send(Request::Service { bucket, record })
            .await;
    }

    /// Asks others to stop, or again to start, choosing this node.
    pub async fn set_draining(&self, on: bool) {
        let _ = self.requests.send(Request::Draining(on)).await;
    }

    /// Announces the departure; returns when it is on its way on every link.
    pub async fn leave(&self) {
        self.ask(|reply| Request::Leave { reply }).await;
    }

    /// Round trip of a frame to `node`.
    ///
    /// # Errors
    /// See [`PingError`].
    pub async fn ping(&self, node: NodeId) -> Result<Duration, PingError> {
        if self.route(node).is_none() {
            return Err(PingError::Offline);
        }
        let asked = self.ask(|reply| Request::Ping { node, reply });
        let answer = tokio::time::timeout(PING_LIMIT, asked).await;
        answer.ok().flatten().ok_or(PingError::Silent)
    }

    /// Reads from the brain; `None` while the node stops.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Brain) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask(|reply| {
            Request::Read(Box::new(move |brain| {
                // Whoever asked may have gone.
                let _ = reply.send(read(brain));
            }))
        })
        .await
    }

    /// The clock the driver uses.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Writes under way: when the store answers, the brain goes on.
type Commit = BoxFuture<'static, (Committed, Result<(), StoreError>)>;

enum Committed {
    Own(Entry, Reply<Result<Entry, WriteError>>),
    Import(Vec<Entry>, usize, Reply<Result<(usize, usize), WriteError>>),
}

struct Turn {
    brain: Brain,
    net: Arc<Net>,
    store: Store,
    clock: Clock,
    addresses: Vec<SocketAddr>,
    knockable: Vec<SocketAddr>,
    rng: StdRng,
    commits: FuturesUnordered<Commit>,
    pings: HashMap<u64, (Duration, Reply<Duration>)>,
    view: watch::Sender<Arc<View>>,
    events: broadcast::Sender<Event>,
    shown: Arc<Mutex<Shown>>,
}

impl Turn {
    async fn run(
        mut self,
        mut links: mpsc::Receiver<LinkEvent>,
        mut inbox: mpsc::Receiver<Request>,
        mut health: watch::Receiver<Health>,
    ) {
        loop {
            let wake = self
                .brain
                .poll_timeout()
                .map(|at| self.clock.instant_at(at));
            let wake = wake.map_or_else(|| clock::deadline(IDLE), Instant::from_std);
            tokio::select! {
                event = links.recv() => {
                    let Some(event) = event else { return };
                    self.link_event(event);
                    for _ in 1..EVENTS_PER_TURN {
                        let Some(event) = links.try_recv().ok() else { break };
                        self.link_event(event);
                    }
                }
                request = inbox.recv() => {
                    let Some(request) = request else { return };
                    self.request(request);
                }
                Some((what, result)) = self.commits.next() => self.committed(what, result),
                Ok(()) = health.changed() => {
                    let now = health.borrow_and_update().clone();
                    self.store_health(&now);
                }
                () = sleep_until(wake) => {
                    // Bytes served count as life: ask before judging.
                    for (link, rtt) in self.net.heard() {
                        let now = self.clock.now();
                        self.brain.handle(now, &mut self.rng, Input::Heard { link, rtt });
                    }
                    self.brain.handle_timeout(self.clock.now(), &mut self.rng);
                }
            }
            self.carry_out();
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        let now = self.clock.now();
        match event {
            LinkEvent::Clock { peer, ahead_s } => self.clock_problem(peer, ahead_s),
            LinkEvent::WrongNode { dialled, reason } => {
                self.problem(&wrong_node_code(&dialled), &reason);
            }
            LinkEvent::Input(input) => {
                match &input {
                    Input::Frame {
                        frame: Frame::Pong(number),
                        ..
                    } => {
                        if let Some((sent, reply)) = self.pings.remove(number) {
                            let _ = reply.send(now.mono.saturating_sub(sent));
                        }
                    }
                    Input::LinkUp(up) => self.reached(up.peer, up.dialled.as_ref()),
                    Input::DialFailed {
                        dialled, reason, ..
                    } => self.dial_problem(dialled, reason),
                    _ => {}
                }
                self.brain.handle(now, &mut self.rng, input);
            }
        }
    }

    fn request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            Request::Write {
                bucket,
                key,
                value,
                reply,
            } => {
                self.write(bucket, key, value, reply);
            }
            Request::Import { entries, reply } => self.import(entries, reply),
            Request::Service { bucket, record } => {
                self.brain
                    .set_service(now, &mut self.rng, bucket, record.as_ref());
            }
            Request::Draining(on) => self.brain.set_draining(now, &mut self.rng, on),
            Request::Leave { reply } => {
                self.brain.leave();
                self.net.set_alive(self.brain.alive());
                self.carry_out();
                let _ = reply.send(());
            }
            Request::Ping { node, reply } => self.ping(node, reply),
            Request::Read(read) => read(&self.brain),
        }
    }

    /// Durable before acknowledged: the entry is signed, committed, and only then merged and sent.
    fn write(
        &mut self,
        bucket: Bucket,
        key: String,
        value: Option<Vec<u8>>,
        reply: Reply<Result<Entry, WriteError>>,
    ) {
        if value.is_none() && !self.has_own(&bucket, &key) {
            let _ = reply.send(Err(WriteError::NotFound { bucket, key }));
            return;
        }
        match self.brain.draft(self.clock.now(), bucket, key, value) {
            Ok(entry) => {
                let change = Change::PutEntry(entry.clone());
                self.commit(vec![change], Committed::Own(entry, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(error.into()));
            }
        }
    }

    fn has_own(&self, bucket: &Bucket, key: &str) -> bool {
        let slot = Slot {
            bucket: bucket.clone(),
            key: key.to_owned(),
            author: self.brain.me(),
            class: Class::Durable,
        };
        self.brain
            .ledger()
            .get(&slot)
            .is_some_and(|entry| !entry.deleted)
    }

    fn import(&mut self, entries: Vec<Entry>, reply: Reply<Result<(usize, usize), WriteError>>) {
        match self.check_import(entries) {
            Ok((fresh, known)) => {
                let changes = fresh.iter().cloned().map(Change::PutEntry).collect();
                self.commit(changes, Committed::Import(fresh, known, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn check_import(&self, entries: Vec<Entry>) -> Result<(Vec<Entry>, usize), WriteError> {
        let now = self.clock.now();
        let (mut fresh, mut known) = (Vec::new(), 0);
        for (index, entry) in entries.into_iter().enumerate() {
            let refuse = |cause: String| WriteError::Import {
                index,
                bucket: entry.slot.bucket.clone(),
                key: entry.slot.key.clone(),
                cause,
            };
            self.brain
                .verify(&entry)
                .map_err(|error| refuse(error.to_string()))?;
            if entry.slot.class != Class::Durable {
                return Err(refuse(
                    "it is a live entry; only durable ones are kept".to_owned(),
                ));
            }
            match self.brain.ledger().check(&entry, now) {
                Merge::Taken { .. } => fresh.push(entry),
                Merge::Known | Merge::Older => known += 1,
                Merge::Refused(why) => return Err(refuse(why.to_string())),
            }
        }
        Ok((fresh, known))
    }

    fn commit(&mut self, changes: Vec<Change>, what: Committed) {
        let store = self.store.clone();
        let done = async move { (what, store.commit(changes).await) };
        self.commits.push(done.boxed());
    }

    fn committed(&mut self, what: Committed, result: Result<(), StoreError>) {
        let now = self.clock.now();
        match what {
            Committed::Own(entry, reply) => {
                let answer = result.map(|()| entry.clone()).map_err(WriteError::from);
                if answer.is_ok() {
                    self.brain.apply_own(now, &mut self.rng, entry);
                }
                let _ = reply.send(answer);
            }
            Committed::Import(entries, known, reply) => {
                let answer = result
                    .map(|()| (entries.len(), known))
                    .map_err(WriteError::from);
                if answer.is_ok() {
                    for entry in entries {
                        self.brain.apply_own(now, &mut self.rng, entry);
                    }
                }
                let _ = reply.send(answer);
            }
        }
    }

    fn ping(&mut self, node: NodeId, reply: Reply<Duration>) {
        let now = self.clock.now().mono;
        self.pings
            .retain(|_, (sent, _)| now.saturating_sub(*sent) < PING_LIMIT);
        let route = self
            .brain
            .best_link(node)
            .filter(|_| self.pings.len() < MAX_PINGS);
        if let Some(link) = route {
            let number: u64 = rand::random();
            self.pings.insert(number, (now, reply));
            self.net.send(link, &Frame::Ping(number));
        }
    }

    /// Carries out what the brain decided, and shows what changed.
    fn carry_out(&mut self) {
        if let Some(view) = self.brain.take_view(self.clock.now()) {
            let nodes = view.nodes.keys();
            let routes = nodes.filter_map(|node| Some((*node, self.brain.best_link(*node)?)));
            lock(&self.shown).routes = routes.collect();
            self.view.send_replace(view);
        }
        while let Some(effect) = self.brain.poll_effect() {
            self.effect(effect);
        }
        lock(&self.shown).refused.clone_from(self.brain.refused());
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { link, frame } => self.net.send(link, &frame),
            Effect::Dial { dialled, targets } => self.net.dial(dialled, targets),
            Effect::Close { link, code } => self.net.close(link, code),
            Effect::Retire { link } => self.net.retire(link),
            Effect::Save(save) => self.store.later(match save {
                Save::Entry(entry) => Change::PutEntry(entry),
                Save::Drop(slot) => Change::DropEntry(slot),
                Save::Peer(peer) => Change::Peer(peer),
            }),
            Effect::Event(what) => self.tell(what),
            Effect::SearchClock { peer, targets } => {
                tracing::info!(peer = %peer.short(), "every peer is silent; looking for a clock difference");
                self.net.search_clock(peer, targets);
            }
            Effect::OwnAddresses(agreed) => {
                self.net
                    .gate()
                    .lock()
                    .set_own([self.knockable.clone(), agreed.clone()].concat());
                let mut all = self.addresses.clone();
                all.extend(
                    agreed
                        .into_iter()
                        .filter(|addr| !self.addresses.contains(addr)),
                );
                self.brain
                    .set_addresses(self.clock.now(), &mut self.rng, all);
            }
            Effect::Cloned => {
                let text = "another process uses this node's identity.key; stop one of them, or \
                            give one its own data directory";
                self.problem("cloned", text);
            }
        }
    }

    fn tell(&self, what: What) {
        match &what {
            What::NodeUp { id, name } => {
                let name = name.as_ref().map(tracing::field::display);
                tracing::info!(node = %id.short(), name, "node up");
            }
            What::NodeDown { id, reason, .. } => {
                tracing::info!(node = %id.short(), %reason, "node down");
            }
            What::NodeLeft { id, .. } => tracing::info!(node = %id.short(), "node left"),
            other => tracing::debug!(?other, "event"),
        }
        // Nobody may be watching.
        let _ = self.events.send(Event {
            at_ms: self.clock.now().unix_ms,
            what,
        });
    }

    fn reached(&mut self, peer: NodeId, dialled: Option<&Dialled>) {
        let solved = [
            Some("unreachable".to_owned()),
            Some(clock_code(peer)),
            dialled.map(wrong_node_code),
        ];
        let mut shown = lock(&self.shown);
        shown
            .problems
            .retain(|code, _| !solved.iter().flatten().any(|solved| solved == code));
    }

    fn dial_problem(&mut self, dialled: &Dialled, reason: &str) {
        let alone = lock(&self.shown).routes.is_empty();
        if alone {
            let text = format!("{} does not answer: {reason}", dialled_text(dialled));
            self.problem("unreachable", &text);
        }
    }

    fn clock_problem(&mut self, peer: NodeId, ahead_s: i64) {
        let (by, way) = (
            ahead_s.unsigned_abs(),
            if ahead_s > 0 { "behind" } else { "ahead of" },
        );
        let text = format!(
            "this machine's clock is {by} s {way} that of node {}; set the wrong one right (NTP)",
            peer.short()
        );
        self.problem(&clock_code(peer), &text);
    }

    fn store_health(&mut self, health: &Health) {
        match health {
            Health::Healthy => {
                if lock(&self.shown).problems.remove("store").is_some() {
                    tracing::info!("the store takes writes again");
                    let code = "store".to_owned();
                    self.tell(What::Resolved { code });
                }
            }
            Health::Failing { reason } => self.problem("store", reason),
        }
    }

    /// Notes a problem; it is logged and told once, not each time it is seen again.
    fn problem(&self, code: &str, message: &str) {
        let text = message.to_owned();
        let before = {
            let problems = &mut lock(&self.shown).problems;
            let of_one = |code: &str| code.contains(' ');
            let full = problems.keys().filter(|code| of_one(code)).count() >= MAX_PROBLEMS;
            if full && of_one(code) && !problems.contains_key(code) {
                return;
            }
            problems.insert(code.to_owned(), text)
        };
        if before.as_deref() != Some(message) {
            tracing::warn!(code, "{message}");
            // A problem with one peer is kept under `word peer`; programs see the word.
            let code = code.split(' ').next().unwrap_or_default().to_owned();
            let message = message.to_owned();
            self.tell(What::Warning { code, message });
        }
    }
}

/// One problem per dial that meets the wrong node.
fn wrong_node_code(dialled: &Dialled) -> String {
    format!("wrong_node {}", dialled_text(dialled))
}

fn dialled_text(dialled: &Dialled) -> String {
    match dialled {
        Dialled::Node(id) => format!("node {}", id.short()),
        Dialled::Host(at) => at.to_string(),
    }
}

/// One clock problem per peer: two peers may differ from this node in two ways.
fn clock_code(peer: NodeId) -> String {
    format!("clock {}", peer.short())
}

/// No code panics while it holds this lock.
fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
