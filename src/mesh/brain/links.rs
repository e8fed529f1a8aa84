//! Links: which one of two stays, and who is alive.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;

use super::{Brain, Dialled, Effect, MAX_MEMBERS, Save, Timing};
use crate::mesh::close::CloseCode;
use crate::mesh::entry::{Alive, LifeState};
use crate::mesh::event::What;
use crate::mesh::id::NodeId;
use crate::mesh::members::{KnownPeer, LinkId, Member};
use crate::mesh::rate::Rate;
use crate::mesh::sync::Session;
use crate::mesh::time::Now;
use crate::mesh::wire::{Frame, MAX_ALIVE};

/// What one link may send in the long run, and at once: frames, entries and signs of life count
/// one each. The burst covers the greeting of a full mesh (`MAX_MEMBERS`) and a first
/// reconciliation of a full ledger (`MAX_ENTRIES`); the rate bounds signature checks.
const FRAMES_PER_SECOND: f64 = 2_000.0;
const FRAMES_AT_ONCE: f64 = 100_000.0;
/// The end that was dialled waits this much longer with its ping, in parts of `ping_after`: both
/// would else ping each other at the same moment, for ever, at twice the traffic.
const ANSWERER_PATIENCE: u32 = 4;
/// A reconciliation not over by this age of its link is given up: it holds the whole ledger's ids.
const SYNC_LASTS: Duration = Duration::from_secs(60);
/// A timer that fires this late means that this process stood still (SIGSTOP, suspend): the
/// silence was its own.
const OWN_SLEEP: Duration = Duration::from_secs(1);
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
}

/// One link that is up.
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) dialled_by_me: bool,
    pub(super) rtt: Option<Duration>,
    pub(super) sync: Option<Session>,
    pub(super) answering: Option<Session>,
    pub(super) answered: bool,
    pub(super) rate: Rate,
    pub(super) bad_entries: u32,
    boot: u64,
    since: Duration,
    heard: Duration,
    pinged: bool,
    retired: bool,
}

impl Link {
    /// When this link needs a look.
    pub(super) fn due_at(&self, timing: &Timing) -> Duration {
        let wait = if self.pinged {
            timing.silence_is_death
        } else {
            self.ping_after(timing)
        };
        self.heard + wait
    }

    fn ping_after(&self, timing: &Timing) -> Duration {
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
        self.silent_since = None;
        let was_online = self.members.get(&up.peer).is_some_and(Member::is_online);
        self.observed.note(up.peer, up.remote.ip(), up.observed);
        self.note_own_addresses();
        let link = Link {
            peer: up.peer,
            dialled_by_me: up.dialled.is_some(),
            rtt: None,
            sync: None,
            answering: None,
            answered: false,
            rate: Rate::new(FRAMES_PER_SECOND, FRAMES_AT_ONCE),
            bad_entries: 0,
            boot: up.alive.boot,
            since: now.mono,
            heard: now.mono,
            pinged: false,
            retired: false,
        };
        self.links.insert(up.link, link);
        let member = self
            .members
            .entry(up.peer)
            .or_insert_with(|| Member::new(up.peer));
        member.links.push(up.link);
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
        self.take_alive(now, rng, Some(up.link), up.alive);
        self.greet(now, rng, up.link);
        self.resolve_duplicates(up.peer);
        self.save_peer(up.peer);
        let member = self.members.get(&up.peer);
        if !was_online && member.is_some_and(Member::is_online) {
            let name = member.and_then(|member| member.name.clone());
            self.effects
                .push_back(Effect::Event(What::NodeUp { id: up.peer, name }));
        }
        self.view_dirty = true;
    }

    /// Only the dial that brought this link is over: one the other way may still be under way.
    fn dial_ended(&mut self, up: &LinkUp) {
        if up.dialled == Some(Dialled::Node(up.peer))
            && let Some(member) = self.members.get_mut(&up.peer)
        {
            member.backoff.dialling = false;
        }
    }

    /// First words on a new link: everybody's signs of life, then this node's live entries at
    /// once (they are few, and they are what a newcomer waits for), then reconciliation.
    fn greet(&mut self, now: Now, rng: &mut impl Rng, link: LinkId) {
        let known = self.members.values().filter_map(|member| member.alive);
        let all: Vec<Alive> = std::iter::once(self.alive).chain(known).collect();
        for some in all.chunks(MAX_ALIVE) {
            self.send(link, Frame::Alive(some.to_vec()));
        }
        self.send_entries(link, self.ledger.live_of(self.me));
        self.open_sync(now, rng, link);
    }

    /// Two processes with one key: the older start is told and not let in.
    fn refuse_old_boot(&mut self, now: Now, rng: &mut impl Rng, up: &LinkUp) {
        self.count("old_boot");
        let Some(member) = self.members.get_mut(&up.peer) else {
            return;
        };
        if up.dialled.is_some() {
            member.backoff.failed(now.mono, rng);
        }
        let newest = member.alive;
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
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        let was_online = member.is_online();
        member.links.retain(|other| *other != link);
        member.last_seen_ms = member.last_seen_ms.max(unix_at(now, gone.heard));
        self.view_dirty = true;
        if !member.links.is_empty() {
            return;
        }
        member.backoff.hope(now.mono);
        member.be_courteous(self.me, now.mono);
        let name = member.name.clone();
        self.observed.forget(&peer);
        self.note_own_addresses();
        self.save_peer(peer);
        if was_online {
            let reason = reason.to_owned();
            self.effects.push_back(Effect::Event(What::NodeDown {
                id: peer,
                name,
                reason,
            }));
        }
    }

    /// Ends what is left of a peer's earlier starts.
    fn close_links_before(&mut self, now: Now, peer: NodeId, boot: u64) {
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

    pub(super) fn heard(&mut self, now: Now, link: LinkId, rtt: Option<Duration>) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard = now.mono;
            link.pinged = false;
            link.rtt = rtt.or(link.rtt);
        }
    }

    /// This process stood still: what its peers seem to have missed, it missed itself. Lateness
    /// counts from the last call, too: a timer can be due before it was first asked for.
    pub(super) fn forgive_own_sleep(&mut self, now: Now) {
        let awake = self.last_call;
        self.last_call = now.mono;
        let late = self
            .expected_wake
            .map_or(Duration::ZERO, |at| now.mono.saturating_sub(at.max(awake)));
        if late > OWN_SLEEP {
            for link in self.links.values_mut() {
                link.heard += late;
            }
        }
    }

    pub(super) fn check_links(&mut self, now: Now, rng: &mut impl Rng) {
        let mut dead = Vec::new();
        let mut ping = Vec::new();
        for (id, link) in &mut self.links {
            let silence = now.mono.saturating_sub(link.heard);
            if silence >= self.timing.silence_is_death {
                dead.push(*id);
            } else if silence >= link.ping_after(&self.timing) && !link.pinged {
                link.pinged = true;
                ping.push(*id);
            }
            if now.mono.saturating_sub(link.since) >= SYNC_LASTS {
                link.sync = None;
                link.answering = None;
            }
        }
        for link in ping {
            self.send(link, Frame::Ping(rng.next_u64()));
        }
        for link in dead {
            let reason = format!("nothing heard for {:?}", self.timing.silence_is_death);
            self.effects.push_back(Effect::Close {
                link,
                code: CloseCode::Timeout,
            });
            self.link_down(now, link, &reason);
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

    /// Takes in a sign of life, whose signature is checked here unless the link's own Hello
    /// carried it. A new or greater one is passed on.
    pub(super) fn take_alive(
        &mut self,
        now: Now,
        rng: &mut impl Rng,
        from: Option<LinkId>,
        alive: Alive,
    ) {
        if alive.node == self.me {
            let newer = alive.boot > self.boot;
            if newer && !self.cloned && alive.verify(self.network) {
                self.cloned = true;
                self.effects.push_back(Effect::Cloned);
            }
            return;
        }
        let member = self.members.get(&alive.node);
        if member.is_some_and(|member| alive.boot < member.min_boot) {
            return self.count("old_boot");
        }
        let known = member.and_then(|member| member.alive);
        if known.is_some_and(|known| known.rank() >= alive.rank()) {
            return;
        }
        if !self.members.contains_key(&alive.node) && self.members.len() >= MAX_MEMBERS {
            self.count("too_many_members");
            return;
        }
        if !alive.verify(self.network) {
            self.count("bad_signature");
            return;
        }
        let me = self.me;
        let member = self
            .members
            .entry(alive.node)
            .or_insert_with(|| Member::new(alive.node));
        let was_online = member.is_online();
        let newer_boot = member.boot() < alive.boot;
        member.alive = Some(alive);
        if newer_boot {
            member.record = None;
            member.backoff.hope(now.mono);
            member.be_courteous(me, now.mono);
        }
        let name = member.name.clone();
        // News of a restart may come before the node itself does.
        self.close_links_before(now, alive.node, alive.boot);
        let dropped = if alive.state == LifeState::Leave {
            self.ledger.drop_live(alive.node)
        } else {
            self.ledger.set_boot(alive.node, alive.boot)
        };
        self.view_dirty |= newer_boot || !dropped.is_empty() || was_online;
        if alive.state == LifeState::Leave && was_online {
            self.effects.push_back(Effect::Event(What::NodeLeft {
                id: alive.node,
                name,
            }));
        }
        self.pass_on(rng, from, &Frame::Alive(vec![alive]));
    }
}

/// The wall clock at an earlier monotonic moment.
fn unix_at(now: Now, earlier: Duration) -> u64 {
    let ago = now.mono.saturating_sub(earlier).as_millis();
    now.unix_ms
        .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
}
