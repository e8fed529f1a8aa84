//! Asks many P2PRC servers at once whether they answer, and how fast: `GET /server_info` for the
//! round trip, `GET /50` for the download, `/upload` for the upload. What is measured:
//! [`crate::mesh::measure`]; what a probe says, and how it is known that this machine is offline:
//! [`crate::mesh::probe`].
//!
//! Servers are asked in parallel, within [`Settings::at_once`], each after a random pause; what
//! moves many bytes goes a few at a time, or the transfers would measure one another. Everything
//! ends at one deadline: whoever had no turn by then is reported as such. Nothing is stored, and
//! no redirect is followed.

mod http;
pub(in crate::service) mod online;
mod upload;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock;
use crate::mesh::addr::HostPort;
use crate::mesh::measure::{Limits, RoundTrip};
use crate::mesh::probe::{Found, Reach, Undecided, Unmeasured, Verdict, judge};
use http::Trouble;
use online::Online;
pub use online::own_addresses;

/// Says whether somebody at least this far away was heard within the last seconds, by other
/// means than this probe.
pub type Witness = Arc<dyn Fn(Reach) -> bool + Send + Sync>;
/// Says whether a server may be connected to at an address. It is asked after names are resolved.
pub type Policy = Arc<dyn Fn(&HostPort, IpAddr) -> bool + Send + Sync>;

/// How servers are probed.
#[derive(Clone)]
pub struct Settings {
    /// Servers asked at once; each takes one file descriptor. At least one.
    pub at_once: usize,
    /// Transfers at once. At least one.
    pub transfers_at_once: usize,
    /// Everything is reported by then.
    pub deadline: Duration,
    /// Each server is asked after a random pause of at most this, so that many of them, or many
    /// who ask one, do not meet in the same moment.
    pub jitter: Duration,
    /// How long a connection may take, and each answer.
    pub patience: Duration,
    /// Round trips measured after the first, which opens the way.
    pub round_trips: usize,
    /// Bounds of the download and of the upload; `None` to measure neither.
    pub transfer: Option<Limits>,
    /// Who else tells that this machine is online.
    pub witness: Option<Witness>,
    /// Which addresses may be connected to; `None` for all. Rows that strangers sent need one.
    pub policy: Option<Policy>,
}

impl Default for Settings {
    /// For a table of a thousand rows, of which many are dead, in 14 s.
    fn default() -> Self {
        Self {
            at_once: 200,
            transfers_at_once: 2,
            deadline: Duration::from_secs(14),
            jitter: Duration::from_millis(250),
            patience: Duration::from_secs(3),
            round_trips: 3,
            transfer: Some(Limits {
                bytes: 16_000_000,
                time: Duration::from_secs(1),
            }),
            witness: None,
            policy: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("at_once", &self.at_once)
            .field("transfers_at_once", &self.transfers_at_once)
            .field("deadline", &self.deadline)
            .field("jitter", &self.jitter)
            .field("patience", &self.patience)
            .field("round_trips", &self.round_trips)
            .field("transfer", &self.transfer)
            .finish_non_exhaustive()
    }
}

/// What came of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<K> {
    /// Which one.
    pub key: K,
    /// What its probe says.
    pub verdict: Verdict,
}

/// Asks every server of `targets` whether it answers, and measures the way to it. `key` comes back
/// with the outcome. Must be called inside a tokio runtime.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use warren::mesh::probe::{Miss, Verdict};
/// use warren::service::probe::{Settings, probe};
///
/// // Nothing listens on a port that was just given back.
/// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// let mut probing = probe([("row 1", free.into())], Settings::default());
/// while let Some(outcome) = probing.next().await {
///     assert_eq!(outcome.key, "row 1");
///     assert_eq!(outcome.verdict, Verdict::Missed(Miss::Refused));
/// }
/// # Ok(()) }
/// ```
pub fn probe<K>(
    targets: impl IntoIterator<Item = (K, HostPort)>,
    settings: Settings,
) -> Probing<K> {
    let online = Online::new(settings.witness.clone());
    Probing {
        waiting: targets.into_iter().collect(),
        reached: VecDeque::new(),
        asking: JoinSet::new(),
        moving: JoinSet::new(),
        keys: HashMap::new(),
        job: Arc::new(Job {
            deadline: clock::deadline(settings.deadline),
            online,
            settings,
        }),
    }
}

/// A probe of many servers that goes on. Dropping it ends it.
pub struct Probing<K> {
    waiting: VecDeque<(K, HostPort)>,
    reached: VecDeque<(K, Reached)>,
    asking: JoinSet<Result<Reached, Verdict>>,
    moving: JoinSet<Found>,
    keys: HashMap<Id, K>,
    job: Arc<Job>,
}

/// What the tasks share.
struct Job {
    settings: Settings,
    deadline: Instant,
    online: Online,
}

/// A server that answered.
struct Reached {
    target: HostPort,
    addr: SocketAddr,
    round_trip: Option<RoundTrip>,
}

impl<K> Probing<K> {
    /// The next outcome, in the order in which they come; `None` when every server was reported.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Outcome<K>> {
        loop {
            if clock::instant() >= self.job.deadline
                && let Some((key, verdict)) = self.too_late()
            {
                return Some(Outcome { key, verdict });
            }
            self.start();
            let (id, verdict) = tokio::select! {
                Some(asked) = self.asking.join_next_with_id() => match asked {
                    Ok((id, Ok(reached))) => match self.job.settings.transfer {
                        Some(_) => {
                            if let Some(key) = self.keys.remove(&id) {
                                self.reached.push_back((key, reached));
                            }
                            continue;
                        }
                        None => (id, reached.without_transfer(&Unmeasured::NotAsked)),
                    },
                    Ok((id, Err(verdict))) => (id, verdict),
                    Err(broken) => (broken.id(), undecided(&broken)),
                },
                Some(moved) = self.moving.join_next_with_id() => match moved {
                    Ok((id, found)) => (id, Verdict::Answered(found)),
                    Err(broken) => (broken.id(), undecided(&broken)),
                },
                else => return None,
            };
            if let Some(key) = self.keys.remove(&id) {
                return Some(Outcome { key, verdict });
            }
        }
    }

    /// One server more, before those that wait. The deadline stays.
    pub fn add(&mut self, key: K, target: HostPort) {
        self.waiting.push_front((key, target));
    }

    /// How many servers were not reported yet.
    pub fn left(&self) -> usize {
        self.waiting.len() + self.reached.len() + self.keys.len()
    }

    /// The outcomes as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Outcome<K>> {
        stream::unfold(self, async |mut probing| {
            let outcome = probing.next().await?;
            Some((outcome, probing))
        })
    }

    /// One of those that had no turn.
    fn too_late(&mut self) -> Option<(K, Verdict)> {
        if let Some((key, reached)) = self.reached.pop_front() {
            return Some((key, reached.without_transfer(&Unmeasured::OutOfTime)));
        }
        let (key, _) = self.waiting.pop_front()?;
        Some((key, Verdict::Undecided(Undecided::OutOfTime)))
    }

    /// Begins with as many as may be under way.
    fn start(&mut self) {
        let settings = &self.job.settings;
        while self.moving.len() < settings.transfers_at_once.max(1)
            && let Some((key, reached)) = self.reached.pop_front()
        {
            let task = self.moving.spawn(transfer(Arc::clone(&self.job), reached));
            self.keys.insert(task.id(), key);
        }
        while self.asking.len() < settings.at_once.max(1)
            && let Some((key, target)) = self.waiting.pop_front()
        {
            let task = self.asking.spawn(ask(Arc::clone(&self.job), target));
            self.keys.insert(task.id(), key);
        }
    }
}

impl<K> fmt::Debug for Probing<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probing({} left)", self.left())
    }
}

impl Reached {
    fn without_transfer(self, why: &Unmeasured) -> Verdict {
        Verdict::Answered(Found {
            round_trip: self.round_trip,
            download: Err(why.clone()),
            upload: Err(why.clone()),
        })
    }
}

/// A task that panicked says nothing of its server.
fn undecided(broken: &tokio::task::JoinError) -> Verdict {
    tracing::error!(%broken, "a probe broke off");
    Verdict::Undecided(Undecided::NoWay(broken.to_string()))
}

/// Finds out whether a server answers.
async fn ask(job: Arc<Job>, target: HostPort) -> Result<Reached, Verdict> {
    let asking = async {
        sleep(job.settings.jitter.mul_f64(rand::random())).await;
        // Set as soon as it is known: whoever is silent later is judged by it.
        let (tell, addr) = watch::channel(None);
        match Box::pin(http::greet(&target, &job.settings, &tell)).await {
            Ok(round_trip) => {
                let addr = (*addr.borrow()).ok_or(Undecided::Offline);
                let addr = addr.map_err(Verdict::Undecided)?;
                job.online.heard(addr);
                Ok(Reached {
                    target,
                    addr,
                    round_trip,
                })
            }
            Err(trouble) => {
                let addr = *addr.borrow();
                Err(job.judge(trouble, addr).await)
            }
        }
    };
    let asked = timeout_at(job.deadline, asking).await;
    asked.unwrap_or(Err(Verdict::Undecided(Undecided::OutOfTime)))
}

impl Job {
    async fn judge(&self, trouble: Trouble, addr: Option<SocketAddr>) -> Verdict {
        let miss = match trouble {
            Trouble::Undecided(why) => return Verdict::Undecided(why),
            Trouble::Miss(miss) => miss,
        };
        // A name is resolved by somebody out there.
        let reach = addr.map_or(Reach::Far, |addr| self.online.reach(addr.ip()));
        let verdict = judge(miss.clone(), reach, false);
        match (verdict, addr) {
            (Verdict::Undecided(_), _) => {
                let online = self.online.confirm(reach).await;
                judge(miss, reach, online)
            }
            (verdict, Some(addr)) => {
                // It said something, if only no.
                self.online.heard(addr);
                verdict
            }
            (verdict, None) => verdict,
        }
    }
}

/// Measures both ways at a server that answers.
async fn transfer(job: Arc<Job>, reached: Reached) -> Found {
    let Some(limits) = job.settings.transfer else {
        return Found {
            round_trip: reached.round_trip,
            download: Err(Unmeasured::NotAsked),
            upload: Err(Unmeasured::NotAsked),
        };
    };
    let patience = job.settings.patience;
    let at = http::At {
        target: &reached.target,
        addr: reached.addr,
        patience,
    };
    let least = reached.round_trip.map(|trip| trip.min).unwrap_or_default();
    let late = |_| Err(Unmeasured::OutOfTime);
    let download = timeout_at(job.deadline, Box::pin(http::download(at, limits))).await;
    let upload = timeout_at(job.deadline, Box::pin(http::upload(at, limits, least))).await;
    Found {
        round_trip: reached.round_trip,
        download: download.unwrap_or_else(late),
        upload: upload.unwrap_or_else(late),
    }
}
