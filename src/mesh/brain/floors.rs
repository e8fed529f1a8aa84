//! Floors: how an author is rid of its tombstones (C21), and how everybody learns of it.

use super::spread::refusal_word;
use super::{Brain, Effect, Save};
use crate::mesh::entry::{Entry, EntryError};
use crate::mesh::floor::Floor;
use crate::mesh::id::NodeId;
use crate::mesh::ledger::FloorMerge;
use crate::mesh::time::Now;

/// What this node signed anew so that everything older of it can go. Both are stored in one
/// transaction before [`Brain::apply_compaction`].
#[derive(Clone, Debug, PartialEq)]
pub struct Compacted {
    /// Everything this node still stands by, above the floor.
    pub survivors: Vec<Entry>,
    /// Voids what is older.
    pub floor: Floor,
}

impl Brain {
    /// Signs what is worth keeping anew, if the tombstones of this node outweigh it. Only while no
    /// other write of this node waits for the disk: its version would be below the floor.
    ///
    /// # Errors
    /// What an entry may not be; nothing was changed.
    pub fn compact(&mut self, now: Now) -> Result<Option<Compacted>, EntryError> {
        let Some(plan) = self.ledger.compaction(now) else {
            return Ok(None);
        };
        let drafts = plan.survivors.into_iter();
        let signed = drafts.map(|draft| Entry::sign(self.network, &self.identity, draft));
        Ok(Some(Compacted {
            survivors: signed.collect::<Result<_, _>>()?,
            floor: Floor::sign(self.network, &self.identity, plan.floor),
        }))
    }

    /// Merges and spreads what the store has made durable: survivors first.
    pub fn apply_compaction(&mut self, now: Now, compacted: Compacted) {
        for entry in compacted.survivors {
            self.take_entry(now, None, entry);
        }
        self.take_floor(now, None, compacted.floor);
        self.tell_news();
    }

    /// Takes in a floor: verified, saved with everything it voids, and passed on once.
    pub(super) fn take_floor(&mut self, now: Now, from: Option<NodeId>, floor: Floor) {
        match self.ledger.check_floor(&floor, now) {
            FloorMerge::Taken { .. } => {}
            FloorMerge::Known | FloorMerge::Older => return,
            FloorMerge::Refused(refusal) => {
                if floor.verify(self.network) {
                    self.ledger.note_refused_floor(&floor, refusal, now);
                }
                return self.count(refusal_word(refusal));
            }
        }
        if from.is_some() && !floor.verify(self.network) {
            return self.count("bad_signature");
        }
        let FloorMerge::Taken { forgotten, .. } = self.ledger.merge_floor(floor, now) else {
            return;
        };
        if from.is_some() {
            self.effects.push_back(Effect::Save(Save::Floor(floor)));
        }
        if let Some(author) = forgotten {
            self.effects
                .push_back(Effect::Save(Save::ForgetFloor(author)));
        }
        self.sessions.changed(now.mono);
        self.news.floor(from, floor);
    }
}
