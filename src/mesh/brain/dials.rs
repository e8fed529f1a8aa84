//! Whom to dial, and when.

use std::time::Duration;

use rand::Rng;

use super::{Brain, Dialled, Effect, KnownPeer, Unpinned};
use crate::mesh::addr::PeerAddr;
use crate::mesh::entry::LifeState;
use crate::mesh::id::NodeId;
use crate::mesh::members::{Backoff, Member};
use crate::mesh::time::Now;

/// Dials of known nodes under way at once.
const MAX_DIALS: usize = 16;
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
        match dialled {
            Dialled::Node(id) => {
                if let Some(member) = self.members.get_mut(id) {
                    member.backoff.failed(now.mono, rng);
                }
            }
            Dialled::Host(at) => {
                for target in self.unpinned.iter_mut().filter(|target| target.at == *at) {
                    target.backoff.failed(now.mono, rng);
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

    /// When to dial `member`: it has no link, or none that will do for much longer.
    fn dial_due_at(&self, member: &Member) -> Option<Duration> {
        let mut due = member
            .backoff
            .due_at()
            .filter(|_| member.is_dialable() && self.alive.state == LifeState::Alive)?;
        for link in member.links.iter().filter_map(|link| self.links.get(link)) {
            due = due.max(link.renew_at(&self.timing)?);
        }
        Some(due)
    }

    fn dial_room(&self) -> usize {
        let dialling = self.members.values().filter(|m| m.backoff.dialling);
        MAX_DIALS.saturating_sub(dialling.count())
    }

    /// When the next dial can start. Without room, the end of a dial comes first: a timer for
    /// what must wait would only spin.
    pub(super) fn next_dial(&self) -> Option<Duration> {
        let room = self.dial_room() > 0;
        let members = self.members.values().filter(|_| room);
        let pinned = members.filter_map(|member| self.dial_due_at(member)).min();
        let leaving = self.alive.state == LifeState::Leave;
        let open = self.unpinned.iter();
        let open = open.filter(|target| target.id.is_none() && !leaving);
        let hosts = open.filter_map(|target| target.backoff.due_at()).min();
        pinned.into_iter().chain(hosts).min()
    }

    pub(super) fn start_dials(&mut self, now: Now) {
        if self.alive.state == LifeState::Leave {
            return;
        }
        // Who waits longest is first, and who was met before is before who was only heard of:
        // neither the order of ids nor made-up members can keep one node waiting for ever.
        let due = self.members.values().filter_map(|member| {
            let at = self.dial_due_at(member).filter(|at| *at <= now.mono)?;
            Some((member.last_seen_ms == 0, at, member.id))
        });
        let mut due: Vec<(bool, Duration, NodeId)> = due.collect();
        due.sort_unstable();
        due.truncate(self.dial_room());
        for (_, _, peer) in due {
            self.dial_member(peer);
        }
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

    pub(super) fn dial_member(&mut self, peer: NodeId) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        member.backoff.dialling = true;
        let targets = member.targets();
        self.effects.push_back(Effect::Dial {
            dialled: Dialled::Node(peer),
            targets,
        });
    }
}
