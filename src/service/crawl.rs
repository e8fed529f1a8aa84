//! Looks at the networks of an explorer, many at once, and notes what it found.
//!
//! One look is one observer ([`crate::mesh::observer`]) in `look`: it ends when the network has
//! shown all, after 3 s if none of its addresses answers, and after [`Settings::limit`] in any
//! case. What looks found is written in batches, each to the row it looked at: a row that was
//! removed or replaced meanwhile stays so.
//!
//! A network that is silent has failed only if this machine was online, as for the probe of a
//! server ([`crate::mesh::probe`]): while it was silent, another network that is as far away did
//! answer. If none did, those that answered before are asked again; if they are silent, too, or
//! there are none, this machine is the one that is offline, and nothing is counted. Addresses of
//! this machine need no witness.

mod look;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::networks::{NetworkDb, NetworksError};
use super::probe::online::Online;
use crate::clock::{self, Clock};
use crate::mesh::addr::PeerAddr;
use crate::mesh::id::Identity;
use crate::mesh::networks::{Looked, Network, NetworkKey, Outcome, Policy};
use crate::mesh::probe::Reach;
use crate::mesh::restraint::Restraint;
use crate::store::{StoreError, files};
use look::{Found, Look};

/// Looks written at once, at most.
const BATCH: usize = 64;
/// What looks found is written within this.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a silent network waits for another one that answers.
const JUDGE_AFTER: Duration = Duration::from_secs(5);
/// Without any network that is due, the database is looked at this often: a clock may jump.
const IDLE: Duration = Duration::from_secs(60);
/// Names looked up at once, over all networks.
const MAX_LOOKUPS: usize = 64;

/// How networks are looked at.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Networks looked at at once; each takes one socket. At least one.
    pub at_once: usize,
    /// Longest look at a network that answers (LocalAI's `--connection-timeout`).
    pub limit: Duration,
    /// What a look changes, and when the next is due.
    pub policy: Policy,
    /// Whether addresses that are not of the internet may be dialled.
    pub allow_private: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            at_once: 32,
            limit: Duration::from_secs(120),
            policy: Policy::default(),
            allow_private: false,
        }
    }
}

/// Looks at the networks of a database. Clones are handles to the same one: together they keep to
/// its limits, and never look at a network twice at once.
#[derive(Clone)]
pub struct Crawler(Arc<Inner>);

struct Inner {
    db: NetworkDb,
    explorer: Identity,
    clock: Clock,
    settings: Settings,
    restraint: Mutex<Restraint>,
    online: Online,
    room: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    looking: Mutex<HashSet<NetworkKey>>,
    /// Where nodes of each network were in the last look: other ways in, should those that were
    /// posted end.
    known: Mutex<HashMap<NetworkKey, Vec<PeerAddr>>>,
    /// Lookups of names.
    tasks: TaskTracker,
}

/// What became of one network in a pass.
#[derive(Clone, Debug)]
pub struct Noted {
    /// The network as it was looked at.
    pub before: Arc<Network>,
    /// The network as it is now; `None` if it is gone.
    pub row: Option<Arc<Network>>,
    /// What was found.
    pub outcome: Outcome,
    /// Why nothing is known, for [`Outcome::Offline`].
    pub excuse: Option<String>,
    /// How long the look took.
    pub took: Duration,
}

/// What a pass came to, in networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Looked at.
    pub networks: usize,
    /// With a worker online.
    pub active: usize,
    /// Without one.
    pub missed: usize,
    /// Of these, hidden from now on.
    pub hidden: usize,
    /// Of these, removed.
    pub removed: usize,
    /// Of which nothing was found out: the fault was with this machine, or they have to wait.
    pub excused: usize,
    /// Removed or replaced by others while they were looked at.
    pub void: usize,
}

impl Crawler {
    /// A crawler of `db` that looks with the identity of `explorer`.
    pub fn new(db: NetworkDb, explorer: Identity, clock: Clock, settings: Settings) -> Self {
        let at_once = settings.at_once.max(1);
        Self(Arc::new(Inner {
            restraint: Mutex::new(Restraint::new(settings.allow_private)),
            online: Online::new(None),
            room: Arc::new(Semaphore::new(at_once)),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            looking: Mutex::default(),
            known: Mutex::default(),
            tasks: TaskTracker::new(),
            settings: Settings {
                at_once,
                ..settings
            },
            db,
            explorer,
            clock,
        }))
    }

    /// The same with the identity of a data directory, which is made if there is none.
    ///
    /// # Errors
    /// The identity cannot be read or written.
    pub fn open(
        dir: &Path,
        db: NetworkDb,
        clock: Clock,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let explorer = files::load_or_create_identity(dir)?;
        Ok(Self::new(db, explorer, clock, settings))
    }

    /// How it looks.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Networks there are to look at.
    pub fn count(&self) -> usize {
        self.0.db.networks().len()
    }

    /// Looks once at every network, due or not, and tells of each when it is noted. Ends early
    /// when `stop` is cancelled; what was found by then is noted.
    ///
    /// # Errors
    /// [`NetworksError::Store`]: what was found last is not noted.
    pub async fn pass(
        &self,
        stop: &CancellationToken,
        told: &mut (dyn FnMut(Noted) + Send),
    ) -> Result<Pass, NetworksError> {
        let mut crawl = Crawl::new(Arc::clone(&self.0), told);
        crawl.waiting = self.0.db.networks().iter().cloned().collect();
        loop {
            crawl.start();
            if crawl.is_idle() || stop.is_cancelled() {
                break;
            }
            let due = crawl.due().unwrap_or_else(|| clock::deadline(PAUSE));
            tokio::select! {
                () = stop.cancelled() => break,
                look = crawl.next() => crawl.take(look),
                () = sleep_until(due) => crawl.settle(false).await?,
            }
        }
        crawl.end().await
    }

    /// Looks at networks whenever they are due, until `stop`; what was found by then is noted. A
    /// database that cannot be written is logged, and tried again with the next looks.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut rows = self.0.db.watch();
        let mut told = |noted: Noted| {
            let (network, outcome) = (noted.before.key, &noted.outcome);
            tracing::debug!(%network, ?outcome, excuse = ?noted.excuse, "looked at a network");
        };
        let mut crawl = Crawl::new(Arc::clone(&self.0), &mut told);
        loop {
            crawl.refill();
            crawl.start();
            let next = crawl.next_refill();
            let due = crawl.due().map_or(next, |due| due.min(next));
            tokio::select! {
                () = stop.cancelled() => break,
                look = crawl.next() => crawl.take(look),
                Ok(()) = rows.changed() => {}
                () = sleep_until(due) => {
                    if let Err(error) = crawl.settle(false).await {
                        tracing::warn!(%error, "what was found of networks is not noted");
                    }
                }
            }
        }
        if let Err(error) = crawl.end().await {
            tracing::warn!(%error, "what was found of networks is not noted");
        }
    }
}

impl Inner {
    fn looking(&self) -> MutexGuard<'_, HashSet<NetworkKey>> {
        lock(&self.looking)
    }

    /// Takes a network for a look, unless it is being looked at.
    fn take(self: &Arc<Self>, network: Arc<Network>) -> Option<Taken> {
        let is_free = self.looking().insert(network.key);
        is_free.then(|| Taken {
            inner: Arc::clone(self),
            network,
        })
    }
}

/// A network that is being looked at, until what was found is noted or given up.
struct Taken {
    inner: Arc<Inner>,
    network: Arc<Network>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.inner.looking().remove(&self.network.key);
    }
}

/// One pass, or all there will ever be.
struct Crawl<'a> {
    inner: Arc<Inner>,
    told: &'a mut (dyn FnMut(Noted) + Send),
    waiting: VecDeque<Arc<Network>>,
    looks: JoinSet<Look>,
    /// Silent, and nobody knows yet whose fault it is.
    silent: Vec<Look>,
    /// To be noted.
    found: Vec<(Look, Outcome)>,
    /// When that is to be settled next.
    settle_at: Option<Instant>,
    pass: Pass,
}

impl<'a> Crawl<'a> {
    fn new(inner: Arc<Inner>, told: &'a mut (dyn FnMut(Noted) + Send)) -> Self {
        Self {
            inner,
            told,
            waiting: VecDeque::new(),
            looks: JoinSet::new(),
            silent: Vec::new(),
            found: Vec::new(),
            settle_at: None,
            pass: Pass::default(),
        }
    }

    /// Takes the networks that are due now, once those before have had their turn.
    fn refill(&mut self) {
        if !self.waiting.is_empty() || self.looks.len() >= self.inner.settings.at_once {
            return;
        }
        let now = self.inner.clock.now().unix_ms;
        let networks = self.inner.db.networks();
        let mut due = networks.due(now, &self.inner.settings.policy);
        let looking = self.inner.looking();
        due.retain(|network| !looking.contains(&network.key));
        self.waiting = due.into();
    }

    fn next_refill(&self) -> Instant {
        let now = self.inner.clock.now().unix_ms;
        let networks = self.inner.db.networks();
        let next = networks.next_due_ms().map(|at| at.saturating_sub(now));
        // Those that are being looked at are due until that is noted.
        let next = next.map_or(IDLE, Duration::from_millis).clamp(PAUSE, IDLE);
        clock::deadline(next)
    }

    /// Starts looks while there is room. A network that is being looked at already waits.
    fn start(&mut self) {
        for _ in 0..self.waiting.len() {
            if self.looks.len() >= self.inner.settings.at_once {
                return;
            }
            let Some(network) = self.waiting.pop_front() else {
                return;
            };
            match self.inner.take(Arc::clone(&network)) {
                Some(taken) => drop(self.looks.spawn(look::look(taken))),
                None => self.waiting.push_back(network),
            }
        }
    }

    /// The next look that is over; never without any.
    async fn next(&mut self) -> Look {
        loop {
            match self.looks.join_next().await {
                Some(Ok(look)) => return look,
                Some(Err(error)) => tracing::error!(%error, "a look at a network broke off"),
                None => std::future::pending().await,
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.looks.is_empty()
    }

    /// When [`Crawl::settle`] is to be called.
    fn due(&self) -> Option<Instant> {
        self.settle_at
    }

    fn take(&mut self, look: Look) {
        if let Found::Seen(seen, addr) = &look.found {
            self.inner.online.heard(*addr);
            lock(&self.inner.known).insert(look.network().key, seen.peers.clone());
        }
        match look.outcome() {
            Some(outcome) => self.found.push((look, outcome)),
            None => self.silent.push(look),
        }
        let full = self.found.len() >= BATCH;
        let pause = if full { Duration::ZERO } else { PAUSE };
        let at = clock::deadline(pause);
        self.settle_at = Some(self.settle_at.map_or(at, |before| before.min(at)));
    }

    /// Decides whose fault silence was where that can be told, in the end in any case, and notes
    /// what was found.
    async fn settle(&mut self, end: bool) -> Result<(), NetworksError> {
        let online = &self.inner.online;
        for reach in [Reach::Near, Reach::Far] {
            let (these, others): (Vec<Look>, Vec<Look>) = std::mem::take(&mut self.silent)
                .into_iter()
                .partition(|look| look.reach == reach);
            self.silent = others;
            let mut unheard = Vec::new();
            for look in these {
                match online.has_heard_since(reach, look.began) {
                    true => self.found.push(look.missed()),
                    false if end || look.ended.elapsed() >= JUDGE_AFTER => unheard.push(look),
                    false => self.silent.push(look),
                }
            }
            let confirmed = !unheard.is_empty() && online.confirm(reach).await;
            let judge = |look: Look| {
                if confirmed {
                    look.missed()
                } else {
                    look.excused()
                }
            };
            self.found.extend(unheard.into_iter().map(judge));
        }
        self.settle_at = (!self.silent.is_empty()).then(|| clock::deadline(PAUSE));
        self.note().await
    }

    /// Writes what was found, and tells of it.
    async fn note(&mut self) -> Result<(), NetworksError> {
        while !self.found.is_empty() {
            let some = self.found.len().min(BATCH);
            let found: Vec<(Look, Outcome)> = self.found.drain(..some).collect();
            let looked = found.iter().map(|(look, outcome)| Looked {
                key: look.network().key,
                incarnation: look.network().incarnation,
                outcome: outcome.clone(),
                random: rand::random(),
            });
            let now = self.inner.clock.now().unix_ms;
            let policy = &self.inner.settings.policy;
            let noted = self.inner.db.record(looked.collect(), policy, now).await?;
            self.pass.networks += found.len();
            self.pass.active += noted.active;
            self.pass.missed += noted.missed + noted.hidden.len() + noted.gone.len();
            self.pass.hidden += noted.hidden.len();
            self.pass.removed += noted.gone.len();
            self.pass.excused += noted.excused;
            self.pass.void += noted.void;
            let networks = self.inner.db.networks();
            let mut known = lock(&self.inner.known);
            if known.len() > networks.len() {
                known.retain(|key, _| networks.get(key).is_some());
            }
            drop(known);
            for (look, outcome) in found {
                (self.told)(Noted {
                    row: networks.get(&look.network().key).cloned(),
                    outcome,
                    excuse: look.excuse(),
                    took: look.ended.saturating_duration_since(look.began),
                    before: Arc::clone(look.network()),
                });
            }
        }
        Ok(())
    }

    /// Stops what is under way, and notes the rest.
    async fn end(mut self) -> Result<Pass, NetworksError> {
        self.looks.shutdown().await;
        self.settle(true).await?;
        Ok(self.pass)
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
