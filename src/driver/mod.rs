//! The one loop around the brain: it feeds it what happened and carries out what it decides.
//!
//! Everything that waits is somewhere else: dials and links in [`crate::net`], commits in
//! [`crate::store`]. The loop itself never waits for either. [`Driver`] is the handle to it;
//! `turn` is the loop, `reach` the way to a link on demand, `writes` that of a value to the disk
//! and into the ledger, `problems` what the operator should look at.

mod problems;
mod reach;
mod turn;
mod writes;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::mesh::brain::{Brain, DraftError};
use crate::mesh::entry::Entry;
use crate::mesh::event::Event;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::name::Bucket;
use crate::mesh::records::ServiceRecord;
use crate::mesh::view::View;
use crate::net::{LinkEvent, Net};
use crate::store::{Store, StoreError};
use reach::Waiting;
use turn::Turn;

pub use reach::ReachError;

/// Requests that may wait for the loop.
const MAX_REQUESTS: usize = 1_024;
/// Events kept for watchers that lag.
const EVENTS_KEPT: usize = 4_096;
/// A ping of a person is answered within this, or not at all.
const PING_LIMIT: Duration = Duration::from_secs(5);
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
    /// There is no link to the node.
    #[error(transparent)]
    Unreachable(#[from] ReachError),
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
    Reach {
        node: NodeId,
    },
    Read(Read),
}

/// What the driver shows without being asked.
#[derive(Default)]
struct Shown {
    routes: BTreeMap<NodeId, LinkId>,
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
    waiting: Waiting,
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
        let waiting = Waiting::default();
        let driver = Self {
            requests,
            view,
            events: events.clone(),
            shown: Arc::clone(&shown),
            waiting: waiting.clone(),
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
            looked: Duration::ZERO,
            pings: HashMap::new(),
            view: view_out,
            events,
            shown,
            waiting,
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

    /// Round trip of a frame to `node`, which is dialled if no link is up.
    ///
    /// # Errors
    /// See [`PingError`].
    pub async fn ping(&self, node: NodeId) -> Result<Duration, PingError> {
        let ping = async {
            for _ in 0..2 {
                self.reach(node).await?;
                let rtt = self.ask(|reply| Request::Ping { node, reply }).await;
                if let Some(rtt) = rtt {
                    return Ok(rtt);
                }
                // The link ended: the other side may just have had no more use for it.
            }
            Err(PingError::Silent)
        };
        let answer = tokio::time::timeout(PING_LIMIT, ping).await;
        answer.unwrap_or(Err(PingError::Silent))
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

/// No code panics while it holds this lock.
fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
