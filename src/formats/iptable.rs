//! P2PRC's IP table: every form that was shipped or documented in, three forms out.
//!
//! A table is JSON, `{"ip_address":[{…}]}`. Its rows changed names, types and units over fourteen
//! versions ([`Variant`]); P2PRC itself ignores what it cannot read and then loses the table.
//! Here each field is read by what it means, and what cannot be read is reported with its place:
//!
//! - a *problem* makes a row bad: the document is refused, or, with [`Options::skip_bad`], read
//!   without that row;
//! - a *note* says that something was read otherwise than written: an element that is no row, a
//!   field that is there twice (the last one counts), a figure that is no figure (then unknown).
//!
//! Keys match in any case. Rows of one machine become one row, the first, which takes from the
//! others what it does not say. Nothing is resolved, and nothing is believed about a length or a
//! depth before it is checked; no part recurses.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::mesh::ip_table::{Host, MAX_ROWS, Place, Row};

mod fault;
mod fields;
mod number;
mod text;
mod variant;
mod write;

pub use crate::formats::json::Position;
pub use crate::formats::report::MAX_REPORTED;
pub use fault::{Fault, IpTableError, Problem, Report};
pub use variant::{Unit, Variant};
pub use write::{Profile, ProfileError, write};

use crate::formats::json::{self, Locator};
use fields::{Outcome, Pending};
use text::Repaired;
use variant::Shape;

/// Longest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 128 * 1024 * 1024;
/// Longest row that is read, as JSON, in bytes.
pub const MAX_ROW_JSON_BYTES: usize = 20 * 1024;

/// How a document is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Also take the two faults of P2PRC's documented sample, a missing comma between two members
    /// and one comma before a closing bracket, and latencies with a fraction in any variant. For
    /// what a user gives, never for what comes over the network.
    pub lenient: bool,
    /// Leave bad rows out instead of refusing the document.
    pub skip_bad: bool,
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its machines in the order of the document, each once.
    pub rows: Vec<Row>,
    /// What it was taken for, which says what its figures mean; `None` without any row.
    pub variant: Option<Variant>,
    /// How it was read.
    pub report: Report,
}

/// Reads a table.
///
/// # Errors
/// What is wrong with the document as a whole, or, without [`Options::skip_bad`], with its rows.
pub fn read(document: &[u8], options: Options) -> Result<Document, IpTableError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        let len = document.len();
        return Err(IpTableError::TooLong { len });
    }
    let text = json::text_of(document).map_err(IpTableError::Utf8)?;
    let repaired = match options.lenient {
        true => text::repair(text),
        false => Repaired::none(text),
    };
    let mut reader = Reader::new(&repaired.text, text);
    reader.document()?;
    reader.finish(options, repaired.trailing_comma)
}

/// What was read so far. `'r` is the repaired text, byte for byte as long as what was given.
struct Reader<'r> {
    text: &'r str,
    locator: Locator<'r>,
    rows: Vec<Row>,
    /// What each of them waits for.
    pending: Vec<Pending>,
    shape: Shape,
    report: Report,
    has_table: bool,
    /// Why reading stopped, where JSON's own error would not say it.
    stopped: Option<IpTableError>,
}

impl<'r> Reader<'r> {
    fn new(text: &'r str, given: &'r str) -> Self {
        Self {
            text,
            locator: Locator::new(given),
            rows: Vec::new(),
            pending: Vec::new(),
            shape: Shape::default(),
            report: Report::default(),
            has_table: false,
            stopped: None,
        }
    }

    fn document(&mut self) -> Result<(), IpTableError> {
        let text = self.text;
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = Top(self)
            .deserialize(&mut reader)
            .and_then(|()| reader.end());
        let Err(error) = read else { return Ok(()) };
        Err(self.stopped.take().unwrap_or_else(|| {
            let at = json::offset_of(text, error.line(), error.column());
            IpTableError::Syntax {
                at: self.locator.locate(at),
                what: json::without_place(&error),
            }
        }))
    }

    /// Reads one element of the table.
    fn element(&mut self, raw: &'r RawValue) -> Result<(), IpTableError> {
        let at = json::offset_in(self.text, raw.get());
        self.report.rows += 1;
        let row = self.report.rows;
        if row > MAX_ROWS {
            return Err(IpTableError::TooManyRows(self.locator.locate(at)));
        }
        let outcome = fields::read(raw.get(), &mut self.shape);
        let Outcome { row: read, notes } = match outcome {
            Ok(outcome) => outcome,
            Err(problem) => {
                let problem = problem.at(row, at, self.text, &mut self.locator);
                self.report.add_problem(problem);
                return Ok(());
            }
        };
        for note in notes {
            if self.report.wants_notes() {
                let note = note.at(row, at, self.text, &mut self.locator);
                self.report.add_note(note);
            } else {
                self.report.note_count += 1;
            }
        }
        if let Some((read, pending)) = read {
            self.rows.push(read);
            self.pending.push(pending.numbered(row, at));
        }
        Ok(())
    }

    /// Decides what the figures mean, now that all rows are known, and merges duplicates.
    fn finish(mut self, options: Options, trailing_comma: bool) -> Result<Document, IpTableError> {
        let variant = self.shape.variant(trailing_comma);
        if self.report.problem_count > 0 && !options.skip_bad {
            return Err(IpTableError::Rows(Box::new(self.report)));
        }
        let unit = variant.map_or(Unit::Nanoseconds, Variant::latency_unit);
        let base64 = variant == Some(Variant::V8);
        let mut machines = Machines::new(std::mem::take(&mut self.rows));
        for pending in std::mem::take(&mut self.pending) {
            let Some(mut row) = machines.next() else {
                break;
            };
            let (number, at) = (pending.number, pending.at);
            if let Err(note) = pending.settle(&mut row, unit, base64, options.lenient) {
                let note = note.at(number, at, self.text, &mut self.locator);
                self.report.add_note(note);
            }
            machines.add(row);
        }
        self.report.merged = machines.merged;
        Ok(Document {
            rows: machines.rows.into(),
            variant,
            report: self.report,
        })
    }
}

/// Rows, each machine once. What waits is taken from the front and what is done put at the back,
/// so that a large table is in memory once.
struct Machines {
    rows: VecDeque<Row>,
    /// How many of them wait.
    waiting: usize,
    /// Every address of every row that is done, and which one that is.
    places: BTreeMap<Place, usize>,
    merged: usize,
}

impl Machines {
    fn new(rows: Vec<Row>) -> Self {
        Self {
            waiting: rows.len(),
            rows: rows.into(),
            places: BTreeMap::new(),
            merged: 0,
        }
    }

    fn next(&mut self) -> Option<Row> {
        self.waiting = self.waiting.checked_sub(1)?;
        self.rows.pop_front()
    }

    fn add(&mut self, row: Row) {
        let place_of = |host: &Host| Place::new(host.clone(), row.place.port());
        let places: Vec<Place> = row.hosts().map(place_of).collect();
        let known = places.iter().find_map(|place| self.places.get(place));
        let Some(&index) = known else {
            let index = self.rows.len() - self.waiting;
            self.places
                .extend(places.into_iter().map(|place| (place, index)));
            self.rows.push_back(row);
            return;
        };
        self.merged += 1;
        let Some(first) = self.rows.get_mut(self.waiting + index) else {
            return;
        };
        let news = places.into_iter().find(|p| !self.places.contains_key(p));
        if let Some(place) = news.filter(|_| first.other.is_none()) {
            first.add_host(place.host().clone());
            self.places.insert(place, index);
        }
        first.fill(row);
    }
}

/// The document itself.
struct Top<'a, 'r>(&'a mut Reader<'r>);

impl<'r> DeserializeSeed<'r> for Top<'_, 'r> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'r>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'r> Visitor<'r> for Top<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the list \"ip_address\"")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<(), A::Error> {
        let mut others = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if !key.eq_ignore_ascii_case("ip_address") {
                others = true;
                map.next_value::<IgnoredAny>()?;
            } else if self.0.has_table {
                self.0.stopped = Some(IpTableError::Twice);
                return Err(A::Error::custom("stopped"));
            } else {
                self.0.has_table = true;
                map.next_value_seed(List(self.0))?;
            }
        }
        if others && !self.0.has_table {
            // Taken for an empty table, another document would empty the user's.
            self.0.stopped = Some(IpTableError::NotATable);
            return Err(A::Error::custom("stopped"));
        }
        Ok(())
    }
}

/// The value of `ip_address`.
struct List<'a, 'r>(&'a mut Reader<'r>);

impl<'r> DeserializeSeed<'r> for List<'_, 'r> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'r>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'r> Visitor<'r> for List<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    /// P2PRC writes an empty table as null.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'r>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(raw) = list.next_element::<&RawValue>()? {
            if let Err(error) = self.0.element(raw) {
                self.0.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
