//! Members that this node knew before it was cut off, and of whom nobody has said since that they
//! are still there; and, while nobody is fresh, those of whom it was told.
//!
//! They may have died while this node heard nobody: then those who saw it may not even know their
//! last start, and would believe it for as long as it takes to dial them in vain. So this node
//! neither shows nor tells what a peer that is fresh does not know, until it has a link to the
//! member or has dialled it in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Brain;
use crate::mesh::entry::{Class, ItemId};
use crate::mesh::id::NodeId;
use crate::mesh::time::Now;

/// After this a member that can neither be linked nor held to account is believed in: a node that
/// is unsure of anybody tells nobody the sum of what it holds.
const UNSURE_LASTS: Duration = Duration::from_secs(60);

/// The members, and whether a peer was found not to know their sign of life.
#[derive(Default)]
pub(super) struct Unsure {
    members: BTreeMap<NodeId, bool>,
    /// Since when those that are left are being dialled.
    since: Option<Duration>,
}

impl Unsure {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn contains(&self, id: &NodeId) -> bool {
        self.members.contains_key(id)
    }

    /// Whether a peer did not know it: it is dialled, neighbour or not.
    pub(super) fn is_news(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(|is_news| *is_news)
    }

    pub(super) fn forget(&mut self, id: &NodeId) {
        self.members.remove(id);
    }

    /// Members that only a dial can tell about.
    pub(super) fn news(&self) -> impl Iterator<Item = &NodeId> {
        self.members
            .iter()
            .filter_map(|(id, is_news)| is_news.then_some(id))
    }
}

impl Brain {
    /// This node hears nobody.
    pub(super) fn doubt_everybody(&mut self) {
        let standing = self.members.values().filter(|member| member.stands());
        self.unsure.members = standing.map(|member| (member.id, false)).collect();
        self.unsure.since = None;
    }

    /// What became of a member is known: it has a link, or is gone. What was not told before is told
    /// now, and with its sign of life what is said against it: whoever said that may be somebody
    /// whose words this node passes on to nobody.
    pub(super) fn make_sure(&mut self, id: &NodeId) {
        if self.unsure.members.remove(id) != Some(true) {
            return;
        }
        let Some(member) = self.members.get(id) else {
            return;
        };
        if let Some(alive) = member.alive.clone() {
            self.news.alive(None, alive);
            for doubt in &member.suspicions {
                self.news.suspicion(None, *doubt);
            }
            for entry in self.ledger.live_of(*id) {
                self.news.entry(None, entry);
            }
        }
    }

    /// Without what concerns members of whom this node is not sure. The peer does not know it.
    pub(super) fn without_unsure(&mut self, ids: &[ItemId]) -> Vec<ItemId> {
        if self.unsure.is_empty() {
            return ids.to_vec();
        }
        let mut told = Vec::with_capacity(ids.len());
        for id in ids {
            let about = self.statements.get(id).copied().or_else(|| {
                let slot = &self.ledger.by_id(id)?.slot;
                (slot.class == Class::Live).then_some(slot.author)
            });
            match about.and_then(|about| self.unsure.members.get_mut(&about)) {
                Some(is_news) => *is_news = true,
                None => told.push(*id),
            }
        }
        told
    }

    /// A session with a peer that is fresh is over: whom it knows, too, is there as far as anybody
    /// knows. The others are dialled.
    pub(super) fn believe_known(&mut self, now: Now) {
        self.unsure.members.retain(|_, is_news| *is_news);
        self.dial_unsure(now);
    }

    /// There is nobody who is fresh, and what they told this node is as old as what it knew. Whoever
    /// has no link to its neighbours by now has to dial them; the others are watched by theirs.
    pub(super) fn believe_watched(&mut self, now: Now) {
        let neighbours = self.members.values().filter(|member| {
            member.stands() && member.links.is_empty() && self.overlay.is_neighbour(&member.id)
        });
        self.unsure.members = neighbours.map(|member| (member.id, true)).collect();
        self.dial_unsure(now);
    }

    /// A neighbour that is fresh holds all that this node holds.
    pub(super) fn believe_all(&mut self) {
        for id in std::mem::take(&mut self.unsure).members.into_keys() {
            self.refresh(id, "");
        }
    }

    /// What cannot be found out is believed in the end.
    pub(super) fn check_unsure(&mut self, now: Now) {
        let over = |since: Duration| now.mono >= since + UNSURE_LASTS;
        if self.unsure.since.is_some_and(over) {
            self.believe_all();
        }
    }

    fn dial_unsure(&mut self, now: Now) {
        if self.unsure.since.is_some() {
            return;
        }
        self.unsure.since = Some(now.mono);
        for id in self.unsure.news() {
            if let Some(member) = self.members.get_mut(id) {
                member.backoff.hope(now.mono);
            }
        }
    }
}
