//! Whom to dial, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::{Brain, Dialled, Effect, KnownPeer, Unpinned};
use crate::mesh::addr::PeerAddr;
use crate::mesh::alive::LifeState;
use crate::mesh::id::NodeId;
use crate::mesh::members::{Backoff, Member};
use crate::mesh::time::Now;

/// Dials of known nodes under way at once.
const MAX_DIALS: usize = 16;
/// Pause between two dials of members that are not known to be there, for every member that is:
/// together they find out about one that comes back as fast as a few would.
const RETRY_SHARE: Duration = Duration::from_millis(250);
/// ... but at least and at most.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Between two searches for a wrong clock (A9).
const SEARCH_EVERY: Duration = Duration::from_secs(3600);

impl Brain {
    pub(super) fn remember(&mut self, peer: KnownPeer) {
        if peer.id == self.me {
            return;
        }
        for at in &peer.learnt_at {
            self.unpinned.push(Unpinned {
                at: at.clone(),
                backoff: Backoff::default(),
                id: Some(peer.id),
            });
        }
        let mut member = Member::new(peer.id);
        member.name = peer.name;
        member.addresses = peer.addresses;
        member.last_seen_ms = peer.last_seen_ms;
        member.min_boot = peer.boot;
        // It may advertise no address at all: where it was learnt is where it is found again.
        member.hosts = peer.learnt_at;
        self.members.insert(peer.id, member);
        self.place(peer.id);
    }

    /// Adds a node to dial: from the token, a flag, or a beacon.
    pub fn add_target(&mut self, peer: PeerAddr) {
        match peer.id {
            Some(id) if id == self.me => {}
            Some(id) => {
                let member = self.members.entry(id).or_insert_with(|| Member::new(id));
                match peer.at.socket_addr() {
                    Some(addr) => {
                        member.learn(&[addr]);
                    }
                    None if !member.hosts.contains(&peer.at) => member.hosts.push(peer.at),
                    None => {}
                }
                self.place(id);
                // Somebody has just said where it is: it is tried at once.
                self.next_retry = Some(Duration::ZERO);
            }
            None => {
                if let Some(known) = self.unpinned.iter().find(|known| known.at == peer.at) {
                    // Learnt in an earlier start: pinned, never asked by address again (A3).
                    if let Some(id) = known.id {
                        self.add_target(PeerAddr {
                            id: Some(id),
                            at: peer.at,
                        });
                    }
                } else {
                    let backoff = Backoff::default();
                    self.unpinned.push(Unpinned {
                        at: peer.at,
                        backoff,
                        id: None,
                    });
                }
            }
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        now: Now,
        rng: &mut impl Rng,
        dialled: &Dialled,
        silent: bool,
        _reason: &str,
    ) {
        let alone = self.links.is_empty();
        match dialled {
            Dialled::Node(id) => {
                let last_word = self.dialling.remove(id).flatten();
                let mut spoke = false;
                if let Some(member) = self.members.get_mut(id) {
                    member.backoff.failed(now.mono, alone, rng);
                    // What it has said since the dial began says more than the dial.
                    spoke = last_word != member.last_word();
                    if spoke {
                        member.backoff.hope(now.mono);
                    }
                }
                self.overlay.unreachable(id);
                let watched = self.overlay.is_neighbour(id) || self.unsure.is_news(id);
                if silent && watched && !spoke {
                    self.hold_against(now, *id);
                }
            }
            Dialled::Host(at) => {
                for target in self.unpinned.iter_mut().filter(|target| target.at == *at) {
                    target.backoff.failed(now.mono, alone, rng);
                }
            }
        }
        if !silent {
            // Somebody answered, if only with a refusal: this node's knock was good.
            self.silent_since = None;
        } else if self.links.is_empty() && self.silent_since.is_none() {
            self.silent_since = Some(now.mono);
        }
        self.search_clock(now);
    }

    /// After a while of silence from everybody, asks whether this node's own clock is wrong.
    pub(super) fn search_clock(&mut self, now: Now) {
        let silent_for = self
            .silent_since
            .map(|since| now.mono.saturating_sub(since));
        let due = silent_for.is_some_and(|silent| silent >= self.silence_window);
        if !due || now.mono < self.next_search {
            return;
        }
        let pinned = self
            .members
            .values()
            .filter(|member| member.is_dialable() && member.links.is_empty());
        if let Some(member) = pinned.max_by_key(|member| member.last_seen_ms) {
            let (peer, targets) = (member.id, member.targets());
            self.next_search = now.mono + SEARCH_EVERY;
            self.effects
                .push_back(Effect::SearchClock { peer, targets });
        }
    }

    fn dial_room(&self) -> usize {
        MAX_DIALS.saturating_sub(self.dialling.len())
    }

    /// From when on the member may be dialled.
    fn dial_due_at(&self, id: &NodeId) -> Option<Duration> {
        let member = self.members.get(id).filter(|member| member.is_dialable())?;
        member.backoff.due_at()
    }

    /// When to try members that are not known to be there. Without any link everybody is worth a
    /// try at once; with some, the members take turns.
    fn retry_due_at(&self) -> Option<Duration> {
        if self.links.is_empty() {
            let absent = self.overlay.absent();
            return absent.filter_map(|id| self.dial_due_at(id)).min();
        }
        self.next_retry
    }

    /// When the next dial can start. Without room, the end of a dial comes first: a timer for
    /// what must wait would only spin.
    pub(super) fn next_dial(&self) -> Option<Duration> {
        if self.alive.state == LifeState::Leave {
            return None;
        }
        let near = self.overlay.missing().chain(self.unsure.news());
        let near = near.filter_map(|id| self.dial_due_at(id)).min();
        let pinned = near.into_iter().chain(self.retry_due_at());
        let pinned = pinned.filter(|_| self.dial_room() > 0).min();
        let open = self.unpinned.iter().filter(|target| target.id.is_none());
        let hosts = open.filter_map(|target| target.backoff.due_at()).min();
        pinned.into_iter().chain(hosts).min()
    }

    pub(super) fn start_dials(&mut self, now: Now, rng: &mut impl Rng) {
        if self.alive.state == LifeState::Leave {
            return;
        }
        let due = |id: &&NodeId| self.dial_due_at(id).is_some_and(|at| at <= now.mono);
        let near = self.overlay.missing().chain(self.unsure.news());
        let near: BTreeSet<NodeId> = near.filter(due).copied().collect();
        for id in near.into_iter().take(self.dial_room()) {
            self.dial_member(id);
        }
        self.retry_absent(now, rng);
        let open = self
            .unpinned
            .iter_mut()
            .filter(|target| target.id.is_none());
        for target in open.filter(|target| target.backoff.due(now.mono)) {
            target.backoff.dialling = true;
            self.effects.push_back(Effect::Dial {
                dialled: Dialled::Host(target.at.clone()),
                targets: vec![target.at.clone()],
            });
        }
    }

    /// Dials members that are not known to be there: who was met before comes before who was only
    /// heard of, and then who waits longest. Neither the order of ids nor made-up members can keep
    /// one waiting for ever.
    fn retry_absent(&mut self, now: Now, rng: &mut impl Rng) {
        if self.overlay.absent().next().is_none() {
            self.next_retry = None;
            return;
        }
        if self.next_retry.is_none() {
            // Everybody has just missed the same node: not all may dial it at the same moment.
            let wait = self.retry_pause().mul_f64(rng.random_range(0.0..1.0));
            self.next_retry = Some(now.mono + wait);
        }
        let due_now = self.retry_due_at().is_some_and(|at| at <= now.mono);
        if !due_now || self.dial_room() == 0 {
            return;
        }
        let due = self.overlay.absent().filter_map(|id| {
            let at = self.dial_due_at(id).filter(|at| *at <= now.mono)?;
            let met = self.members.get(id).is_some_and(|m| m.last_seen_ms > 0);
            Some((!met, at, *id))
        });
        let mut due: Vec<(bool, Duration, NodeId)> = due.collect();
        due.sort_unstable();
        let alone = self.links.is_empty();
        due.truncate(if alone { self.dial_room() } else { 1 });
        for (_, _, id) in due {
            self.dial_member(id);
        }
        let pause = self.retry_pause().mul_f64(rng.random_range(0.75..1.25));
        self.next_retry = Some(now.mono + pause);
    }

    fn retry_pause(&self) -> Duration {
        let members = u32::try_from(self.overlay.standing()).unwrap_or(u32::MAX);
        let (least, most) = RETRY_PAUSE;
        RETRY_SHARE.saturating_mul(members).clamp(least, most)
    }

    pub(super) fn dial_member(&mut self, peer: NodeId) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        member.backoff.dialling = true;
        self.dialling.insert(peer, member.last_word());
        let targets = member.targets();
        self.effects.push_back(Effect::Dial {
            dialled: Dialled::Node(peer),
            targets,
        });
    }
}
