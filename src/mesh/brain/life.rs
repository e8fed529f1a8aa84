//! What is said of a member's life: by itself, and against it.

use std::time::Duration;

use super::detector::{DOUBTED_PAUSE, Ignored, RETURN_PAUSE, START_PAUSE};
use super::{Brain, Effect, MAX_MEMBERS};
use crate::mesh::alive::{Alive, LifeState};
use crate::mesh::event::What;
use crate::mesh::id::NodeId;
use crate::mesh::members::Member;
use crate::mesh::suspicion::Suspicion;
use crate::mesh::time::Now;
use crate::mesh::wire::Frame;

/// Bytes that this node itself heard from a member outweigh for this long what others say of it.
const FRESH: Duration = Duration::from_millis(1500);
/// ... and then the verdict is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Brain {
    /// Takes in a sign of life; its signature is checked here. A greater one is passed on.
    pub(super) fn take_alive(&mut self, now: Now, from: Option<NodeId>, alive: Alive) {
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
        let known = member.and_then(|member| member.alive.as_ref());
        if known.is_some_and(|known| known.rank() >= alive.rank()) {
            return;
        }
        if member.is_none() && self.members.len() >= MAX_MEMBERS {
            return self.count("too_many_members");
        }
        if !alive.verify(self.network) {
            return self.count("bad_signature");
        }
        self.replace_alive(now, &alive);
        self.news.alive(from, alive);
    }

    /// Puts a greater sign of life in the place of the one that was known, and draws every
    /// conclusion from it.
    fn replace_alive(&mut self, now: Now, alive: &Alive) {
        let (id, network, me) = (alive.node, self.network, self.me);
        let was_online = self.is_online(&id);
        let member = self.members.entry(id).or_insert_with(|| Member::new(id));
        let newer_boot = member.boot() < alive.boot;
        let before = member.alive.replace(alive.clone());
        let is_start = newer_boot || before.is_none();
        let refuted = std::mem::take(&mut member.suspicions);
        // Who did not answer in time was gone: its accusers were right.
        let was_down = std::mem::replace(&mut member.down, false);
        if newer_boot {
            member.doubted = false;
            member.record = None;
            member.backoff.hope(now.mono);
            member.be_courteous(me, now.mono);
        }
        if let Some(before) = before {
            self.unstate(now, before.id(network));
        }
        for suspicion in refuted {
            self.unstate(now, suspicion.id(network));
            if !newer_boot && !was_down && alive.state == LifeState::Alive {
                self.detector.refuted(now.mono, suspicion.accuser);
            }
        }
        self.state(now, alive.id(network), id);
        self.detector.acquit(&id);
        if !was_online {
            let pause = if is_start { START_PAUSE } else { RETURN_PAUSE };
            self.detector.wait_for(id, now.mono + pause);
        }
        self.unsure.forget(&id);
        // News of a restart may come before the node itself does.
        self.close_links_before(now, id, alive.boot);
        let dropped = match alive.state {
            LifeState::Leave => self.ledger.drop_live(id),
            LifeState::Alive => self.ledger.set_boot(id, alive.boot),
        };
        for slot in &dropped {
            self.dirty.bucket(slot.bucket.clone());
        }
        self.place(id);
        self.refresh(id, "it left");
    }

    /// Takes in what one node says against another: verified, bounded, passed on once.
    pub(super) fn take_suspicion(&mut self, now: Now, from: Option<NodeId>, suspicion: Suspicion) {
        if suspicion.subject == self.me {
            return self.refute(now, &suspicion);
        }
        let Some(member) = self.members.get(&suspicion.subject) else {
            return;
        };
        let alive = member.alive.as_ref();
        let current =
            alive.is_some_and(|alive| suspicion.names(alive) && alive.state == LifeState::Alive);
        if !current || !member.takes_suspicion_of(&suspicion.accuser) {
            return;
        }
        if let Some(ignored) = self.is_ignored_accuser(now, &suspicion) {
            let is_doubt = self.doubt_once(now, &suspicion) && ignored == Ignored::OftenWrong;
            if is_doubt
                || self.detector.passes_on(now.mono, &suspicion) && suspicion.verify(self.network)
            {
                self.news.suspicion(from, suspicion);
            }
            return self.count(ignored.word());
        }
        if from.is_some() && !suspicion.verify(self.network) {
            return self.count("bad_signature");
        }
        self.keep_suspicion(now, suspicion);
        self.news.suspicion(from, suspicion);
    }

    /// An accuser that is ignored may be the only one that saw a member go which is not shown yet:
    /// it is shown later, so that this node finds out itself, and whoever hears the sign of life
    /// from here hears this, too. Once for each absence, or the accuser could keep a member away.
    fn doubt_once(&mut self, now: Now, suspicion: &Suspicion) -> bool {
        let waits = self.detector.waits_for(&suspicion.subject);
        let Some(member) = self.members.get_mut(&suspicion.subject) else {
            return false;
        };
        let doubts = waits && !member.doubted && suspicion.verify(self.network);
        if doubts {
            member.doubted = true;
            let until = now.mono + DOUBTED_PAUSE;
            self.detector.wait_for(suspicion.subject, until);
        }
        doubts
    }

    fn is_ignored_accuser(&self, now: Now, suspicion: &Suspicion) -> Option<Ignored> {
        let accuser = &suspicion.accuser;
        if *accuser == self.me {
            // Others may be tired of this node's word; it goes by what it hears itself.
            return None;
        }
        if !self.members.contains_key(accuser) || *accuser == suspicion.subject {
            return Some(Ignored::Unknown);
        }
        self.detector
            .ignores(now.mono, accuser)
            .then_some(Ignored::OftenWrong)
    }

    fn keep_suspicion(&mut self, now: Now, suspicion: Suspicion) {
        let subject = suspicion.subject;
        let Some(member) = self.members.get_mut(&subject) else {
            return;
        };
        let displaced = member.suspect(suspicion);
        let voices = member.suspicions.len();
        if let Some(displaced) = displaced {
            self.unstate(now, displaced.id(self.network));
        }
        self.state(now, suspicion.id(self.network), subject);
        if !self.is_online(&subject) {
            // Whoever is not shown as online needs no time to refute before it is taken down.
            return self.take_down(now, subject);
        }
        let wait = match voices {
            1 => self.timing.refute_alone,
            _ => self.timing.refute_agreed,
        };
        self.detector.suspect(subject, now.mono + wait);
        // Whoever has a link asks at once, and lets the subject know that it has to speak.
        self.ask(now, subject);
        if let Some(link) = self
            .best_link(subject)
            .filter(|_| !self.overlay.is_neighbour(&subject))
        {
            self.send(link, Frame::Suspicions(vec![suspicion]));
        }
    }

    /// Says that this node lives, if `suspicion` is about its newest sign of life.
    fn refute(&mut self, now: Now, suspicion: &Suspicion) {
        let current = suspicion.names(&self.alive) && self.alive.state == LifeState::Alive;
        let unanswered = !self.detector.is_to_refute();
        if current && unanswered && suspicion.verify(self.network) {
            self.detector.refute_soon(now.mono);
            self.refute_if_due(now);
        }
    }

    /// Everybody hears every refutation: who accuses without end must not set their number.
    pub(super) fn refute_if_due(&mut self, now: Now) {
        if self.detector.takes_refutation(now.mono) && self.alive.state == LifeState::Alive {
            self.set_own_alive(now, LifeState::Alive);
            self.news.alive(None, self.alive.clone());
        }
    }

    /// Signs the next sign of life of this node.
    pub(super) fn set_own_alive(&mut self, now: Now, state: LifeState) {
        self.unstate(now, self.alive.id(self.network));
        let incarnation = self.alive.incarnation.saturating_add(1);
        self.alive = Alive::sign(self.network, &self.identity, self.boot, incarnation, state);
        self.state(now, self.alive.id(self.network), self.me);
        self.effects.push_back(Effect::OwnAlive(self.alive.clone()));
    }

    /// Takes down every member whose time to refute is over.
    pub(super) fn check_suspected(&mut self, now: Now) {
        for id in self.detector.returned(now.mono) {
            self.refresh(id, "it is back");
        }
        for subject in self.detector.due(now.mono) {
            let heard = self.last_heard(&subject);
            if heard.is_some_and(|heard| now.mono.saturating_sub(heard) < FRESH) {
                self.detector.suspect(subject, now.mono + LOOK_AGAIN);
            } else {
                self.take_down(now, subject);
            }
        }
    }

    fn take_down(&mut self, now: Now, id: NodeId) {
        self.detector.acquit(&id);
        self.make_sure(&id);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        (member.down, member.doubted) = (true, false);
        member.backoff.hope(now.mono);
        let accusers = member.suspicions.iter().map(|s| s.accuser.short());
        let reason = format!("not heard by {}", accusers.collect::<Vec<_>>().join(", "));
        self.place(id);
        self.refresh(id, &reason);
    }

    /// Announces a member as online or not, if that changed.
    pub(super) fn refresh(&mut self, id: NodeId, reason: &str) {
        self.dirty.node(id);
        let online = self.is_online(&id);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.doubted &= !online;
        if std::mem::replace(&mut member.shown, online) == online {
            return;
        }
        let (name, left) = (member.name.clone(), member.has_left());
        let what = match (online, left) {
            (true, _) => What::NodeUp { id, name },
            (false, true) => What::NodeLeft { id, name },
            (false, false) => What::NodeDown {
                id,
                name,
                reason: reason.to_owned(),
            },
        };
        self.effects.push_back(Effect::Event(what));
        self.touch_services_of(id);
    }

    /// This node may know better or worse now what became of everybody.
    pub(super) fn set_caught_up(&mut self, caught_up: bool, reason: &str) {
        if std::mem::replace(&mut self.caught_up, caught_up) == caught_up {
            return;
        }
        let all: Vec<NodeId> = self.members.keys().copied().collect();
        for id in all {
            self.refresh(id, reason);
        }
    }

    /// Everything this node would say of a member to a peer that has just connected.
    pub(super) fn doubts_about(&self, id: NodeId) -> Option<Frame> {
        let member = self.members.get(&id)?;
        let doubts = member.suspicions.clone();
        (!doubts.is_empty()).then_some(Frame::Suspicions(doubts))
    }
}
