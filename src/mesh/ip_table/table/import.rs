//! Rows of the user coming in: which machine each is about, and what becomes of that one's row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Edits, Merged, Table, is_users};
use crate::mesh::ip_table::{MAX_KEPT, MAX_ROWS, Place, Refused, Row, Source};

/// An import half way.
pub(super) struct Import<'t> {
    table: &'t Table,
    source: Source,
    replace: bool,
    /// Rows that are replaced by one that came, or stay as they are.
    touched: BTreeSet<Place>,
    /// Of those, the ones that stay.
    stays: BTreeSet<Place>,
    put: BTreeMap<Place, Arc<Row>>,
    /// Second addresses of those, and whose they are.
    second: BTreeMap<Place, Place>,
    gone: BTreeSet<Place>,
    merged: Merged,
}

impl<'t> Import<'t> {
    /// An import into `table`, as [`Table::import`] says.
    pub(super) fn into(table: &'t Table, source: Source, replace: bool) -> Self {
        Self {
            table,
            source,
            replace,
            touched: BTreeSet::new(),
            stays: BTreeSet::new(),
            put: BTreeMap::new(),
            second: BTreeMap::new(),
            gone: BTreeSet::new(),
            merged: Merged::default(),
        }
    }

    /// The row of the same machine, as it is after what was taken so far.
    fn current(&self, place: &Place) -> Option<&Arc<Row>> {
        self.put_at(place).or_else(|| {
            let kept = self.table.kept_at(place)?;
            let is_past = self.put.contains_key(&kept.place) || self.gone.contains(&kept.place);
            (!is_past).then_some(kept)
        })
    }

    /// The row of those taken that has `place`.
    fn put_at(&self, place: &Place) -> Option<&Arc<Row>> {
        let put = self.put.get(place);
        put.or_else(|| self.put.get(self.second.get(place)?))
    }

    fn put(&mut self, row: Row) {
        let place = row.place.clone();
        self.gone.remove(&place);
        for second in row.places().skip(1) {
            self.second.insert(second, place.clone());
        }
        self.put.insert(place, row.into());
    }

    /// Takes one row in.
    pub(super) fn take(&mut self, new: Row) {
        match self.replace {
            true => self.take_as_is(new),
            false => self.take_into(new),
        }
    }

    /// The row as it came; from what was known of the machine it has the measurements only.
    fn take_as_is(&mut self, new: Row) {
        let first = new.places().find_map(|place| self.put_at(&place));
        if let Some(first) = first {
            // Two rows of one machine: a document that was read has none.
            let mut row = Row::clone(first);
            row.fill(new);
            return self.put(row);
        }
        let old = new
            .places()
            .find_map(|place| self.table.kept_at(&place))
            .cloned();
        let source = self.source;
        let mut row = Row { source, ..new };
        match &old {
            Some(old) if old.source == Source::Own => return self.merged.own += 1,
            Some(old) if old.source == Source::Posted => {
                self.gone.insert(old.place.clone());
                if old.place == row.place {
                    (row.measured, row.misses) = (old.measured, old.misses);
                }
            }
            Some(old) => (row.measured, row.misses) = (old.measured, old.misses),
            None => {}
        }
        let mine = |place: &Place| match self.table.kept_at(place) {
            Some(kept) => kept.source != Source::Own && self.put_at(place).is_none(),
            None => self.put_at(place).is_none(),
        };
        let second = row.places().nth(1);
        row.other = row.other.filter(|_| second.as_ref().is_some_and(mine));
        match old {
            Some(old) if *old == row => {
                self.merged.unchanged += 1;
                self.touched.insert(old.place.clone());
                self.stays.insert(old.place.clone());
            }
            Some(old) if is_users(&old) => {
                self.merged.changed += 1;
                self.touched.insert(old.place.clone());
                self.put(row);
            }
            _ => {
                self.merged.added += 1;
                self.put(row);
            }
        }
    }

    /// The row together with what was known of the machine.
    fn take_into(&mut self, new: Row) {
        let find = |import: &Self| {
            new.places()
                .find_map(|place| import.current(&place))
                .cloned()
        };
        let mut old = find(self);
        let mut known = None;
        // A stranger's word is over when the user speaks: not even an address stays of it.
        while let Some(posted) = old.filter(|row| row.source == Source::Posted) {
            self.gone.insert(posted.place.clone());
            known = Some(posted).filter(|row| row.place == new.place).or(known);
            old = find(self);
        }
        let Some(old) = find(self) else {
            self.merged.added += 1;
            let source = self.source;
            let (measured, misses) = match known {
                Some(known) => (known.measured, known.misses),
                None => (new.measured, new.misses),
            };
            return self.put(Row {
                source,
                measured,
                misses,
                ..new
            });
        };
        if old.source == Source::Own {
            return self.merged.own += 1;
        }
        let row = self.united(new, &old);
        match () {
            () if row == *old => return self.merged.unchanged += 1,
            () if old.source.may_expire() => self.merged.added += 1,
            () => self.merged.changed += 1,
        }
        for place in old.places() {
            if self.second.get(&place) == Some(&old.place) {
                self.second.remove(&place);
            }
        }
        if row.place != old.place {
            self.put.remove(&old.place);
            if self.table.kept.contains_key(&old.place) {
                self.gone.insert(old.place.clone());
            }
        }
        self.put(row);
    }

    /// What is to be stored of it.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub(super) fn end(mut self) -> Result<(Edits, Merged), Refused> {
        if self.replace {
            let users = self.table.kept.values().filter(|row| is_users(row));
            for row in users.filter(|row| !self.stays.contains(&row.place)) {
                self.merged.removed += usize::from(!self.touched.contains(&row.place));
                if !self.put.contains_key(&row.place) {
                    self.gone.insert(row.place.clone());
                }
            }
        }
        let kept = &self.table.kept;
        let gone = self.gone.iter().filter(|at| kept.contains_key(at)).count();
        let new = self.put.keys().filter(|at| !kept.contains_key(at)).count();
        let rows = kept.len() - gone + new;
        if rows > MAX_ROWS {
            return Err(Refused::Full { rows });
        }
        let edits = Edits {
            put: self.put.into_values().collect(),
            remove: self.gone.into_iter().collect(),
        };
        Ok((edits, self.merged))
    }

    /// Whether `place` is that of another row than `old`.
    fn is_taken(&self, place: &Place, old: &Row) -> bool {
        let other = self.current(place);
        other.is_some_and(|other| other.place != old.place)
    }

    /// What `new` says of the machine of `old`, and what it leaves open from there. An address of
    /// another row stays with that.
    fn united(&self, new: Row, old: &Row) -> Row {
        let typed = self.source == Source::Configured;
        let places: Vec<Place> = new.places().collect();
        let mut row = Row {
            source: match old.source {
                Source::Configured => Source::Configured,
                _ => self.source,
            },
            // What was only ever typed in says nothing of flags.
            flags: if typed { old.flags } else { new.flags },
            place: old.place.clone(),
            other: old.other.clone(),
            measured: old.measured,
            misses: old.misses,
            ..new
        };
        let news = places
            .into_iter()
            .find(|place| row.places().all(|known| known != *place));
        let news = news.filter(|place| row.other.is_none() && !self.is_taken(place, old));
        if let Some(place) = news {
            row.add_host(place.host().clone());
        }
        if old.source.may_expire() {
            return row;
        }
        let known = &row.carried.kept;
        let more = old.carried.kept.iter();
        let more = more.filter(|(key, _)| known.iter().all(|(own, _)| own != key));
        let room = MAX_KEPT.saturating_sub(known.len());
        let more: Vec<_> = more.take(room).cloned().collect();
        row.carried.kept.extend(more);
        row.fill(old.clone());
        row
    }
}
