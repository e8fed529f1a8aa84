//! Observers: links of those who want to see who is here and are no members
//! ([`crate::mesh::observer`]).
//!
//! Such a link is in no list of links or members. It is shown everything once and ended; a word
//! on it ends it as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::spread::{Batch, Item};
use super::{Brain, Effect};
use crate::mesh::alive::LifeState;
use crate::mesh::close::CloseCode;
use crate::mesh::entry::Entry;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::observer::{MAX_BYTES, MAX_NODES, MAX_PEERS, cluster_of};
use crate::mesh::rate::Rate;
use crate::mesh::records::{ServiceRecord, is_node_record};
use crate::mesh::time::Now;
use crate::mesh::wire::Frame;

/// Observers at once: the next one is turned away.
const MAX_OBSERVERS: usize = 16;
/// Observers shown what there is, a second in the long run and at once: each answer may cost a
/// megabyte. The others wait.
const SHOWN_PER_SECOND: f64 = 1.0;
const SHOWN_AT_ONCE: f64 = 8.0;
/// Between two looks whether one of those that wait has its turn.
const TURN: Duration = Duration::from_millis(500);
/// A node that does not know what became of the others says what it knows after this.
const STALE_LASTS: Duration = Duration::from_secs(5);
/// Nobody takes longer to be shown everything.
const OBSERVER_LASTS: Duration = Duration::from_secs(30);
/// What a sign of life takes, or an entry beside its texts: both have fixed sizes, and lengths that
/// are at most this.
const ITEM_BYTES: usize = 160;

pub(super) struct Observers {
    links: BTreeMap<LinkId, Observer>,
    rate: Rate,
}

struct Observer {
    since: Duration,
    shown: bool,
}

impl Default for Observers {
    fn default() -> Self {
        Self {
            links: BTreeMap::new(),
            rate: Rate::new(SHOWN_PER_SECOND, SHOWN_AT_ONCE),
        }
    }
}

impl Observers {
    pub(super) fn contains(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// A link is gone; whether it was an observer's.
    pub(super) fn remove(&mut self, link: LinkId) -> bool {
        self.links.remove(&link).is_some()
    }
}

impl Brain {
    pub(super) fn observer_up(&mut self, now: Now, link: LinkId) {
        let full = self.observers.links.len() >= MAX_OBSERVERS;
        if full || self.alive.state == LifeState::Leave {
            self.count("too_many_observers");
            let code = CloseCode::Flood;
            return self.effects.push_back(Effect::Close { link, code });
        }
        let observer = Observer {
            since: now.mono,
            shown: false,
        };
        self.observers.links.insert(link, observer);
    }

    /// Nothing that an observer says is taken in.
    pub(super) fn refuse_word_of_observer(&mut self, link: LinkId) {
        self.count("observer_spoke");
        let code = CloseCode::Protocol;
        self.effects.push_back(Effect::Close { link, code });
    }

    /// Shows those who wait what there is, once this node knows it itself.
    pub(super) fn show_observers(&mut self, now: Now) {
        if self.observers.links.values().all(|observer| observer.shown) {
            return;
        }
        let fresh = self.caught_up || self.is_linked_to_all();
        let ready = |observer: &Observer| fresh || now.mono >= observer.since + STALE_LASTS;
        let waiting = self.observers.links.iter();
        let waiting = waiting.filter(|(_, observer)| !observer.shown && ready(observer));
        let waiting: Vec<LinkId> = waiting.map(|(link, _)| *link).collect();
        for link in waiting {
            if !self.observers.rate.take(now.mono, 1.0) {
                return;
            }
            if let Some(observer) = self.observers.links.get_mut(&link) {
                observer.shown = true;
            }
            let shown = self.shown_to_observers();
            self.send_batch(link, shown);
            self.send(link, Frame::SyncDone { session: 0, fresh });
            self.effects.push_back(Effect::Finish { link });
        }
    }

    /// Who is online as far as this node knows, those with workers first, and the workers; and
    /// where this node and some of those that it has links to are.
    fn shown_to_observers(&self) -> Batch {
        let linked = self.links.values().map(|link| link.peer);
        let near: BTreeSet<NodeId> = linked.collect();
        let near = near.into_iter().take(MAX_PEERS - 1).chain([self.me]);
        let near: BTreeSet<NodeId> = near.collect();
        let others = self.members.keys().filter(|id| self.is_online(id));
        let online = others.copied().chain([self.me]);
        let shown = online.map(|id| (id, self.shown_of(id, near.contains(&id))));
        let (serving, others): (Vec<_>, Vec<_>) = shown.partition(|(_, of)| !of.is_empty());
        let mut batch = Batch::default();
        let mut room = MAX_BYTES;
        for (id, entries) in serving.into_iter().chain(others).take(MAX_NODES) {
            let texts = entries.iter().map(|entry| {
                let slot = &entry.slot;
                ITEM_BYTES + slot.bucket.as_str().len() + slot.key.len() + entry.value.len()
            });
            let left = room.checked_sub(ITEM_BYTES + texts.sum::<usize>());
            let alive = match id == self.me {
                true => Some(self.alive.clone()),
                false => self
                    .members
                    .get(&id)
                    .and_then(|member| member.alive.clone()),
            };
            if let (Some(left), Some(alive)) = (left, alive) {
                room = left;
                batch.add(Item::Alive(alive));
                entries
                    .into_iter()
                    .for_each(|entry| batch.add(Item::Entry(entry)));
            }
        }
        batch
    }

    /// The workers of a node, and if it is `near` what it says of itself.
    fn shown_of(&self, id: NodeId, near: bool) -> Vec<Entry> {
        let mut entries = self.ledger.live_of(id);
        entries.retain(|entry| {
            let slot = &entry.slot;
            if is_node_record(&slot.bucket, &slot.key) {
                return near && !entry.deleted;
            }
            let record = ServiceRecord::from_value(&entry.value);
            !entry.deleted && record.is_some_and(|r| cluster_of(&slot.bucket, &r).is_some())
        });
        entries
    }

    /// Ends the links of those who have had their time.
    pub(super) fn check_observers(&mut self, now: Now) {
        let over = |observer: &Observer| now.mono >= observer.since + OBSERVER_LASTS;
        let links = &mut self.observers.links;
        for (link, _) in links.extract_if(.., |_, observer| over(observer)) {
            let code = CloseCode::Timeout;
            self.effects.push_back(Effect::Close { link, code });
        }
    }

    pub(super) fn next_observer(&self) -> Option<Duration> {
        let next = self
            .observers
            .links
            .values()
            .map(|observer| match observer.shown {
                true => observer.since + OBSERVER_LASTS,
                false => (self.last_call + TURN).min(observer.since + OBSERVER_LASTS),
            });
        next.min()
    }
}
