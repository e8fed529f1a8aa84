//! Links: which one of two stays, and what is said first.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;

use super::repair::REPAIR_PAUSE;
use super::{Brain, Dialled, Effect, Save, Timing};
use crate::mesh::alive::Alive;
use crate::mesh::close::CloseCode;
use crate::mesh::entry::ItemId;
use crate::mesh::id::NodeId;
use crate::mesh::members::{KnownPeer, LinkId, Member};
use crate::mesh::rate::Rate;
use crate::mesh::sync::Session;
use crate::mesh::time::Now;
use crate::mesh::wire::{Frame, SyncOpen};

/// What one link may send in the long run, and at once: frames, entries and signs of life count
/// one each. The burst covers a first reconciliation of a full ledger (`MAX_ENTRIES`) and every
/// member (`MAX_MEMBERS`); the rate bounds signature checks.
const FRAMES_PER_SECOND: f64 = 2_000.0;
const FRAMES_AT_ONCE: f64 = 100_000.0;
/// Reconciliations one link may open: an answer costs a hash for everything this node holds.
const SESSIONS_PER_SECOND: f64 = 0.2;
const SESSIONS_AT_ONCE: f64 = 3.0;
/// The end that was dialled waits this much longer with its ping, in parts of `ping_after`: both
/// would else ping each other at the same moment, for ever, at twice the traffic.
const ANSWERER_PATIENCE: u32 = 8;
/// Links with one peer: one in use, one that replaces it, and retired ones whose tunnels go on.
/// A member that dials without end holds no more than this of what all members share.
const MAX_LINKS_PER_PEER: usize = 16;

/// A connection whose Hello was checked on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkUp {
    /// Its number.
    pub link: LinkId,
    /// Who is at the other end, proven by TLS.
    pub peer: NodeId,
    /// The peer's sign of life; its signature was checked.
    pub alive: Alive,
    /// What this node dialled for; `None` if the peer dialled.
    pub dialled: Option<Dialled>,
    /// The peer's address.
    pub remote: SocketAddr,
    /// This node's address as the peer sees it.
    pub observed: SocketAddr,
    /// This node had closed the link because the peer was silent, and its connection lived on for
    /// its tunnels. No dial has ended.
    pub again: bool,
}

/// One link that is up.
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) dialled_by_me: bool,
    pub(super) rtt: Option<Duration>,
    /// The peer counts this node among its neighbours.
    pub(super) wanted: bool,
    /// Reconciliation that the peer opened, and since when.
    pub(super) answering: Option<(Session, Duration)>,
    /// One that it opened while this node was busy catching up elsewhere.
    pub(super) deferred: Option<(SyncOpen, Duration)>,
    pub(super) sessions: Rate,
    /// What was last told, so that a sum is told once.
    pub(super) digest_told: Option<u64>,
    /// The peer's sum, and when it told it; kept while it differs from this node's own.
    pub(super) digest_heard: Option<(u64, Duration)>,
    /// When differing sums are reason for another session, and the pause after that one.
    pub(super) next_repair: Duration,
    pub(super) repair_pause: Duration,
    /// Large entries the peer was offered and may ask for, oldest first.
    pub(super) offered: VecDeque<ItemId>,
    pub(super) rate: Rate,
    pub(super) bad_entries: u32,
    pub(super) heard: Duration,
    /// When it was last pinged without an answer since.
    pub(super) asked_at: Option<Duration>,
    pub(super) since: Duration,
    /// When the driver is next asked whether it still needs this link.
    pub(super) trim_at: Option<Duration>,
    boot: u64,
    retired: bool,
}

impl Link {
    fn new(now: Now, up: &LinkUp) -> Self {
        Self {
            peer: up.peer,
            dialled_by_me: up.dialled.is_some(),
            rtt: None,
            wanted: false,
            answering: None,
            deferred: None,
            sessions: Rate::new(SESSIONS_PER_SECOND, SESSIONS_AT_ONCE),
            digest_told: None,
            digest_heard: None,
            next_repair: Duration::ZERO,
            repair_pause: REPAIR_PAUSE,
            offered: VecDeque::new(),
            rate: Rate::new(FRAMES_PER_SECOND, FRAMES_AT_ONCE),
            bad_entries: 0,
            heard: now.mono,
            asked_at: None,
            since: now.mono,
            trim_at: None,
            boot: up.alive.boot,
            retired: false,
        }
    }

    pub(super) fn ping_after(&self, timing: &Timing) -> Duration {
        match self.dialled_by_me {
            true => timing.ping_after,
            false => timing.ping_after + timing.ping_after / ANSWERER_PATIENCE,
        }
    }

    /// From when on this node should dial a link beside this one; `None`: the peer will.
    pub(super) fn renew_at(&self, timing: &Timing) -> Option<Duration> {
        match (self.retired, self.dialled_by_me) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => Some(self.since + timing.redial_after),
            (false, false) => None,
        }
    }
}

impl Brain {
    pub(super) fn link_up(&mut self, now: Now, rng: &mut impl Rng, up: &LinkUp) {
        if let Some(Dialled::Host(at)) = &up.dialled {
            for target in self.unpinned.iter_mut().filter(|target| target.at == *at) {
                target.id = Some(up.peer);
                target.backoff.dialling = false;
            }
        }
        self.dial_ended(up);
        let known_boot = self.members.get(&up.peer).map_or(0, Member::boot);
        if up.alive.boot < known_boot {
            self.refuse_old_boot(now, rng, up);
            return;
        }
        self.close_links_before(now, up.peer, up.alive.boot);
        let links = self.members.get(&up.peer).map(|member| member.links.len());
        if links.is_some_and(|links| links >= MAX_LINKS_PER_PEER) {
            self.count("too_many_links");
            self.effects.push_back(Effect::Close {
                link: up.link,
                code: CloseCode::Duplicate,
            });
            return;
        }
        (self.silent_since, self.alone_since) = (None, None);
        let found = up.dialled.is_some() && self.is_lost(&up.peer);
        self.observed.note(up.peer, up.remote.ip(), up.observed);
        self.note_own_addresses();
        self.links.insert(up.link, Link::new(now, up));
        let member = self
            .members
            .entry(up.peer)
            .or_insert_with(|| Member::new(up.peer));
        member.links.push(up.link);
        (member.fell_silent, member.unreached) = (false, None);
        member.last_seen_ms = now.unix_ms;
        member.backoff.hope(now.mono);
        if let Some(Dialled::Host(at)) = &up.dialled
            && !member.hosts.contains(at)
        {
            member.hosts.push(at.clone());
        }
        if up.dialled.is_some() {
            member.prefer(up.remote);
        }
        self.take_alive(now, Some(up.peer), up.alive.clone());
        self.detector.wait_no_more(&up.peer);
        self.make_sure(&up.peer);
        self.overlay.linked(&up.peer);
        if found {
            self.overlay.found(up.peer);
        }
        self.greet(up, found);
        self.resolve_duplicates(up.peer);
        self.save_peer(up.peer);
        self.place(up.peer);
        self.refresh(up.peer, "its link came up");
        self.consider_trimming(now, up.link);
    }

    /// Only the dial that brought this link is over: one the other way may still be under way.
    fn dial_ended(&mut self, up: &LinkUp) {
        if up.dialled == Some(Dialled::Node(up.peer))
            && !up.again
            && self.dialling.remove(&up.peer).is_some()
            && let Some(member) = self.members.get_mut(&up.peer)
        {
            member.backoff.dialling = false;
        }
    }

    /// First words on a new link: what is said against the peer, so that it can refute it; this
    /// node's live entries (they are few, and they are what a newcomer waits for); and whether
    /// this node wants the link beyond what it was dialled for. A node that has nothing fresh to
    /// go by reconciles with the first peer there is; so does one that has found a peer it had
    /// lost, for whatever was said on the other side of a cut is known to that peer.
    fn greet(&mut self, up: &LinkUp, found: bool) {
        if let Some(doubts) = self.doubts_about(up.peer) {
            self.send(up.link, doubts);
        }
        self.send_entries(up.link, self.ledger.live_of(self.me));
        let near = self.overlay.is_neighbour(&up.peer);
        if near {
            self.send(up.link, Frame::Neighbour(true));
        }
        if found || up.dialled.is_some() && (near || !self.caught_up) {
            self.sessions.want(up.link);
        }
    }

    /// Whether it was there once, and what is said against it has stood.
    fn is_lost(&self, id: &NodeId) -> bool {
        let member = self.members.get(id);
        member.is_some_and(|member| member.down && member.links.is_empty())
    }

    /// Two processes with one key: the older start is told and not let in.
    fn refuse_old_boot(&mut self, now: Now, rng: &mut impl Rng, up: &LinkUp) {
        self.count("old_boot");
        let Some(member) = self.members.get_mut(&up.peer) else {
            return;
        };
        if up.dialled.is_some() {
            member.backoff.failed(now.mono, false, rng);
        }
        let newest = member.alive.clone();
        self.send(up.link, Frame::Alive(newest.into_iter().collect()));
        self.effects.push_back(Effect::Close {
            link: up.link,
            code: CloseCode::OldBoot,
        });
    }

    fn note_own_addresses(&mut self) {
        let agreed = self.observed.agreed();
        if agreed != self.own_addresses {
            self.own_addresses.clone_from(&agreed);
            self.effects.push_back(Effect::OwnAddresses(agreed));
        }
    }

    /// Keeps one of several links to `peer`: the newest of those dialled by the smaller id, else
    /// the newest (security.md §4). Both ends compute the same. Only the node that dialled the
    /// winner retires losers: its own Hello check came last, so both ends have the winner up.
    fn resolve_duplicates(&mut self, peer: NodeId) {
        let Some(best) = self.best_link(peer) else {
            return;
        };
        let winner_is_mine = self.links.get(&best).is_some_and(|link| link.dialled_by_me);
        let Some(member) = self.members.get(&peer) else {
            return;
        };
        for other in member
            .links
            .clone()
            .into_iter()
            .filter(|link| *link != best)
        {
            let Some(link) = self.links.get_mut(&other) else {
                continue;
            };
            if winner_is_mine && !link.retired {
                link.retired = true;
                self.effects.push_back(Effect::Retire { link: other });
            }
        }
    }

    /// The link to `peer` that is used for new work.
    pub fn best_link(&self, peer: NodeId) -> Option<LinkId> {
        let links = &self.members.get(&peer)?.links;
        let smaller_is_me = self.me < peer;
        let rank = |id: &LinkId| {
            let link = self.links.get(id)?;
            Some((
                !link.retired,
                link.dialled_by_me == smaller_is_me,
                link.since,
                *id,
            ))
        };
        links.iter().copied().max_by_key(rank)
    }

    pub(super) fn link_down(&mut self, now: Now, link: LinkId, reason: &str) {
        let Some(gone) = self.links.remove(&link) else {
            return;
        };
        let peer = gone.peer;
        self.end_sessions(link);
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        member.links.retain(|other| *other != link);
        member.last_seen_ms = member.last_seen_ms.max(unix_at(now, gone.heard));
        self.dirty.node(peer);
        if !member.links.is_empty() {
            // What is left may be a link that was given up for the one that is gone.
            self.check_renewals(now);
            return;
        }
        member.backoff.hope(now.mono);
        member.be_courteous(self.me, now.mono);
        self.observed.forget(&peer);
        self.note_own_addresses();
        self.save_peer(peer);
        self.overlay.unlinked(now.mono, &peer);
        self.place(peer);
        self.refresh(peer, reason);
    }

    /// Without any link this node cannot know what became of the others: it suspects itself. A
    /// last link that was let go is missed only when no other has come in its place.
    pub(super) fn alone(&mut self, now: Now, let_go: bool) {
        if !self.links.is_empty() {
            return;
        }
        match let_go {
            true => self.alone_since = Some(now.mono),
            false => {
                self.doubt_everybody();
                self.set_caught_up(false, "this node has lost its last link");
            }
        }
    }

    pub(super) fn check_alone(&mut self, now: Now) {
        let over = |since: Duration| now.mono >= since + self.timing.silence_is_death;
        if self.alone_since.is_some_and(over) {
            self.alone_since = None;
            self.alone(now, false);
        }
    }

    /// Ends what is left of a peer's earlier starts.
    pub(super) fn close_links_before(&mut self, now: Now, peer: NodeId, boot: u64) {
        let links = self
            .links
            .iter()
            .filter(|(_, link)| link.peer == peer && link.boot < boot);
        let links: Vec<LinkId> = links.map(|(id, _)| *id).collect();
        for link in links {
            let code = CloseCode::OldBoot;
            self.effects.push_back(Effect::Close { link, code });
            self.link_down(now, link, "it started anew");
        }
    }

    pub(super) fn save_peer(&mut self, peer: NodeId) {
        let Some(member) = self.members.get(&peer) else {
            return;
        };
        let learnt = self
            .unpinned
            .iter()
            .filter(|target| target.id == Some(peer));
        self.effects.push_back(Effect::Save(Save::Peer(KnownPeer {
            id: peer,
            name: member.name.clone(),
            addresses: member.addresses.clone(),
            last_seen_ms: member.last_seen_ms,
            boot: member.boot(),
            learnt_at: learnt.map(|target| target.at.clone()).collect(),
        })));
    }
}

/// The wall clock at an earlier monotonic moment.
fn unix_at(now: Now, earlier: Duration) -> u64 {
    let ago = now.mono.saturating_sub(earlier).as_millis();
    now.unix_ms
        .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
}
