//! Which machines go because nobody answers there, and who of them may come back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Edits, Table, is_note, says_same, with_notes};
use crate::mesh::ip_table::{Misses, Place, Row, Source, State};

impl Table {
    /// Removes machines that are unreachable: those others told of, and with `all` those of the
    /// user, too. Says which.
    pub fn prune(&self, all: bool) -> (Edits, Vec<Arc<Row>>) {
        self.prune_where(|row| row.source.may_expire() || (all && row.source != Source::Own))
    }

    /// As [`Table::prune`] without `all`, of the machines at `places` only.
    pub fn prune_among(&self, places: &BTreeSet<Place>) -> (Edits, Vec<Arc<Row>>) {
        self.prune_where(|row| row.source.may_expire() && places.contains(&row.place))
    }

    /// Members that spoke of themselves in rows which went because nobody answered. Should one
    /// answer again, [`Table::record`] brings its row back; what the user removed stays away.
    pub fn pruned(&self) -> Vec<Arc<Row>> {
        let places = self.kept.keys();
        let rows = places.filter_map(|place| self.pruned_at(place));
        rows.filter(|row| self.speaker(row).is_some())
            .map(Arc::new)
            .collect()
    }

    fn prune_where(&self, may_go: impl Fn(&Row) -> bool) -> (Edits, Vec<Arc<Row>>) {
        let mut gone = self.list();
        gone.retain(|row| may_go(row) && row.state() == State::Unreachable);
        let mut edits = Edits::default();
        for row in &gone {
            self.remove_row(row, row.misses, &mut edits);
        }
        // Notes about machines that nobody tells of any more are shown nowhere.
        let notes = self.kept.values().filter(|row| is_note(row));
        let stale = notes.filter(|row| self.told_of(row).is_none());
        edits.remove.extend(stale.map(|row| row.place.clone()));
        (edits, gone)
    }

    /// `misses` tells a row that went because nobody answered from one that the user removed.
    pub(super) fn remove_row(&self, row: &Row, misses: Misses, edits: &mut Edits) {
        if let Some(kept) = self.kept_of(row) {
            edits.remove.push(kept.place.clone());
        }
        if let Some(told) = self.told_of(row) {
            let mut hidden = Row::clone(&told.row);
            hidden.hidden = true;
            hidden.misses = misses;
            edits.put.push(hidden.into());
        }
    }

    /// The row of which this is the key, if it is hidden because nobody answered.
    pub(super) fn pruned_at(&self, place: &Place) -> Option<Row> {
        let kept = self.kept.get(place)?;
        let told = self.told_of(kept)?;
        let is_pruned = is_note(kept) && kept.hidden && kept.state() == State::Unreachable;
        let row = Row::clone(&with_notes(told, kept));
        (is_pruned && says_same(kept, &told.row)).then_some(Row {
            hidden: true,
            ..row
        })
    }
}
