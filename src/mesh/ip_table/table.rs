//! The rows together: what a change does to them, and what is shown of them.
//!
//! Two kinds of knowledge are kept apart. *Kept* rows are this node's: what its user gave, itself,
//! and what it measured. *Told* rows are what other nodes say in the ledger; they are read from
//! there and never copied, so what is shown of them is a function of the ledger, in whatever order
//! its entries came, and of where members are reached ([`super::Reached`]). A told row fills the
//! name and the text that a kept one leaves open, and replaces nothing but what strangers sent.
//!
//! Changes are values: [`Table::import`] and its like say what is to be stored, and
//! [`Table::apply`] takes it over when it is.

mod import;
mod post;
mod prune;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MAX_ROWS, Measured, Misses, Place, Row, Source};
use crate::mesh::id::NodeId;
use import::Import;
pub use post::{MAX_POSTED, MAX_POSTED_BYTES, MAX_TOLD_ROWS, Posted, Stranger};

/// Most rows that one node tells the others of. The ledger of a network is bounded, and an IP
/// table must not fill it.
const MAX_SHARED: usize = 64;

/// The rows of one node, with what others tell.
#[derive(Debug, Default)]
pub struct Table {
    kept: BTreeMap<Place, Arc<Row>>,
    /// Second addresses of kept rows, and whose they are.
    second: BTreeMap<Place, Place>,
    told: BTreeMap<Place, Told>,
}

/// What another node says of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The machine; its source is [`Source::Learnt`] from the author.
    pub row: Arc<Row>,
    /// Whether the author speaks of itself.
    pub own: bool,
}

impl Told {
    /// Of several authors, a machine that speaks of itself, then the least id.
    fn rank(&self) -> (bool, Option<NodeId>) {
        (!self.own, author(&self.row))
    }
}

/// What is to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Rows to set.
    pub put: Vec<Arc<Row>>,
    /// Rows to remove, before that.
    pub remove: Vec<Place>,
}

impl Edits {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }
}

/// Why rows were not taken. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// They would be more than [`MAX_ROWS`].
    #[error("the table would have {rows} rows, at most {MAX_ROWS} are kept")]
    Full {
        /// How many.
        rows: usize,
    },
    /// Replacing everything with nothing is how P2PRC loses its table.
    #[error("there are no rows to replace the table with")]
    Empty,
}

/// What an import does, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Machines that were not known.
    pub added: usize,
    /// Machines of which something is new.
    pub changed: usize,
    /// Machines of which everything was known.
    pub unchanged: usize,
    /// Rows that are replaced: removed without a successor.
    pub removed: usize,
    /// Rows about this node, which are not taken.
    pub own: usize,
}

/// How a try to reach a machine ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Probe {
    /// It answered. Figures that were not measured this time stay as they were.
    Answered(Measured),
    /// It did not.
    Missed,
}

/// Tries that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whether this machine is known to have a network, for example because links are up. Without
    /// that, and without one answer in the round, its own outage is the likelier cause, and no
    /// miss is counted.
    pub online: bool,
    /// What happened.
    pub results: Vec<(Place, Probe)>,
}

/// What became of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Machines that answered.
    pub answered: usize,
    /// Misses counted.
    pub missed: usize,
    /// Misses not counted: this machine itself was offline.
    pub excused: usize,
    /// Results about machines that are in the table no more.
    pub gone: usize,
}

impl Table {
    /// A table of these kept rows.
    pub fn new(rows: Vec<Row>) -> Self {
        let mut table = Self::default();
        for row in rows {
            table.put(row.into());
        }
        table
    }

    /// Replaces what others tell. The order does not matter.
    pub fn set_told(&mut self, told: impl IntoIterator<Item = Told>) {
        self.told.clear();
        for told in told {
            let known = self.told.get(&told.row.place);
            if known.is_none_or(|known| told.rank() < known.rank()) {
                self.told.insert(told.row.place.clone(), told);
            }
        }
    }

    /// Every machine, by place.
    pub fn list(&self) -> Vec<Arc<Row>> {
        let mut all: Vec<_> = self.kept.values().filter_map(|r| self.shown(r)).collect();
        let told = self.told.values().map(|told| &told.row);
        all.extend(told.filter(|row| self.kept_of(row).is_none()).cloned());
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all
    }

    /// The machine at `place`, by any of its addresses.
    pub fn get(&self, place: &Place) -> Option<Arc<Row>> {
        match self.kept_at(place) {
            Some(row) => self.shown(row),
            None => self.told.get(place).map(|told| Arc::clone(&told.row)),
        }
    }

    /// The node that speaks of itself in a row that others told: it can be asked over the mesh.
    pub fn speaker(&self, row: &Row) -> Option<NodeId> {
        let author = author(row)?;
        let told = self.told_of(row).filter(|told| told.own);
        told.filter(|told| self::author(&told.row) == Some(author))?;
        Some(author)
    }

    /// This node's own row.
    pub fn own(&self) -> Option<&Arc<Row>> {
        self.kept.values().find(|row| row.source == Source::Own)
    }

    /// Takes `rows` in as `source`. What they say of a machine goes before what was known, what
    /// they leave open stays; with `replace` nothing stays but measurements, and rows of the user
    /// that are not among them go. The row of this node is never touched, and what the user
    /// configured stays configured.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn import(
        &self,
        rows: Vec<Row>,
        source: Source,
        replace: bool,
    ) -> Result<(Edits, Merged), Refused> {
        if replace && rows.is_empty() {
            return Err(Refused::Empty);
        }
        let mut import = Import::into(self, source, replace);
        for row in rows {
            import.take(row);
        }
        import.end()
    }

    /// Removes the machine at `place`, whoever told of it; `None` if there is none.
    pub fn remove(&self, place: &Place) -> Option<Edits> {
        let row = self.get(place)?;
        let mut edits = Edits::default();
        self.remove_row(&row, Misses::default(), &mut edits);
        Some(edits)
    }

    /// Says something of this node itself, for all to see. Its row moves to `at` if that is given;
    /// one that is not there yet is `new`, or is made at `at`. `None` without any of them.
    pub fn annotate(&self, text: String, at: Option<Place>, new: Option<Row>) -> Option<Edits> {
        let mut edits = Edits::default();
        let mut row = match (self.own(), at) {
            (Some(own), None) => Row::clone(own),
            (Some(own), Some(at)) if own.places().any(|known| known == at) => Row::clone(own),
            (Some(own), Some(at)) => {
                edits.remove.push(own.place.clone());
                let mut row = Row::clone(own);
                (row.place, row.other) = (at, None);
                row
            }
            (None, None) => new?,
            (None, Some(at)) => {
                let mut row = Row::new(at, Source::Own);
                row.name = new.map(|new| new.name).unwrap_or_default();
                row
            }
        };
        row.source = Source::Own;
        // What was kept of these addresses was about this node.
        for place in row.places().collect::<Vec<_>>() {
            let kept = self
                .kept_at(&place)
                .filter(|kept| kept.source != Source::Own);
            if let Some(kept) = kept.filter(|kept| !edits.remove.contains(&kept.place)) {
                edits.remove.push(kept.place.clone());
                if kept.source != Source::Posted {
                    row.fill(Row::clone(kept));
                }
            }
        }
        row.carried.custom_information = text;
        edits.put.push(row.into());
        Some(edits)
    }

    /// Notes what was measured. A row is never removed by it.
    pub fn record(&self, round: &Round) -> (Edits, Recorded) {
        let mut recorded = Recorded::default();
        let is_answer = |(_, probe): &(Place, Probe)| matches!(probe, Probe::Answered(_));
        let counts = round.online || round.results.iter().any(is_answer);
        let mut put: BTreeMap<Place, Row> = BTreeMap::new();
        for (place, probe) in &round.results {
            let Some(row) = self.to_note(place) else {
                recorded.gone += 1;
                continue;
            };
            let row = put.entry(row.place.clone()).or_insert(row);
            match probe {
                Probe::Answered(new) => {
                    recorded.answered += 1;
                    row.measured = Some(together(*new, row.measured));
                    row.misses = Misses::default();
                    row.hidden = false;
                }
                Probe::Missed if counts => {
                    recorded.missed += 1;
                    row.misses = Misses {
                        count: row.misses.count.saturating_add(1),
                        last_ms: round.at_ms,
                    };
                }
                Probe::Missed => recorded.excused += 1,
            }
        }
        let mut edits = Edits::default();
        for row in put.into_values() {
            if self.kept.get(&row.place).is_none_or(|old| **old != row) {
                edits.put.push(row.into());
            }
        }
        (edits, recorded)
    }

    /// What `me` tells the others: itself, then what its user gave. What a node with a lesser id
    /// tells in the same words is left to that one, so that a table that everybody imported is in
    /// the ledger once.
    pub fn shared(&self, me: NodeId) -> Vec<Arc<Row>> {
        let kept = self.kept.values();
        let mut rows: Vec<&Arc<Row>> = kept.filter(|row| may_be_told(row)).collect();
        rows.sort_by_key(|row| match row.source {
            Source::Own => 0,
            Source::Configured => 1,
            _ => 2,
        });
        let others_do = |row: &Row| {
            let told = self
                .told
                .get(&row.place)
                .filter(|_| row.source != Source::Own);
            told.is_some_and(|t| author(&t.row) < Some(me) && says_same(row, &t.row))
        };
        let mine = rows.into_iter().filter(|row| !others_do(row));
        mine.take(MAX_SHARED).cloned().collect()
    }

    /// Takes over what was stored.
    pub fn apply(&mut self, edits: Edits) {
        for place in &edits.remove {
            self.forget(place);
        }
        for row in edits.put {
            self.put(row);
        }
    }

    fn put(&mut self, row: Arc<Row>) {
        self.forget(&row.place);
        for place in row.places().skip(1) {
            self.second.insert(place, row.place.clone());
        }
        self.kept.insert(row.place.clone(), row);
    }

    fn forget(&mut self, place: &Place) {
        let Some(row) = self.kept.remove(place) else {
            return;
        };
        for second in row.places().skip(1) {
            if self.second.get(&second) == Some(place) {
                self.second.remove(&second);
            }
        }
    }

    fn kept_at(&self, place: &Place) -> Option<&Arc<Row>> {
        let found = self.kept.get(place);
        found.or_else(|| self.kept.get(self.second.get(place)?))
    }

    /// The kept row of the same machine.
    fn kept_of(&self, row: &Row) -> Option<&Arc<Row>> {
        row.places().find_map(|place| self.kept_at(&place))
    }

    fn told_of(&self, row: &Row) -> Option<&Told> {
        row.places().find_map(|place| self.told.get(&place))
    }

    /// A kept row as it is shown, with what others tell of it.
    fn shown(&self, row: &Arc<Row>) -> Option<Arc<Row>> {
        let told = self.told_of(row);
        match row.source {
            Source::Own => Some(Arc::clone(row)),
            Source::Configured | Source::Imported => {
                let Some(told) = told.filter(|told| told.own) else {
                    return Some(Arc::clone(row));
                };
                // What only is shown. A key or an account that another node names must not
                // come into a row of the user, from where P2PRC would let it in.
                let theirs = &told.row;
                let mut filled = Row::clone(row);
                for (mine, theirs) in [
                    (&mut filled.name, &theirs.name),
                    (
                        &mut filled.carried.custom_information,
                        &theirs.carried.custom_information,
                    ),
                ] {
                    if mine.is_empty() {
                        mine.clone_from(theirs);
                    }
                }
                Some(filled.into())
            }
            // A machine that is a member and speaks of itself goes before a stranger's word.
            Source::Posted => match told.filter(|told| told.own) {
                Some(told) => Some(with_notes(told, row)),
                None => Some(Arc::clone(row)),
            },
            // Only what was measured of it is kept; it lasts as long as somebody tells of it.
            Source::Learnt(_) => {
                let told = told?;
                match row.hidden {
                    false => Some(with_notes(told, row)),
                    true => (!says_same(row, &told.row)).then(|| Arc::clone(&told.row)),
                }
            }
        }
    }

    /// A copy of the row in which a measurement of `place` is noted.
    fn to_note(&self, place: &Place) -> Option<Row> {
        let kept = self.kept_at(place).filter(|row| !is_note(row));
        match kept {
            Some(row) => Some(Row::clone(row)),
            None => match self.get(place) {
                Some(row) => Some(Row::clone(&row)),
                None => self.pruned_at(place),
            },
        }
    }
}

/// A measurement with the figures of an earlier one where it has none.
fn together(new: Measured, old: Option<Measured>) -> Measured {
    let Some(old) = old else { return new };
    Measured {
        least: new.least.or(old.least),
        median: new.median.or(old.median),
        download: new.download.or(old.download),
        upload: new.upload.or(old.upload),
        ..new
    }
}

/// What others told is theirs to tell. A machine behind a NAT that does not escape it is nobody's
/// but its neighbours': P2PRC does not advertise it either.
fn may_be_told(row: &Row) -> bool {
    !row.source.may_expire() && !is_shut_in(row)
}

fn is_shut_in(row: &Row) -> bool {
    row.flags.nat && row.carried.escape_implementation == "None"
}

/// Whether only what was measured of it is kept, and the rest is told.
fn is_note(row: &Row) -> bool {
    matches!(row.source, Source::Learnt(_))
}

/// What is told, with what was measured of it.
fn with_notes(told: &Told, kept: &Row) -> Arc<Row> {
    let mut shown = Row::clone(&told.row);
    shown.measured = kept.measured;
    shown.misses = kept.misses;
    shown.into()
}

fn is_users(row: &Row) -> bool {
    matches!(row.source, Source::Configured | Source::Imported)
}

/// Who tells a row.
pub(super) fn author(row: &Row) -> Option<NodeId> {
    match row.source {
        Source::Learnt(node) => Some(node),
        _ => None,
    }
}

/// Whether two rows say the same of a machine, as far as one node tells another.
fn says_same(a: &Row, b: &Row) -> bool {
    let texts = a.carried.texts() == b.carried.texts();
    texts && a.place == b.place && a.other == b.other && a.name == b.name && a.flags == b.flags
}

#[cfg(test)]
mod tests;
