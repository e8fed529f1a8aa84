//! The one state machine that takes every control-plane decision.
//!
//! Call [`Brain::handle`] with what happened, [`Brain::handle_timeout`] when
//! [`Brain::poll_timeout`] says so, and after either take every [`Effect`] from
//! [`Brain::poll_effect`] and carry it out in order. [`Brain::take_view`] gives the new view of
//! the mesh if it changed. Nothing here touches a socket, a disk, a clock or a global generator.
//!
//! # Membership
//!
//! Every node knows every member, and keeps links to a handful: its neighbours on the
//! [`Rings`], all members while they are seven or fewer, and one drawn at random
//! that changes every two minutes. Links to others are dialled when work needs them and closed
//! when it is done.
//!
//! ```text
//! P ──ping──▶ X      0.9 s after the last byte, then every 0.2 s; its ACK is the answer
//! P ──suspicion(X, boot, incarnation)──▶ everybody      after 1.7 s, if P hears others meanwhile
//! X ──alive(boot, incarnation + 1)──▶ everybody         if X lives, however the word reached it
//! everybody: X is down      1.3 s after the first suspicion, 0.8 s after the second
//! ```
//!
//! Suspicions are signed and void once the subject has signed anything newer (C18), so nobody can
//! silence a node that some path still reaches: the flood is the indirect probe. Bytes that this
//! node itself heard from the subject in the last 1.5 s outweigh what others say. A node that
//! hears nobody suspects itself: everybody is shown offline until it has caught up again, and it
//! tells nobody of members that it alone believes in before it has dialled them (`unsure`). A start
//! or a return that others tell of is shown half a second or a second later, because what is said
//! against it may come a moment later than it does.
//!
//! After a cut the members of each side are down for the other, and dialled in turns. Whoever
//! reaches one reconciles with it at once and takes it for its random neighbour: what each side
//! holds against the other is on its way to those concerned, and their refutations and all that
//! was written meanwhile are on the way back, before the rings have closed again.
//!
//! What a member signed of itself, and what is said against it, is reconciled together with the
//! ledger: a departure is told wherever the sign of life before it was.
//!
//! # Why not another protocol
//!
//! 1,000 nodes 50 ms apart at 1 % loss, in virtual time; commands in the README.
//!
//! | | idle, sent | entry on all, median | killed, gone: median, worst |
//! |---|---:|---:|---:|
//! | SWIM (foca), LAN settings | 0.4 KB/s | 1.1 s | 14.5 s, 20.2 s |
//! | SWIM (foca), tuned for speed | 0.8 KB/s | 0.3 s | 3.1 s, 6.4 s |
//! | HyParView, Plumtree (iroh-gossip) and monitors | 0.8 KB/s | 1.0 s | 3.5 s, 3.9 s |
//! | this | 0.7 KB/s | 0.3 s | 2.1 s, 2.4 s |
//!
//! SWIM finds a death when chance probes it, hence its tail; its updates are unsigned, and signing
//! them multiplies their size (C19). A tree of eager links sends each entry once, and takes longer.
//! HyParView samples peers where nobody knows everybody; here the signed membership is known to
//! all, so that the neighbours can be computed and nobody can talk a node into others.

mod boundary;
mod detector;
mod dials;
mod floors;
mod life;
mod links;
mod observers;
mod overlay;
mod reach;
mod repair;
mod sessions;
mod spread;
mod unsure;
mod views;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;

use super::addr::HostPort;
use super::alive::{Alive, LifeState};
use super::entry::{Class, Draft, Entry, EntryError, ItemId, NetworkId};
use super::floor::Floor;
use super::id::{Identity, NodeId};
use super::ledger::{Ledger, Merge, Refusal};
use super::members::{Backoff, KnownPeer, LinkId, Member};
use super::name::Bucket;
use super::observed::Observed;
use super::records::{NodeRecord, ServiceRecord};
use super::rings::Rings;
use super::time::Now;
use super::view::View;
use super::wire::Frame;

pub use boundary::{Dialled, Effect, Input, Save, Setup, Timing};
pub use floors::Compacted;
pub use links::LinkUp;
pub use reach::Reach;

/// Most members kept. A token holder can mint identities without end; beyond this, nodes that
/// are only heard of are ignored.
pub const MAX_MEMBERS: usize = 20_000;

/// A `--connect HOST:PORT` whose node is not known yet.
struct Unpinned {
    at: HostPort,
    backoff: Backoff,
    id: Option<NodeId>,
}

/// The state machine. See the module for the order of calls.
pub struct Brain {
    identity: Identity,
    me: NodeId,
    network: NetworkId,
    boot: u64,
    alive: Alive,
    record: NodeRecord,
    live_version: u64,
    timing: Timing,
    ledger: Ledger,
    members: BTreeMap<NodeId, Member>,
    links: BTreeMap<LinkId, links::Link>,
    overlay: overlay::Overlay,
    detector: detector::Detector,
    sessions: sessions::Sessions,
    /// Whose statement an id in reconciliation names: a sign of life or a suspicion of the node.
    statements: HashMap<ItemId, NodeId>,
    news: spread::News,
    observers: observers::Observers,
    /// Since when it has had no link, the last one having been let go rather than lost.
    alone_since: Option<Duration>,
    /// Whether a reconciliation has ended since this node last had no link: until then what it
    /// knows of nodes it has no link to may be old.
    caught_up: bool,
    unsure: unsure::Unsure,
    unpinned: Vec<Unpinned>,
    /// Members that are being dialled, and what each had last said when its dial began.
    dialling: BTreeMap<NodeId, Option<(u64, u32)>>,
    /// When one of the absent is dialled next; `None` while nobody is absent.
    next_retry: Option<Duration>,
    observed: Observed,
    own_addresses: Vec<SocketAddr>,
    silence_window: Duration,
    silent_since: Option<Duration>,
    next_search: Duration,
    effects: VecDeque<Effect>,
    view: View,
    dirty: views::Dirty,
    refused: BTreeMap<&'static str, u64>,
    expected_wake: Option<Duration>,
    last_call: Duration,
    cloned: bool,
}

impl Brain {
    /// A brain that knows `peers`, `floors` and `entries` from its store. Its first effects are
    /// the dials.
    pub fn new(
        now: Now,
        setup: Setup,
        peers: Vec<KnownPeer>,
        floors: Vec<Floor>,
        entries: Vec<Entry>,
    ) -> Self {
        let me = setup.identity.id();
        let (network, boot) = (setup.network, setup.boot);
        let alive = Alive::sign(network, &setup.identity, boot, 0, LifeState::Alive);
        let epoch = Duration::from_secs(u64::from(setup.crypto_interval));
        let mut brain = Self {
            me,
            network,
            boot,
            alive,
            record: setup.record,
            live_version: 0,
            timing: setup.timing,
            ledger: Ledger::new(network, me),
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            overlay: overlay::Overlay::new(Rings::new(network)),
            detector: detector::Detector::default(),
            sessions: sessions::Sessions::default(),
            statements: HashMap::new(),
            news: spread::News::default(),
            observers: observers::Observers::default(),
            alone_since: None,
            caught_up: false,
            unsure: unsure::Unsure::default(),
            unpinned: Vec::new(),
            dialling: BTreeMap::new(),
            next_retry: None,
            observed: Observed::default(),
            own_addresses: Vec::new(),
            silence_window: (2 * epoch).clamp(Duration::from_secs(5), Duration::from_secs(30)),
            silent_since: None,
            next_search: Duration::ZERO,
            effects: VecDeque::new(),
            view: View::new(me),
            dirty: views::Dirty::default(),
            refused: BTreeMap::new(),
            expected_wake: None,
            last_call: now.mono,
            cloned: false,
            identity: setup.identity,
        };
        brain.ledger.set_boot(me, brain.boot);
        let own_life = brain.alive.id(network);
        brain.state(now, own_life, me);
        for floor in floors {
            if !floor.verify(brain.network) || !brain.ledger.load_floor(floor) {
                brain.count("stored_floor");
            }
        }
        for entry in entries {
            if entry.verify(brain.network).is_err() || !brain.ledger.load(entry) {
                brain.count("stored_entry");
            }
        }
        for peer in peers {
            brain.remember(peer);
        }
        for peer in setup.connect {
            brain.add_target(peer);
        }
        brain.dirty.node(me);
        brain.publish_record(now);
        brain.news.clear();
        brain
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, rng: &mut impl Rng, input: Input) {
        self.forgive_own_sleep(now);
        match input {
            Input::LinkUp(up) => self.link_up(now, rng, &up),
            Input::ObserverUp { link } => self.observer_up(now, link),
            Input::LinkDown { link, .. } if self.observers.remove(link) => {}
            Input::Frame { link, .. } if self.observers.contains(link) => {
                self.refuse_word_of_observer(link);
            }
            Input::LinkDown {
                link,
                reason,
                let_go,
            } => {
                self.link_down(now, link, &reason);
                self.alone(now, let_go);
            }
            Input::Heard { link, rtt, since } => {
                self.heard(since.min(now.mono), link, Some(rtt));
            }
            Input::Frame { link, frame } => {
                self.heard(now.mono, link, None);
                self.frame(now, link, frame);
            }
            Input::DialFailed {
                dialled,
                silent,
                reason,
            } => {
                self.dial_failed(now, rng, &dialled, silent, &reason);
            }
        }
        self.settle(now, rng);
    }

    /// Does what is due at `now`: pings, verdicts, dials.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut impl Rng) {
        self.forgive_own_sleep(now);
        self.check_links(now);
        self.check_suspected(now);
        self.refute_if_due(now);
        self.check_sessions(now);
        self.check_fetches(now);
        self.check_alone(now);
        self.check_observers(now);
        self.check_renewals(now);
        self.draw(now, rng);
        self.check_missing(now);
        self.trim(now);
        self.search_clock(now);
        self.settle(now, rng);
    }

    /// What follows from whatever changed, once per call: who should be linked, what should be
    /// asked, and what should be told.
    fn settle(&mut self, now: Now, rng: &mut impl Rng) {
        self.update_neighbours(now);
        self.open_next_session(now, rng);
        self.start_dials(now, rng);
        self.tell_news();
        self.show_observers(now);
    }

    /// When to call [`Brain::handle_timeout`] next, monotonic; `None` while nothing is due.
    pub fn poll_timeout(&mut self) -> Option<Duration> {
        let at = [
            self.next_link_check(),
            self.next_verdict(),
            self.next_dial(),
            self.next_session_check(),
            self.next_fetch(),
            self.next_observer(),
            self.alone_since
                .map(|since| since + self.timing.silence_is_death),
            self.next_overlay_check(),
        ];
        let at = at.into_iter().flatten().min();
        self.expected_wake = at;
        at
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// This node's id.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// This node's newest sign of life, as its Hello carries it.
    pub fn alive(&self) -> Alive {
        self.alive.clone()
    }

    /// The ledger, for reading.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a live entry counts: its author answers, or is this node.
    pub fn is_current(&self, entry: &Entry) -> bool {
        let author = entry.slot.author;
        entry.slot.class == Class::Durable || author == self.me || self.is_online(&author)
    }

    /// Whether a node can be given work: it is there as far as anybody knows, it has not left,
    /// and this node is in a position to know.
    pub fn is_online(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(|member| {
            let waits = self.detector.waits_for(id) || self.unsure.contains(id);
            let hearsay = self.caught_up && !waits;
            member.stands() && (hearsay || !member.links.is_empty())
        })
    }

    /// Whether what this node knows of nodes it has no link to is fresh: a reconciliation has
    /// ended since it last had no link at all.
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }

    /// Signs a durable entry of this node; nothing is changed until [`Brain::apply_own`], so that
    /// the store can make it durable first.
    ///
    /// # Errors
    /// Limits of entries, or what the ledger would refuse.
    pub fn draft(
        &mut self,
        now: Now,
        bucket: Bucket,
        key: String,
        value: Option<Vec<u8>>,
    ) -> Result<Entry, DraftError> {
        let draft = Draft {
            bucket,
            key,
            class: Class::Durable,
            version: self.ledger.next_version(now),
            boot: 0,
            deleted: value.is_none(),
            value: value.unwrap_or_default(),
        };
        let entry = Entry::sign(self.network, &self.identity, draft)?;
        match self.ledger.check(&entry, now) {
            Merge::Refused(refusal) => Err(DraftError::Refused(refusal)),
            Merge::NoRoom { .. } => Err(DraftError::Refused(Refusal::AuthorFull)),
            // What this node was told is durable is not given up for its own newest write.
            Merge::Taken { evicted } if evicted.iter().any(|slot| slot.author == self.me) => {
                Err(DraftError::Refused(Refusal::AuthorFull))
            }
            Merge::Taken { .. } | Merge::Known | Merge::Older => Ok(entry),
        }
    }

    /// Whether an entry from outside keeps the limits and is signed by its author in this network.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self, entry: &Entry) -> Result<(), EntryError> {
        entry.verify(self.network)
    }

    /// Merges and spreads an entry that the store has made durable.
    pub fn apply_own(&mut self, now: Now, entry: Entry) {
        self.take_entry(now, None, entry);
        self.tell_news();
    }

    /// Announces, changes or withdraws one service of this node.
    pub fn set_service(&mut self, now: Now, bucket: Bucket, record: Option<&ServiceRecord>) {
        let value = record.and_then(|record| serde_json::to_vec(record).ok());
        self.set_live(now, bucket, self.me.short(), value);
        self.tell_news();
    }

    /// Asks others to stop, or again to start, choosing this node.
    pub fn set_draining(&mut self, now: Now, draining: bool) {
        self.record.draining = draining;
        self.publish_record(now);
        self.tell_news();
    }

    /// Says at which addresses this node can be dialled.
    pub fn set_addresses(&mut self, now: Now, addresses: Vec<SocketAddr>) {
        if self.record.addresses != addresses {
            self.record.addresses = addresses;
            self.publish_record(now);
            self.tell_news();
        }
    }

    /// Announces the departure on every link and dials nobody any more. Links stay until the
    /// driver closes them.
    pub fn leave(&mut self, now: Now) {
        self.set_own_alive(now, LifeState::Leave);
        self.news.clear();
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.send(link, Frame::Alive(vec![self.alive.clone()]));
        }
    }

    /// Counted refusals, by stable reason.
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    fn count(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn send(&mut self, link: LinkId, frame: Frame) {
        self.effects.push_back(Effect::Send { link, frame });
    }
}

/// Why a write of this node was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Key or value outside the limits.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The ledger is full for this author or in all.
    #[error(transparent)]
    Refused(Refusal),
}

#[cfg(test)]
mod tests;
