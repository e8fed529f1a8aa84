//! Reconciliation: which link it runs on, and what an id in it names.
//!
//! One set holds everything that was signed: the ledger, every member's sign of life, and what is
//! said against it. A node that has just come opens one session at a time, and lets those that
//! others open wait until it has caught up: what it lacks is sent once, not by every neighbour.
//! It holds next to nothing, says so, and is sent everything without a word about ids. It tells
//! nobody what it is brought so: each of its neighbours reconciles with it in turn.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand::{Rng, RngExt};

use super::Brain;
use super::spread::{Batch, Item};
use crate::mesh::entry::ItemId;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::rate::Rate;
use crate::mesh::suspicion::Suspicion;
use crate::mesh::sync::{Listed, Order, Session, Step};
use crate::mesh::time::Now;
use crate::mesh::wire::{Frame, SyncMessage, SyncOpen};

/// A session of this node's own that brings nothing for so long is given up, for another link.
const OPEN_LASTS: Duration = Duration::from_secs(10);
/// One that a peer opened holds ids for everything: it is given up after this, as is one of this
/// node's own whatever it brings.
const ANSWER_LASTS: Duration = Duration::from_secs(60);
/// What a node holds must have been at rest for this long before sums are compared: while news
/// spreads they always differ.
const REST: Duration = Duration::from_millis(1500);
/// A node that has found nobody who is fresh believes what it knows after this.
const STALE_LASTS: Duration = Duration::from_secs(3);
/// Sessions of others wait no longer than this for the one that is to bring what this node lacks:
/// who was met first may not mean to end it.
const DEFER_LASTS: Duration = Duration::from_secs(2);
/// Bytes sent without being asked for in one session: more than a large network's ledger.
const GIVEN: usize = 4 << 20;
/// ... and in all sessions, at once and per second in the long run. Beyond this ids go first, as
/// with any other difference: who asks again and again gets no more than this for a few bytes.
const GIVEN_IN_ALL: (f64, f64) = (16_777_216.0, 262_144.0);
/// What a statement, or an entry without key and value, takes at most.
const STATEMENT_BYTES: usize = 256;

/// A session of this node's own.
struct Opened {
    link: LinkId,
    session: Session,
    since: Duration,
    /// When it last brought entries.
    brought: Duration,
}

impl Opened {
    fn over_at(&self) -> Duration {
        (self.brought + OPEN_LASTS).min(self.since + ANSWER_LASTS)
    }
}

/// Sessions under way and to come.
pub(super) struct Sessions {
    opened: Option<Opened>,
    wanted: VecDeque<LinkId>,
    opened_so_far: u32,
    /// Sum over [`Brain::statements`]; the ledger keeps its own.
    sum: u64,
    /// When this node's own set last changed.
    pub(super) changed: Duration,
    /// Since when it has known only peers that had not caught up either.
    stale_since: Option<Duration>,
    given: Rate,
}

impl Default for Sessions {
    fn default() -> Self {
        let (at_once, per_second) = GIVEN_IN_ALL;
        Self {
            opened: None,
            wanted: VecDeque::new(),
            opened_so_far: 0,
            sum: 0,
            changed: Duration::ZERO,
            stale_since: None,
            given: Rate::new(per_second, at_once),
        }
    }
}

impl Sessions {
    /// Asks for a session on `link` when its turn comes.
    pub(super) fn want(&mut self, link: LinkId) {
        let under_way = self.opened.as_ref().is_some_and(|open| open.link == link);
        if !under_way && !self.wanted.contains(&link) {
            self.wanted.push_back(link);
        }
    }

    /// What this node holds changed: whatever was at rest is not.
    pub(super) fn changed(&mut self, now: Duration) {
        self.changed = now;
    }

    /// Entries came over `link`: a session there is getting on.
    pub(super) fn brought(&mut self, now: Duration, link: LinkId) {
        if let Some(open) = self.opened.as_mut().filter(|open| open.link == link) {
            open.brought = now;
        }
    }

    /// Since when what this node holds has been at rest for long enough.
    pub(super) fn at_rest_at(&self) -> Duration {
        self.changed + REST
    }

    /// Sessions that the end which dialled the link opens have odd numbers, the others even ones.
    fn next_number(&mut self, dialled_by_me: bool) -> u32 {
        self.opened_so_far = self.opened_so_far.wrapping_add(1);
        (self.opened_so_far << 1) | u32::from(dialled_by_me)
    }
}

impl Brain {
    /// A signed statement about a member's life is part of what this node holds.
    pub(super) fn state(&mut self, now: Now, id: ItemId, about: NodeId) {
        if self.statements.insert(id, about).is_none() {
            self.sessions.sum = self.sessions.sum.wrapping_add(id.prefix());
            self.sessions.changed(now.mono);
        }
    }

    /// ... and no more.
    pub(super) fn unstate(&mut self, now: Now, id: ItemId) {
        if self.statements.remove(&id).is_some() {
            self.sessions.sum = self.sessions.sum.wrapping_sub(id.prefix());
            self.sessions.changed(now.mono);
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.sessions.sum.wrapping_add(self.ledger.digest())
    }

    /// Everything held: statements first, because live entries are void without their author's
    /// sign of life.
    fn held(&self) -> Vec<(Order, ItemId)> {
        let statements = self.statements.keys().map(|id| (Order::Statement, *id));
        let entries = self.ledger.ids().map(|id| (Order::Entry, id));
        statements.chain(entries).collect()
    }

    /// Opens the next session if none is under way.
    pub(super) fn open_next_session(&mut self, now: Now, rng: &mut impl Rng) {
        while self.sessions.opened.is_none() {
            let Some(link) = self.sessions.wanted.pop_front() else {
                break;
            };
            let Some(dialled_by_me) = self.links.get(&link).map(|link| link.dialled_by_me) else {
                continue;
            };
            let number = self.sessions.next_number(dialled_by_me);
            if let Ok((session, open)) = Session::open(
                number,
                rng.random(),
                self.held(),
                self.ledger.refused_ids(now),
            ) {
                self.sessions.opened = Some(Opened {
                    link,
                    session,
                    since: now.mono,
                    brought: now.mono,
                });
                self.send(link, Frame::SyncOpen(open));
            }
        }
        if !self.is_reconciling() {
            self.answer_deferred(now);
        }
    }

    pub(super) fn answer_sync(&mut self, now: Now, link: LinkId, open: SyncOpen) {
        let busy = !self.caught_up && self.is_reconciling();
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let theirs = (open.session & 1 == 1) != state.dialled_by_me;
        if !theirs || !state.sessions.take(now.mono, 1.0) {
            return self.count("bad_sync");
        }
        match busy {
            true => state.deferred = Some((open, now.mono)),
            false => self.answer(now, link, &open),
        }
    }

    fn answer(&mut self, now: Now, link: LinkId, open: &SyncOpen) {
        let mut held = self.held();
        let given = Listed::of(open).map(|listed| self.give(now, &listed, &mut held));
        match Session::answer(open, held) {
            Ok((session, reply)) => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.answering = Some((session, now.mono));
                }
                let given = self.without_unsure(&given.unwrap_or_default());
                self.send_held(link, &given);
                self.send(link, Frame::Sync(reply));
            }
            Err(_) => self.count("bad_sync"),
        }
    }

    /// Takes out of `held` what the opener of a session lacks, as far as it is given unasked.
    fn give(&mut self, now: Now, to: &Listed, held: &mut Vec<(Order, ItemId)>) -> Vec<ItemId> {
        let mut room = GIVEN;
        let given = held.extract_if(.., |(_, id)| {
            let entry = self.ledger.by_id(id);
            let long = entry.map_or(0, |e| e.slot.key.len() + e.value.len());
            let bytes = STATEMENT_BYTES + long;
            #[allow(clippy::cast_precision_loss)] // an entry is shorter than 2^52 bytes
            let gives =
                room >= bytes && to.lacks(id) && self.sessions.given.take(now.mono, bytes as f64);
            room -= if gives { bytes } else { 0 };
            gives
        });
        given.map(|(_, id)| id).collect()
    }

    /// Who is bringing this node what it lacks, while it has not caught up.
    pub(super) fn brings(&self) -> Option<NodeId> {
        let open = self.sessions.opened.as_ref().filter(|_| !self.caught_up)?;
        self.links.get(&open.link).map(|link| link.peer)
    }

    fn is_reconciling(&self) -> bool {
        self.sessions.opened.is_some() || self.links.values().any(|link| link.answering.is_some())
    }

    pub(super) fn continue_sync(&mut self, link: LinkId, message: &SyncMessage) {
        if self.is_mine(link, message.session) {
            let Some(open) = self.sessions.opened.as_mut() else {
                return;
            };
            match open.session.step(&message.message) {
                Ok(step) => self.take_step(link, message.session, step),
                Err(_) => {
                    self.sessions.opened = None;
                    self.count("bad_sync");
                }
            }
            return;
        }
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let answering = state.answering.as_mut().map(|(session, _)| session);
        let Some(session) = answering.filter(|s| s.number() == message.session) else {
            return self.count("bad_sync");
        };
        match session.reply_to(&message.message) {
            Ok(reply) => self.send(link, Frame::Sync(reply)),
            Err(_) => {
                state.answering = None;
                self.count("bad_sync");
            }
        }
    }

    fn is_mine(&self, link: LinkId, number: u32) -> bool {
        let opened = self.sessions.opened.as_ref();
        opened.is_some_and(|open| open.link == link && open.session.number() == number)
    }

    fn take_step(&mut self, link: LinkId, number: u32, step: Step) {
        let send = self.without_unsure(&step.send);
        self.send_held(link, &send);
        for want in step.want {
            self.send(link, Frame::Want(want));
        }
        match step.reply {
            Some(reply) => self.send(link, Frame::Sync(reply)),
            // Behind everything that was asked for, the peer will say the same.
            None => {
                let fresh = self.caught_up;
                let session = number;
                self.send(link, Frame::SyncDone { session, fresh });
            }
        }
    }

    pub(super) fn send_wanted(&mut self, link: LinkId, number: u32, ids: &[ItemId]) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let answering = state.answering.as_mut().map(|(session, _)| session);
        let Some(session) = answering.filter(|s| s.number() == number) else {
            return self.count("bad_sync");
        };
        let wanted: Vec<ItemId> = session.wanted(ids).collect();
        let wanted = self.without_unsure(&wanted);
        self.send_held(link, &wanted);
    }

    /// The peer has sent everything of a session; so has this node, if the peer opened it.
    pub(super) fn sync_done(&mut self, now: Now, link: LinkId, number: u32, fresh: bool) {
        if self.is_mine(link, number) {
            self.sessions.opened = None;
        } else {
            let Some(state) = self.links.get_mut(&link) else {
                return;
            };
            let answering = state.answering.as_ref();
            if answering.is_none_or(|(session, _)| session.number() != number) {
                return self.count("bad_sync");
            }
            state.answering = None;
            let session = number;
            let fresh = fresh || self.caught_up || self.is_linked_to_all();
            self.send(link, Frame::SyncDone { session, fresh });
        }
        if fresh || self.is_linked_to_all() {
            self.believe_known(now);
            self.set_caught_up(true, "");
        } else if !self.caught_up && self.sessions.stale_since.is_none() {
            self.sessions.stale_since = Some(now.mono);
        }
        self.answer_deferred(now);
    }

    /// Whoever is linked to everybody needs nobody's word.
    pub(super) fn is_linked_to_all(&self) -> bool {
        let mut standing = self.members.values().filter(|member| member.stands());
        standing.all(|member| !member.links.is_empty())
    }

    /// Among nodes that were all cut off nobody is fresh.
    fn check_stale(&mut self, now: Now) {
        if self.caught_up || self.links.is_empty() {
            self.sessions.stale_since = None;
        }
        let over = |since: Duration| now.mono >= since + STALE_LASTS;
        if self.sessions.stale_since.is_some_and(over) {
            self.sessions.stale_since = None;
            self.believe_watched(now);
            self.set_caught_up(true, "");
        }
    }

    fn answer_deferred(&mut self, now: Now) {
        let waiting = self.links.iter_mut();
        let waiting = waiting.filter_map(|(id, link)| Some((*id, link.deferred.take()?.0)));
        let waiting: Vec<(LinkId, SyncOpen)> = waiting.collect();
        for (link, open) in waiting {
            self.answer(now, link, &open);
        }
    }

    /// Sends what is behind `ids`, signs of life first: live entries are void without them. With a
    /// sign of life goes what is said against it: it may have been said since the session began.
    fn send_held(&mut self, link: LinkId, ids: &[ItemId]) {
        let items: Vec<Item> = ids.iter().filter_map(|id| self.held_by_id(id)).collect();
        let mut batch = Batch::default();
        let mut alive = BTreeSet::new();
        for item in &items {
            if let Item::Alive(of) = item {
                alive.insert(of.node);
                let member = self.members.get(&of.node);
                let doubts = member.map_or(&[][..], |member| &member.suspicions);
                doubts.iter().for_each(|d| batch.add(Item::Suspicion(*d)));
            }
        }
        for item in items {
            let is_there = |d: &Suspicion| alive.contains(&d.subject);
            if !matches!(&item, Item::Suspicion(doubt) if is_there(doubt)) {
                batch.add(item);
            }
        }
        self.send_batch(link, batch);
    }

    fn held_by_id(&self, id: &ItemId) -> Option<Item> {
        let Some(about) = self.statements.get(id) else {
            let entry = self.ledger.by_id(id).cloned().map(Item::Entry);
            return entry.or_else(|| self.ledger.floor_by_id(id).copied().map(Item::Floor));
        };
        if *about == self.me {
            return Some(Item::Alive(self.alive.clone()));
        }
        let member = self.members.get(about)?;
        let alive = member.alive.clone();
        let alive = alive.filter(|alive| alive.id(self.network) == *id);
        let mut doubts = member.suspicions.iter();
        alive.map(Item::Alive).or_else(|| {
            let doubt = doubts.find(|doubt| doubt.id(self.network) == *id)?;
            Some(Item::Suspicion(*doubt))
        })
    }

    /// Gives up sessions that do not end, and begins those that are due.
    pub(super) fn check_sessions(&mut self, now: Now) {
        self.repair(now);
        self.check_stale(now);
        self.check_unsure(now);
        let over = |since: Duration, lasts| now.mono.saturating_sub(since) >= lasts;
        let opened = self.sessions.opened.as_ref();
        if let Some((link, since)) = opened
            .filter(|open| now.mono >= open.over_at())
            .map(|open| (open.link, open.since))
        {
            self.sessions.opened = None;
            self.count("sync_timeout");
            if self.sessions.changed > since || !self.caught_up {
                // Its turn comes again after everybody else's.
                self.sessions.want(link);
            }
        }
        let deferred = self.links.values().filter_map(|l| l.deferred.as_ref());
        if deferred.into_iter().any(|(_, at)| over(*at, DEFER_LASTS)) {
            self.answer_deferred(now);
        }
        for link in self.links.values_mut() {
            let since = link.answering.as_ref().map(|(_, since)| *since);
            if since.is_some_and(|since| over(since, ANSWER_LASTS)) {
                link.answering = None;
            }
        }
    }

    /// A link is gone, and with it every session on it.
    pub(super) fn end_sessions(&mut self, link: LinkId) {
        self.sessions.wanted.retain(|wanted| *wanted != link);
        if self
            .sessions
            .opened
            .as_ref()
            .is_some_and(|open| open.link == link)
        {
            self.sessions.opened = None;
        }
    }

    pub(super) fn next_session_check(&self) -> Option<Duration> {
        let opened = self.sessions.opened.as_ref();
        let opened = opened.map(Opened::over_at);
        let links = self.links.values();
        let deferred = links
            .clone()
            .filter_map(|link| Some(link.deferred.as_ref()?.1 + DEFER_LASTS));
        let at_rest = self.sessions.at_rest_at();
        let differing = links.filter(|link| link.digest_heard.is_some());
        let repairs = differing.map(|link| link.next_repair.max(at_rest));
        let stale = self.sessions.stale_since.map(|since| since + STALE_LASTS);
        let own = opened.into_iter().chain(stale);
        own.chain(deferred).chain(repairs).min()
    }
}
