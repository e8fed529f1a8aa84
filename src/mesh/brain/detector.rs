//! Silence: when to ask, when to speak up, and whose word has lost its weight.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::links::Link;
use super::{Brain, Effect, Timing};
use crate::mesh::alive::LifeState;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::rate::Rate;
use crate::mesh::suspicion::Suspicion;
use crate::mesh::time::Now;
use crate::mesh::wire::{Frame, UNANSWERED};

/// Other peers are asked, too, once one has been silent for this long: only who hears others
/// after that may take silence for death, and not for a cut of its own.
const CONTROL_AFTER: Duration = Duration::from_millis(1200);
/// Others asked as a control.
const CONTROLS: usize = 3;
/// A peer heard within this long is not asked again for a control or for a suspicion.
const JUST_HEARD: Duration = Duration::from_millis(200);
/// Beyond this round trip a peer gets more time to answer.
const NEAR: Duration = Duration::from_millis(250);
/// A timer that fires this late means that this process stood still (SIGSTOP, suspend): the
/// silence was its own.
const OWN_SLEEP: Duration = Duration::from_millis(400);
/// An accuser whose suspicions were refuted on this many occasions ...
const REFUTED_OFTEN: usize = 3;
/// ... each this long after the one before, since one cut between two halves makes everybody
/// accuse many at once, and none of them wrongly as they could see it ...
const OCCASION: Duration = Duration::from_secs(5);
/// ... within this time ...
const REFUTED_WITHIN: Duration = Duration::from_secs(60);
/// ... is ignored for this long (C18).
const IGNORED_FOR: Duration = Duration::from_secs(600);
/// At first its word is still passed on: others may not have come to ignore it yet, and whom they
/// hear accused must hear it, too, to refute it.
const PASSED_ON_FOR: Duration = Duration::from_secs(10);
/// Words passed on so that are remembered: each goes over a link once.
const MAX_PASSED_ON: usize = 256;
/// Between two refutations of this node. Well within what two accusers leave it.
const REFUTE_PAUSE: Duration = Duration::from_millis(200);
/// A member that was down is shown as online again this long after its next word, or at once with
/// a link.
pub(super) const RETURN_PAUSE: Duration = Duration::from_secs(1);
/// A start of which others tell is shown as online this long after the first word, or at once with
/// a link.
pub(super) const START_PAUSE: Duration = Duration::from_millis(500);
/// ... and this long after an accuser that is ignored has spoken against it: a dial in vain takes
/// three seconds, and may follow one that was under way when the word came and proves nothing.
pub(super) const DOUBTED_PAUSE: Duration = Duration::from_secs(7);
/// Accusers remembered.
const MAX_ACCUSERS: usize = 1024;
/// Occasions on which failed dials are held against members: at once, and per second in the long
/// run. A node behind a firewall would else accuse everybody it cannot reach, and be ignored for it.
const ACCUSED_UNREACHED: (f64, f64) = (2.0, 1.0 / 60.0);
/// How long such an occasion lasts: whoever died together is dialled in vain together, and what is
/// refuted within an [`OCCASION`] counts once.
const UNREACHED_TOGETHER: Duration = Duration::from_millis(2500);

/// Why a suspicion does not count. It is counted by [`Ignored::word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// Nobody knows who says so, or it says so of itself.
    Unknown,
    /// It was refuted too often.
    OftenWrong,
}

impl Ignored {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_accuser",
            Self::OftenWrong => "ignored_accuser",
        }
    }
}

#[derive(Default)]
struct Accuser {
    refuted: VecDeque<Duration>,
    ignored_until: Duration,
}

/// Who is suspected, and by whom not to be impressed.
pub(super) struct Detector {
    /// Until when each suspected member may refute.
    suspected: BTreeMap<NodeId, Duration>,
    /// Until when each member that had been taken down and has spoken since is waited for.
    returning: BTreeMap<NodeId, Duration>,
    accusers: BTreeMap<NodeId, Accuser>,
    passed_on: VecDeque<(NodeId, NodeId, u64, u32)>,
    unreached: Rate,
    /// Until when more failed dials belong to the last occasion.
    unreached_until: Duration,
    /// When this node refutes what it has not answered yet.
    refute_at: Option<Duration>,
    /// When it may refute next.
    next_refutation: Duration,
    control_at: Duration,
    /// When links were last looked at.
    checked: Duration,
    /// When a ping came since then: its peer has woken this process already.
    pinged: Option<Duration>,
}

impl Default for Detector {
    fn default() -> Self {
        let (at_once, per_second) = ACCUSED_UNREACHED;
        Self {
            suspected: BTreeMap::new(),
            returning: BTreeMap::new(),
            accusers: BTreeMap::new(),
            passed_on: VecDeque::new(),
            unreached: Rate::new(per_second, at_once),
            unreached_until: Duration::ZERO,
            refute_at: None,
            next_refutation: Duration::ZERO,
            control_at: Duration::ZERO,
            checked: Duration::ZERO,
            pinged: None,
        }
    }
}

impl Detector {
    /// Gives `subject` until `until`, or less if it had less.
    pub(super) fn suspect(&mut self, subject: NodeId, until: Duration) {
        let at = self.suspected.entry(subject).or_insert(until);
        *at = until.min(*at);
    }

    pub(super) fn acquit(&mut self, subject: &NodeId) {
        self.suspected.remove(subject);
        self.returning.remove(subject);
    }

    /// Those whose time is over; they are suspected no more unless told so again.
    pub(super) fn due(&mut self, now: Duration) -> Vec<NodeId> {
        let due = self.suspected.iter().filter(|(_, until)| **until <= now);
        let due: Vec<NodeId> = due.map(|(id, _)| *id).collect();
        for id in &due {
            self.suspected.remove(id);
        }
        due
    }

    /// Others tell that `id`, who is not shown as online, has spoken: perhaps before it died. What is
    /// said against that word comes with it or soon after; until then it is not shown.
    pub(super) fn wait_for(&mut self, id: NodeId, until: Duration) {
        self.returning.insert(id, until);
    }

    /// `id` itself is at the other end of a link.
    pub(super) fn wait_no_more(&mut self, id: &NodeId) {
        self.returning.remove(id);
    }

    pub(super) fn waits_for(&self, id: &NodeId) -> bool {
        self.returning.contains_key(id)
    }

    /// Those against whom nothing was said meanwhile.
    pub(super) fn returned(&mut self, now: Duration) -> Vec<NodeId> {
        let over = self.returning.extract_if(.., |_, until| *until <= now);
        over.map(|(id, _)| id).collect()
    }

    /// Whether a failed dial may be held against a member that perhaps nobody else misses.
    fn holds_against(&mut self, now: Duration) -> bool {
        if now >= self.unreached_until && self.unreached.take(now, 1.0) {
            self.unreached_until = now + UNREACHED_TOGETHER;
        }
        now < self.unreached_until
    }

    pub(super) fn is_to_refute(&self) -> bool {
        self.refute_at.is_some()
    }

    pub(super) fn refute_soon(&mut self, now: Duration) {
        self.refute_at = Some(self.next_refutation.max(now));
    }

    /// Whether a refutation is due; asking takes it.
    pub(super) fn takes_refutation(&mut self, now: Duration) -> bool {
        let due = self.refute_at.take_if(|at| *at <= now).is_some();
        if due {
            self.next_refutation = now + REFUTE_PAUSE;
        }
        due
    }

    /// A suspicion of `accuser` was refuted.
    pub(super) fn refuted(&mut self, now: Duration, accuser: NodeId) {
        let recent = |at: &Duration| now.saturating_sub(*at) < REFUTED_WITHIN;
        if self.accusers.len() >= MAX_ACCUSERS {
            self.accusers.retain(|_, accuser| {
                accuser.ignored_until > now || accuser.refuted.back().is_some_and(recent)
            });
        }
        if self.accusers.len() >= MAX_ACCUSERS && !self.accusers.contains_key(&accuser) {
            return;
        }
        let accuser = self.accusers.entry(accuser).or_default();
        accuser.refuted.retain(recent);
        let last = accuser.refuted.back();
        if last.is_some_and(|at| now.saturating_sub(*at) < OCCASION) {
            return;
        }
        accuser.refuted.push_back(now);
        if accuser.refuted.len() >= REFUTED_OFTEN {
            accuser.ignored_until = now + IGNORED_FOR;
        }
    }

    /// A peer pings: what this node would ask soon, it asks now. So the nodes of a network come to
    /// do so in one beat, like fireflies, and a beat costs each few wakes (see [`Brain::due_soon`]).
    pub(super) fn ping_along(&mut self, now: Duration) {
        self.pinged = Some(now);
    }

    /// Whether the word of an accuser that is ignored should still go round; asking remembers it.
    pub(super) fn passes_on(&mut self, now: Duration, suspicion: &Suspicion) -> bool {
        let accuser = self.accusers.get(&suspicion.accuser);
        let until = accuser.map(|accuser| accuser.ignored_until + PASSED_ON_FOR);
        let word = (
            suspicion.accuser,
            suspicion.subject,
            suspicion.boot,
            suspicion.incarnation,
        );
        let passes =
            until.is_some_and(|at| now + IGNORED_FOR < at) && !self.passed_on.contains(&word);
        if passes {
            self.passed_on.truncate(MAX_PASSED_ON - 1);
            self.passed_on.push_front(word);
        }
        passes
    }

    pub(super) fn ignores(&self, now: Duration, accuser: &NodeId) -> bool {
        let accuser = self.accusers.get(accuser);
        accuser.is_some_and(|accuser| now < accuser.ignored_until)
    }
}

impl Link {
    /// When this link needs a look, later than `checked`, when it got the last one.
    pub(super) fn due_at(&self, timing: &Timing, checked: Duration) -> Option<Duration> {
        let ask = match self.asked_at {
            None => self.heard + self.ping_after(timing),
            Some(at) => at + timing.ping_again,
        };
        let speak = self.heard + self.suspect_after(timing);
        let end = self.heard + timing.silence_is_death;
        let after = |at: &Duration| *at > checked;
        let times = [Some(ask), Some(speak), Some(end), self.renew_at(timing)];
        times.into_iter().flatten().filter(after).min()
    }

    /// A far peer gets more time to answer.
    fn suspect_after(&self, timing: &Timing) -> Duration {
        let far = self.rtt.unwrap_or_default().saturating_sub(NEAR);
        timing.suspect_after + 2 * far
    }
}

impl Brain {
    /// Bytes came over `link` at `at` or later.
    pub(super) fn heard(&mut self, at: Duration, link: LinkId, rtt: Option<Duration>) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard = link.heard.max(at);
            link.asked_at = link.asked_at.filter(|asked| *asked > at);
            link.rtt = rtt.or(link.rtt);
        }
    }

    /// When bytes last came from a peer over any link that is up.
    pub(super) fn last_heard(&self, peer: &NodeId) -> Option<Duration> {
        let links = self.members.get(peer)?.links.iter();
        links
            .filter_map(|link| self.links.get(link))
            .map(|link| link.heard)
            .max()
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
            for until in self.detector.suspected.values_mut() {
                *until += late;
            }
        }
    }

    /// Asks where it is silent, speaks up where it stays so, and ends what is dead.
    pub(super) fn check_links(&mut self, now: Now) {
        self.detector.checked = now.mono;
        let pinged = self.detector.pinged.take().is_some();
        let (mut ask, mut silent, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        let mut control = false;
        for (id, link) in &self.links {
            let silence = now.mono.saturating_sub(link.heard);
            let again = |at| now.mono >= at + self.timing.ping_again;
            if silence >= self.timing.silence_is_death {
                dead.push(*id);
            } else if silence >= link.ping_after(&self.timing) && link.asked_at.is_none_or(again) {
                ask.push(*id);
            }
            control |= silence >= CONTROL_AFTER;
            if silence >= link.suspect_after(&self.timing) {
                silent.push(link.peer);
            }
        }
        if control && now.mono >= self.detector.control_at + self.timing.ping_again {
            self.detector.control_at = now.mono;
            ask.extend(self.controls(now));
        }
        if pinged || !ask.is_empty() {
            let soon = self.due_soon(now);
            ask.extend(soon);
            ask.sort_unstable();
            ask.dedup();
        }
        for link in ask {
            self.ping(now, link);
        }
        for peer in silent {
            self.speak_up(now, peer);
        }
        for link in dead {
            let reason = format!("nothing heard for {:?}", self.timing.silence_is_death);
            self.effects.push_back(Effect::Lose { link });
            let peer = self.links.get(&link).map(|link| link.peer);
            self.link_down(now, link, &reason);
            if let Some(member) = peer.and_then(|peer| self.members.get_mut(&peer)) {
                member.fell_silent = true;
            }
            self.alone(now, false);
        }
    }

    /// Links of this node's own dialling that would be pinged within the half of a pause. They are
    /// pinged with those that are due: from then on one wake serves all of them, and on an idle
    /// machine wakes are what a node costs. The peers' pings stay theirs.
    fn due_soon(&self, now: Now) -> Vec<LinkId> {
        let pause = self.timing.ping_after / 2;
        let soon = self.links.iter().filter(|(_, link)| {
            let silence = now.mono.saturating_sub(link.heard);
            link.dialled_by_me && link.asked_at.is_none() && silence >= pause
        });
        soon.map(|(id, _)| *id).collect()
    }

    /// The ACK of QUIC is the answer: two packets, where a pong and its ACK would make three.
    fn ping(&mut self, now: Now, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.asked_at = Some(now.mono);
            self.send(link, Frame::Ping(UNANSWERED));
            self.tell_digest(now, link);
        }
    }

    /// Links of those heard last, but not just now: they show whether this node hears anybody.
    fn controls(&self, now: Now) -> Vec<LinkId> {
        let silence = |link: &Link| now.mono.saturating_sub(link.heard);
        let calm = self.links.iter().filter(|(_, link)| {
            link.asked_at.is_none() && (JUST_HEARD..CONTROL_AFTER).contains(&silence(link))
        });
        let mut calm: Vec<(Duration, LinkId)> =
            calm.map(|(id, link)| (silence(link), *id)).collect();
        calm.sort_unstable();
        calm.truncate(CONTROLS);
        calm.into_iter().map(|(_, id)| id).collect()
    }

    /// Pings a member over its link, if there is one and it has not just been heard.
    pub(super) fn ask(&mut self, now: Now, id: NodeId) {
        let Some(link) = self.best_link(id) else {
            return;
        };
        let heard = self.links.get(&link).map(|link| link.heard);
        if heard.is_some_and(|heard| now.mono.saturating_sub(heard) > JUST_HEARD) {
            self.ping(now, link);
        }
    }

    /// Says that `peer` is silent, once per sign of life, if this node hears others meanwhile.
    fn speak_up(&mut self, now: Now, peer: NodeId) {
        let Some(heard) = self.last_heard(&peer) else {
            return;
        };
        let silent = now.mono.saturating_sub(heard) >= self.timing.suspect_after;
        let evidence = heard + CONTROL_AFTER;
        let mut others = self.links.values().filter(|link| link.peer != peer);
        if silent && others.any(|link| link.heard >= evidence) {
            self.accuse(now, peer);
        }
    }

    /// A dial of a neighbour failed in silence. If nobody else reaches it either, it is gone, and
    /// perhaps nobody was left to see it go; if somebody does, it will refute this: once, until it
    /// has had a link again.
    pub(super) fn hold_against(&mut self, now: Now, id: NodeId) {
        let heard_lately =
            |link: &Link| now.mono.saturating_sub(link.heard) < self.timing.suspect_after;
        let evidence = self.links.values().any(heard_lately);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let boot = Some(member.boot());
        let first = member.unreached != boot && member.stands() && member.links.is_empty();
        // Who had a link and fell silent on it, while this node could not tell whether it was cut
        // off itself, does not count: it is not a firewall that keeps it from answering now.
        let had_link = member.fell_silent;
        if first && evidence && (had_link || self.detector.holds_against(now.mono)) {
            member.unreached = boot;
            self.accuse(now, id);
        }
    }

    fn accuse(&mut self, now: Now, id: NodeId) {
        let leaving = self.alive.state == LifeState::Leave;
        let Some(member) = self.members.get_mut(&id).filter(|_| !leaving) else {
            return;
        };
        let Some(alive) = member.alive.clone().filter(|_| member.stands()) else {
            return;
        };
        let rank = Some((alive.boot, alive.incarnation));
        if std::mem::replace(&mut member.accused, rank) != rank {
            let suspicion = Suspicion::sign(self.network, &self.identity, &alive);
            self.take_suspicion(now, None, suspicion);
        }
    }

    /// When a link needs the next look.
    pub(super) fn next_link_check(&self) -> Option<Duration> {
        let checked = self.detector.checked;
        let links = self.links.values();
        let due = links.filter_map(|link| link.due_at(&self.timing, checked));
        due.chain(self.detector.pinged).min()
    }

    /// When the next suspected member's time is over, or this node speaks for itself.
    pub(super) fn next_verdict(&self) -> Option<Duration> {
        let suspected = self.detector.suspected.values().copied();
        let returning = self.detector.returning.values().copied();
        suspected
            .chain(returning)
            .chain(self.detector.refute_at)
            .min()
    }
}
