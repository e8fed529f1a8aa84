//! What was refused, so that reconciliation does not fetch it again and again (C23).
//!
//! Bounded: what falls out is fetched and refused once more. An id covers everything of an item
//! but its signature, so what is remembered under it holds for every copy; a copy with a bad
//! signature must not be noted, or it would keep the good one out.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Ledger, MAX_AHEAD_MS, Refusal, VERSIONS_PER_MS};
use crate::mesh::entry::{Entry, ItemId};
use crate::mesh::floor::Floor;
use crate::mesh::id::NodeId;
use crate::mesh::time::Now;

/// How many refused ids are remembered; the oldest go first.
pub const MAX_REFUSED: usize = 4096;
/// After this an item that found no room is tried again: others may have left.
const RETRY_FULL: Duration = Duration::from_secs(10 * 60);

#[derive(Default)]
pub(super) struct RefusedIds {
    oldest_first: VecDeque<ItemId>,
    until: HashMap<ItemId, Until>,
}

/// What would make a refused item welcome.
#[derive(Clone, Copy)]
enum Until {
    /// Nothing: floors only rise.
    Never,
    /// The wall clock, at these milliseconds since the Unix epoch.
    Wall(u64),
    /// The monotonic clock.
    Mono(Duration),
    /// News of this author's start.
    Boot(NodeId),
}

impl RefusedIds {
    fn note(&mut self, id: ItemId, until: Until) {
        if self.until.insert(id, until).is_some() {
            return;
        }
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > MAX_REFUSED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.until.remove(&oldest);
        }
    }

    fn holds(&self, id: &ItemId, now: Now) -> bool {
        self.until.get(id).is_some_and(|until| match until {
            Until::Never | Until::Boot(_) => true,
            Until::Wall(unix_ms) => now.unix_ms < *unix_ms,
            Until::Mono(at) => now.mono < *at,
        })
    }

    /// Forgets what waited for a start of `author`.
    pub(super) fn started(&mut self, author: NodeId) {
        let waits = |until: &Until| matches!(until, Until::Boot(who) if *who == author);
        if self.until.values().any(waits) {
            self.until.retain(|_, until| !waits(until));
            self.oldest_first.retain(|id| self.until.contains_key(id));
        }
    }
}

impl Ledger {
    /// Remembers that `entry` was refused, or found no room ([`Refusal::AuthorFull`]). Never to
    /// be called for a signature that does not hold.
    pub fn note_refused(&mut self, entry: &Entry, why: Refusal, now: Now) {
        let until = until(why, entry.version, entry.slot.author, now);
        self.refused.note(entry.id(self.network), until);
    }

    /// As [`Ledger::note_refused`].
    pub fn note_refused_floor(&mut self, floor: &Floor, why: Refusal, now: Now) {
        let until = until(why, floor.floor, floor.author, now);
        self.refused.note(floor.id(self.network), until);
    }

    /// Whether the item with this id was refused and still would be, as far as is remembered.
    pub fn is_refused(&self, id: &ItemId, now: Now) -> bool {
        self.refused.holds(id, now)
    }

    /// All ids for which [`Ledger::is_refused`] holds.
    pub fn refused_ids(&self, now: Now) -> impl Iterator<Item = ItemId> + '_ {
        let ids = self.refused.oldest_first.iter().copied();
        ids.filter(move |id| self.refused.holds(id, now))
    }
}

fn until(why: Refusal, version: u64, author: NodeId, now: Now) -> Until {
    match why {
        Refusal::Future => Until::Wall((version / VERSIONS_PER_MS).saturating_sub(MAX_AHEAD_MS)),
        Refusal::Boot => Until::Boot(author),
        Refusal::Floor => Until::Never,
        Refusal::AuthorFull | Refusal::Full => Until::Mono(now.mono + RETRY_FULL),
    }
}
