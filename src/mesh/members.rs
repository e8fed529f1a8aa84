//! What this node knows of each other node, and when to dial it.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::addr::HostPort;
use super::alive::{Alive, LifeState};
use super::id::NodeId;
use super::name::Name;
use super::records::{MAX_ADDRESSES, NodeRecord};
use super::suspicion::{MAX_SUSPICIONS, Suspicion};

/// First pause after a failed dial.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between dials of a node that does not answer: a partition that heals is noticed
/// within this by the smallest network.
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// ... and while this node has no link at all.
const RETRY_ALONE: Duration = Duration::from_secs(2);
/// After this many failures, an hour or so, the pause is [`RETRY_GIVEN_UP`].
const GIVEN_UP: u32 = 720;
/// Pause between dials of a node that is gone for good, as it seems.
const RETRY_GIVEN_UP: Duration = Duration::from_secs(60);
/// Of two nodes that learn of each other at once, the one with the greater id waits this long,
/// so that most pairs make one connection; it dials all the same if nothing came, because the
/// path may be open in one direction only.
const COURTESY: Duration = Duration::from_millis(400);

/// Number of a link, given by the driver; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A node remembered from an earlier start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who.
    pub id: NodeId,
    /// Name it had.
    pub name: Option<Name>,
    /// Where it was.
    pub addresses: Vec<SocketAddr>,
    /// When bytes last came from it, Unix milliseconds.
    pub last_seen_ms: u64,
    /// Its boot then; its signs of life with a lower one are void.
    pub boot: u64,
    /// `HOST:PORT`s its id was learnt at: dials there are pinned to it from now on.
    pub learnt_at: Vec<HostPort>,
}

/// Pauses between dials of one target.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// A dial is under way.
    pub dialling: bool,
    not_before: Duration,
    failed_at: Option<Duration>,
}

impl Backoff {
    /// Whether a dial may start.
    pub fn due(&self, now: Duration) -> bool {
        !self.dialling && now >= self.not_before
    }

    /// When a dial may start, if none is under way.
    pub fn due_at(&self) -> Option<Duration> {
        (!self.dialling).then_some(self.not_before)
    }

    /// A dial failed: doubles the pause, ±25 % so that nodes do not dial in step. Who is `alone`,
    /// without any link, has nothing better to do.
    pub fn failed(&mut self, now: Duration, alone: bool, rng: &mut impl Rng) {
        self.dialling = false;
        let longest = match (self.failures < GIVEN_UP, alone) {
            (true, false) => RETRY_LONGEST,
            (true, true) => RETRY_ALONE,
            (false, _) => RETRY_GIVEN_UP,
        };
        let pause = RETRY_FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.not_before = now + pause.mul_f64(rng.random_range(0.75..1.25));
    }

    /// There is a reason to hope: dial at once, with short pauses again.
    pub fn hope(&mut self, now: Duration) {
        self.failures = 0;
        self.failed_at = None;
        self.not_before = self.not_before.min(now);
    }

    /// Dial no earlier than `at`.
    pub fn wait_until(&mut self, at: Duration) {
        self.not_before = self.not_before.max(at);
    }

    /// Whether a dial failed less than `span` before `now`.
    pub fn failed_within(&self, span: Duration, now: Duration) -> bool {
        self.failed_at
            .is_some_and(|at| now.saturating_sub(at) < span)
    }

    /// Dials that failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// One other node.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// Its newest sign of life.
    pub alive: Option<Alive>,
    /// Highest boot seen in an earlier start of this node: signs of life below it are replays.
    pub min_boot: u64,
    /// What it says of itself in its current boot.
    pub record: Option<NodeRecord>,
    /// Name under which it was first seen; kept when it is offline (C24).
    pub name: Option<Name>,
    /// Where it may be dialled, best first.
    pub addresses: Vec<SocketAddr>,
    /// `HOST:PORT`s it was given as, resolved by the dialler.
    pub hosts: Vec<HostPort>,
    /// Links that are up, oldest first.
    pub links: Vec<LinkId>,
    /// When bytes last came from it, Unix milliseconds; 0 for never.
    pub last_seen_ms: u64,
    /// When to dial.
    pub backoff: Backoff,
    /// What others, or this node, say against its newest sign of life: of at most
    /// [`MAX_SUSPICIONS`] accusers, the least ids first.
    pub suspicions: Vec<Suspicion>,
    /// It did not refute them in time.
    pub down: bool,
    /// Whether it was last announced as online.
    pub shown: bool,
    /// Its last link ended in silence.
    pub fell_silent: bool,
    /// The sign of life against which this node spoke up: (boot, incarnation). It does so once.
    pub accused: Option<(u64, u32)>,
    /// While it was not shown, an accuser that is ignored spoke against it: it is shown later.
    pub doubted: bool,
    /// The boot in which a dial from here failed and was held against it, and no link came since.
    pub unreached: Option<u64>,
}

impl Member {
    /// A node of which only the id is known.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            alive: None,
            min_boot: 0,
            record: None,
            name: None,
            addresses: Vec::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            last_seen_ms: 0,
            backoff: Backoff::default(),
            suspicions: Vec::new(),
            down: false,
            shown: false,
            fell_silent: false,
            accused: None,
            doubted: false,
            unreached: None,
        }
    }

    /// Its current boot as far as known; 0 while unknown.
    pub fn boot(&self) -> u64 {
        let alive = self.alive.as_ref();
        alive.map_or(self.min_boot, |alive| alive.boot)
    }

    /// Boot and incarnation of its newest sign of life; `None` while none is known.
    pub fn last_word(&self) -> Option<(u64, u32)> {
        let alive = self.alive.as_ref();
        alive.map(|alive| (alive.boot, alive.incarnation))
    }

    /// Whether it said that it left, in its current boot.
    pub fn has_left(&self) -> bool {
        let alive = self.alive.as_ref();
        alive.is_some_and(|alive| alive.state == LifeState::Leave)
    }

    /// Whether it is there as far as anybody knows: it has said so, and nobody's doubt has stood.
    pub fn stands(&self) -> bool {
        let says_so = |alive: &Alive| alive.state == LifeState::Alive;
        self.alive.as_ref().is_some_and(says_so) && !self.down
    }

    /// Whether another word of `accuser` against its present sign of life would be kept.
    pub fn takes_suspicion_of(&self, accuser: &NodeId) -> bool {
        let known = self.suspicions.iter().any(|s| s.accuser == *accuser);
        let room = self.suspicions.len() < MAX_SUSPICIONS;
        !known && (room || self.suspicions.last().is_some_and(|s| *accuser < s.accuser))
    }

    /// Keeps a suspicion; gives the one it displaces.
    pub fn suspect(&mut self, suspicion: Suspicion) -> Option<Suspicion> {
        let at = self
            .suspicions
            .partition_point(|s| s.accuser < suspicion.accuser);
        self.suspicions.insert(at, suspicion);
        match self.suspicions.len() > MAX_SUSPICIONS {
            true => self.suspicions.pop(),
            false => None,
        }
    }

    /// Whether it could be dialled: it has not left, and some address is known.
    pub fn is_dialable(&self) -> bool {
        !self.has_left() && (!self.addresses.is_empty() || !self.hosts.is_empty())
    }

    /// Where to dial, numeric addresses first.
    pub fn targets(&self) -> Vec<HostPort> {
        let numeric = self.addresses.iter().map(|addr| HostPort::from(*addr));
        let mut all: Vec<HostPort> = numeric.collect();
        for host in &self.hosts {
            if !all.contains(host) {
                all.push(host.clone());
            }
        }
        all
    }

    /// Puts `address` first: it worked.
    pub fn prefer(&mut self, address: SocketAddr) {
        self.addresses.retain(|known| *known != address);
        self.addresses.insert(0, address);
        self.addresses.truncate(MAX_ADDRESSES);
    }

    /// Adds addresses the node says it has; true if any is new. New ones stand behind the one
    /// that worked and push the oldest out: a node may get another port at every start.
    pub fn learn(&mut self, addresses: &[SocketAddr]) -> bool {
        let mut news = Vec::new();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            if !self.addresses.contains(address) && !news.contains(address) {
                news.push(*address);
            }
        }
        let is_news = !news.is_empty();
        let behind_first = self.addresses.len().min(1);
        self.addresses.splice(behind_first..behind_first, news);
        self.addresses.truncate(MAX_ADDRESSES);
        is_news
    }

    /// Lets the node with the smaller id dial first.
    pub fn be_courteous(&mut self, me: NodeId, now: Duration) {
        if me > self.id {
            self.backoff.wait_until(now + COURTESY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn pauses_grow_to_a_limit_and_hope_resets_them() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(backoff.due(now));
            backoff.dialling = true;
            backoff.failed(now, false, &mut rng);
            let next = backoff.due_at().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses[0] < Duration::from_millis(320) && pauses[9] > RETRY_LONGEST / 2);
        assert!(pauses.iter().all(|p| *p <= RETRY_LONGEST.mul_f64(1.25)));
        backoff.failed(now, false, &mut rng);
        backoff.hope(now);
        assert!(backoff.due(now));
    }

    #[test]
    fn an_address_that_worked_is_tried_first() {
        let id = crate::mesh::id::Identity::from_seed(&[1; 32]).id();
        let mut member = Member::new(id);
        let (a, b) = (
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        );
        assert!(member.learn(&[a, b]));
        assert!(!member.learn(&[a]));
        member.prefer(b);
        assert_eq!(member.addresses, [b, a]);
    }

    #[test]
    fn a_new_address_is_learnt_however_many_old_ones_are_known() {
        let id = crate::mesh::id::Identity::from_seed(&[1; 32]).id();
        let mut member = Member::new(id);
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        member.prefer(at(1));
        for port in 2..40 {
            assert!(member.learn(&[at(port), at(port)]));
            assert_eq!(member.addresses[..2], [at(1), at(port)]);
            assert!(member.addresses.len() <= MAX_ADDRESSES);
        }
    }
}
