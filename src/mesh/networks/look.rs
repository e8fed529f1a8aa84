//! What a look at a network changes in its row, and when the next one is due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, fit};
use super::{MAX_ERROR_BYTES, Network, State};

/// Most looks kept of one network.
const MAX_LOOKS: usize = 32;
/// What is said of a look that found nodes, and no worker.
const NO_WORKER: &str = "no worker is online";

/// How looks change rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A network is hidden when more looks in a row than this saw no worker. 0 means
    /// [`Policy::DEFAULT_THRESHOLD`], as LocalAI's `--connection-error-threshold` does.
    pub threshold: u32,
    /// How long a network stays hidden before it is removed. 0 removes it where it would be
    /// hidden, as LocalAI does.
    pub delete_after: Duration,
    /// From one look to the next at a network whose workers are online.
    pub interval: Duration,
    /// Longest time to the next look: each miss doubles it up to here. Not below `interval`.
    pub max_interval: Duration,
}

impl Policy {
    /// LocalAI's `--connection-error-threshold`.
    pub const DEFAULT_THRESHOLD: u32 = 3;

    /// Whether so many failures are too many.
    pub fn is_over(&self, failures: u32) -> bool {
        let threshold = match self.threshold {
            0 => Self::DEFAULT_THRESHOLD,
            threshold => threshold,
        };
        failures > threshold
    }

    /// Milliseconds to the next look after so many failures, a tenth more or less as `random`
    /// says, so that networks that came together are not looked at together for ever.
    fn pause_ms(&self, failures: u32, random: u32) -> u64 {
        let most = millis(self.max_interval.max(self.interval)).max(1);
        let factor = 1_u64.checked_shl(failures.min(32)).unwrap_or(u64::MAX);
        let pause = millis(self.interval).max(1).saturating_mul(factor);
        let permille = 900 + u64::from(random % 201);
        (pause.min(most).saturating_mul(permille) / 1000).max(1)
    }

    /// No look is further away than this, unless the clock was put back.
    fn longest_ms(&self) -> u64 {
        millis(self.max_interval.max(self.interval)).saturating_mul(2)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            threshold: Self::DEFAULT_THRESHOLD,
            delete_after: Duration::from_secs(7 * 24 * 3600),
            interval: Duration::from_secs(2 * 60),
            max_interval: Duration::from_secs(3600),
        }
    }
}

/// What one look at a network found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Seen {
        /// Workers that are online, as its members say.
        clusters: Vec<Cluster>,
        /// Nodes that are online, workers or not.
        nodes: u32,
    },
    /// Nobody answered.
    Silent {
        /// In words.
        reason: String,
    },
    /// It could not be looked at: its token, its addresses or what it said are not usable.
    Failed {
        /// In words.
        reason: String,
    },
    /// The explorer itself was offline: this says nothing about the network.
    Offline,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A worker is online.
    Active,
    /// None is. The row stays as visible as it was.
    Missed,
    /// None is, once too often: it is shown no more.
    Hidden,
    /// None is, and it was hidden for long enough: the row is to be removed.
    Gone,
    /// The explorer was offline: only the schedule changed.
    Excused,
}

/// One look, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What it found.
    pub saw: Saw,
    /// Nodes online.
    pub nodes: u32,
    /// Workers online.
    pub workers: u32,
}

/// What a look found. Stored by number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Saw {
    /// At least one worker.
    Workers,
    /// Nodes, and no worker.
    Nodes,
    /// Nobody.
    Nobody,
    /// It could not look.
    Failure,
}

impl Saw {
    /// `workers`, `nodes`, `nobody` or `failure`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Nodes => "nodes",
            Self::Nobody => "nobody",
            Self::Failure => "failure",
        }
    }
}

/// The last looks at a network, oldest first; a few dozen at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<Look>);

impl History {
    /// Of looks that were kept before; the last ones, if they are too many.
    pub fn new(mut looks: Vec<Look>) -> Self {
        let extra = looks.len().saturating_sub(MAX_LOOKS);
        looks.drain(..extra);
        Self(looks)
    }

    /// The looks, oldest first.
    pub fn looks(&self) -> &[Look] {
        &self.0
    }

    /// What they take in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len() * size_of::<Look>()
    }

    fn push(&mut self, look: Look) {
        if self.0.len() >= MAX_LOOKS {
            self.0.remove(0);
        }
        self.0.push(look);
    }
}

impl Network {
    /// Whether it is to be looked at. A clock that was put back does not delay it for long.
    pub fn is_due(&self, now_ms: u64, policy: &Policy) -> bool {
        let next = self.next_look_ms;
        next <= now_ms || next > now_ms.saturating_add(policy.longest_ms())
    }

    /// Notes what a look found at `now_ms`, keeping at most `room` bytes of clusters, and when the
    /// next is due. `random` spreads the next looks.
    ///
    /// `Failures` has LocalAI's meaning: a look that sees a worker sets it to 0 and replaces the
    /// clusters, any other adds 1 and leaves them.
    pub fn apply(
        &mut self,
        outcome: Outcome,
        now_ms: u64,
        random: u32,
        policy: &Policy,
        room: usize,
    ) -> Change {
        let (saw, nodes, found, error) = match outcome {
            Outcome::Offline => {
                self.next_look_ms = now_ms.saturating_add(policy.pause_ms(0, random));
                return Change::Excused;
            }
            Outcome::Seen { clusters, nodes } => {
                let has_workers = clusters.iter().any(|cluster| !cluster.workers.is_empty());
                match has_workers {
                    true => (Saw::Workers, nodes, clusters, None),
                    false => (Saw::Nodes, nodes, Vec::new(), Some(NO_WORKER.to_owned())),
                }
            }
            Outcome::Silent { reason } => (Saw::Nobody, 0, Vec::new(), Some(reason)),
            Outcome::Failed { reason } => (Saw::Failure, 0, Vec::new(), Some(reason)),
        };
        let counted: usize = found.iter().map(|cluster| cluster.workers.len()).sum();
        let since_last = self.last_look_ms.replace(now_ms);
        let since_last = since_last.map_or(0, |last| now_ms.saturating_sub(last));
        self.history.push(Look {
            at_ms: now_ms,
            saw,
            nodes,
            workers: u32::try_from(counted).unwrap_or(u32::MAX),
        });
        self.last_error = error.map(|text| clipped(text, MAX_ERROR_BYTES));
        if matches!(saw, Saw::Workers | Saw::Nodes) {
            self.nodes = nodes;
            self.first_seen_ms.get_or_insert(now_ms);
            self.last_seen_ms = Some(now_ms);
        }
        let change = match saw {
            Saw::Workers => {
                self.clusters = Some(fit(found, room));
                self.succeed(now_ms)
            }
            Saw::Nodes | Saw::Nobody | Saw::Failure => {
                self.miss(since_last.min(policy.longest_ms()), policy)
            }
        };
        self.next_look_ms = now_ms.saturating_add(policy.pause_ms(self.failures, random));
        change
    }

    fn succeed(&mut self, now_ms: u64) -> Change {
        self.failures = 0;
        self.state = State::Active;
        self.hidden_for_ms = 0;
        self.first_success_ms.get_or_insert(now_ms);
        self.last_success_ms = Some(now_ms);
        Change::Active
    }

    fn miss(&mut self, since_last_ms: u64, policy: &Policy) -> Change {
        self.failures = self.failures.saturating_add(1);
        let over = policy.is_over(self.failures);
        let (change, state) = match self.state {
            State::Hidden => {
                self.hidden_for_ms = self.hidden_for_ms.saturating_add(since_last_ms);
                (Change::Missed, State::Hidden)
            }
            _ if over => (Change::Hidden, State::Hidden),
            State::New => (Change::Missed, State::New),
            State::Active | State::Stale => (Change::Missed, State::Stale),
        };
        self.state = state;
        match state == State::Hidden && self.hidden_for_ms >= millis(policy.delete_after) {
            true => Change::Gone,
            false => change,
        }
    }
}

/// The start of `text` that has at most `max` bytes.
pub(super) fn clipped(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
