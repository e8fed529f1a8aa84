//! Networks of a document, among those that are known.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change::{Edits, Merged, NewNetwork, Refused};
use super::{Network, NetworkKey, Networks};

/// What a document means for what is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Import {
    /// Its networks come in, also those that were removed: the user says so. What is known stays
    /// as it is.
    #[default]
    Merge,
    /// As [`Import::Merge`]; and names and descriptions of the known ones are the document's, and
    /// all others are removed.
    Replace,
    /// It is shared with another explorer: what was removed here does not come back, and what does
    /// not fit any more stays out.
    Shared,
}

impl Networks {
    /// Takes the networks of a document in.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn import(
        &self,
        rows: Vec<NewNetwork>,
        how: Import,
        now_ms: u64,
    ) -> Result<(Edits, Merged), Refused> {
        if how == Import::Replace && rows.is_empty() {
            return Err(Refused::Empty);
        }
        let mut edits = Edits::default();
        let mut merged = Merged::default();
        let mut seen: BTreeSet<NetworkKey> = BTreeSet::new();
        if how == Import::Replace {
            let wanted: BTreeSet<_> = rows.iter().map(|row| NetworkKey::of(&row.token)).collect();
            for row in self.iter().filter(|row| !wanted.contains(&row.key)) {
                edits.bury(row.key, now_ms);
                merged.removed += 1;
            }
        }
        let mut room = self.room(&edits);
        for new in rows {
            new.check()?;
            let key = NetworkKey::of(&new.token);
            if !seen.insert(key) {
                continue;
            }
            match self.get(&key) {
                Some(old) if how == Import::Replace => match renamed(old, &new) {
                    Some(row) => {
                        room.swap(old.bytes(), row.bytes());
                        edits.put.push(row.into());
                        merged.changed += 1;
                    }
                    None => merged.known += 1,
                },
                Some(_) => merged.known += 1,
                None if how == Import::Shared && self.is_removed(&key) => merged.barred += 1,
                None => {
                    let row = new.into_row(key, self.incarnation(merged.added), now_ms);
                    if !room.take(row.bytes()) {
                        if how == Import::Shared {
                            merged.left_out += 1;
                            continue;
                        }
                        return Err(room.refused(row.bytes()));
                    }
                    edits.forget.extend(self.is_removed(&key).then_some(key));
                    edits.put.push(Arc::new(row));
                    merged.added += 1;
                }
            }
        }
        self.forget_oldest(&mut edits);
        Ok((edits, merged))
    }
}

/// The row with the document's words, if they are others.
fn renamed(old: &Network, new: &NewNetwork) -> Option<Network> {
    if old.name == new.name && old.description == new.description {
        return None;
    }
    let mut row = Network::clone(old);
    row.name.clone_from(&new.name);
    row.description.clone_from(&new.description);
    Some(row)
}
