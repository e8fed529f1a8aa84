//! LocalAI's database of networks, `explorer.json`: read to the last byte, written as LocalAI
//! writes it.
//!
//! It is one JSON object, a token for each key:
//! `{"<token>":{"name","description","Clusters":[{"Workers":[…],"Type","NetworkID"}],"Failures"}}`,
//! with `null` for clusters that were never seen. LocalAI checks nothing but base64 before it
//! stores a token, so real files hold junk. Here each token is checked as if it were posted, and
//! what cannot be read is reported with its place:
//!
//! - a *problem* makes a row bad: the document is refused, or, with [`Options::skip_bad`], read
//!   without that row;
//! - a *note* says that something was left out: a network that is there before in another
//!   spelling of its token, a field that LocalAI does not have, a field that is there twice (the
//!   last one counts).
//!
//! Field names match in any case, as in Go. Nothing is believed about a length or a number before
//! it is checked, no part recurses, and no error holds a token.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::json::{self, Key, Locator};
use crate::mesh::networks::{Cluster, NetworkKey};
use crate::mesh::token::TokenText;

mod fault;
mod row;
mod write;

pub use super::json::Position;
pub use super::report::MAX_REPORTED;
pub use fault::{ExplorerError, Fault, Problem, Report};
pub use write::write;

/// Longest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024 * 1024;
/// Longest row that is read, as JSON, in bytes.
pub const MAX_ROW_JSON_BYTES: usize = 256 * 1024;
/// Most rows of a document.
pub const MAX_ROWS: usize = 100_000;

/// How a document is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave bad rows out instead of refusing the document.
    pub skip_bad: bool,
}

/// A document that was read.
#[derive(Debug)]
pub struct Document {
    /// Its networks in the order of the document, each once.
    pub entries: Vec<Entry>,
    /// Rows that cannot be read, as they are. Somebody else's, in a file that is shared.
    pub strange: Vec<Strange>,
    /// How it was read.
    pub report: Report,
}

/// One network. The token is a secret.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its token, checked.
    pub token: TokenText,
    /// What it is called; may be empty.
    pub name: String,
    /// What is said of it; may be empty.
    pub description: String,
    /// What was last seen of its workers; `None` is the document's `null`.
    pub clusters: Option<Vec<Cluster>>,
    /// Passes in a row that saw no worker.
    pub failures: u32,
}

/// A row that cannot be read. What it says may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Strange {
    token: Zeroizing<String>,
    json: Zeroizing<String>,
}

impl fmt::Debug for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strange(secret)")
    }
}

/// Reads a document.
///
/// # Errors
/// What is wrong with the document as a whole, or, without [`Options::skip_bad`], with its rows.
pub fn read(document: &[u8], options: Options) -> Result<Document, ExplorerError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        let len = document.len();
        return Err(ExplorerError::TooLong { len });
    }
    let text = json::text_of(document).map_err(ExplorerError::Utf8)?;
    let mut reader = Reader {
        text,
        locator: Locator::new(text),
        known: BTreeMap::new(),
        rows: 0,
        document: Document {
            entries: Vec::new(),
            strange: Vec::new(),
            report: Report::default(),
        },
        stopped: None,
    };
    reader.read()?;
    let Document { report, .. } = &reader.document;
    match report.problem_count > 0 && !options.skip_bad {
        true => Err(ExplorerError::Rows(Box::new(reader.document.report))),
        false => Ok(reader.document),
    }
}

/// What tells one network from another without the cost of a LocalAI token's secret.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Native(NetworkKey),
    LocalAi([u8; 32]),
}

impl Identity {
    fn of(token: &TokenText) -> Self {
        match token {
            TokenText::Native(token) => Self::Native(NetworkKey::of(token)),
            TokenText::LocalAi(token) => {
                let mut material = [0; 32];
                material.copy_from_slice(digest(&SHA256, &token.key_material()).as_ref());
                Self::LocalAi(material)
            }
        }
    }
}

/// What was read so far.
struct Reader<'r> {
    text: &'r str,
    locator: Locator<'r>,
    /// Networks that were read, and the number of their row.
    known: BTreeMap<Identity, usize>,
    rows: usize,
    document: Document,
    /// Why reading stopped, where JSON's own error would not say it.
    stopped: Option<ExplorerError>,
}

impl<'r> Reader<'r> {
    fn read(&mut self) -> Result<(), ExplorerError> {
        let text = self.text;
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = Top(self)
            .deserialize(&mut reader)
            .and_then(|()| reader.end());
        let Err(error) = read else { return Ok(()) };
        Err(self.stopped.take().unwrap_or_else(|| {
            let at = json::offset_of(text, error.line(), error.column());
            ExplorerError::Syntax {
                at: self.locator.locate(at),
                // What is there instead may be a token.
                what: match error.is_data() {
                    true => "it is no object with a token for each key".to_owned(),
                    false => json::without_place(&error),
                },
            }
        }))
    }

    /// Reads one row. `token` is in the text where it has no escapes.
    fn row(&mut self, token: Cow<'r, str>, raw: &'r RawValue) -> Result<(), ExplorerError> {
        let value_at = json::offset_in(self.text, raw.get());
        let at = match &token {
            Cow::Borrowed(token) => json::offset_in(self.text, token).saturating_sub(1),
            Cow::Owned(_) => value_at,
        };
        self.rows += 1;
        let number = self.rows;
        if number > MAX_ROWS {
            return Err(ExplorerError::TooManyRows(self.locator.locate(at)));
        }
        let mut notes = Vec::new();
        let parsed = TokenText::parse(&token).map_err(|error| (at, Fault::Token(error).whole()));
        let read = parsed.and_then(|token| {
            let read = row::read(token, raw.get(), &mut notes);
            read.map_err(|found| (value_at, found))
        });
        for found in notes {
            let note = found.at(number, value_at, self.text, &mut self.locator);
            self.document.report.add_note(note);
        }
        let entry = match read {
            Ok(entry) => entry,
            Err((at, found)) => {
                let problem = found.at(number, at, self.text, &mut self.locator);
                self.document.report.add_problem(problem);
                self.document.strange.push(Strange {
                    token: Zeroizing::new(token.into_owned()),
                    json: Zeroizing::new(raw.get().to_owned()),
                });
                return Ok(());
            }
        };
        let identity = Identity::of(&entry.token);
        if let Some(row) = self.known.get(&identity).copied() {
            let found = Fault::Again { row }.whole();
            let note = found.at(number, at, self.text, &mut self.locator);
            self.document.report.add_note(note);
            self.document.report.merged += 1;
            return Ok(());
        }
        self.known.insert(identity, number);
        self.document.entries.push(entry);
        Ok(())
    }
}

/// The document itself.
struct Top<'a, 'r>(&'a mut Reader<'r>);

impl<'r> DeserializeSeed<'r> for Top<'_, 'r> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'r>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'r> Visitor<'r> for Top<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a token for each key")
    }

    /// Go writes a map that was never made as null.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(token)) = map.next_key()? {
            let raw: &RawValue = map.next_value()?;
            if let Err(error) = self.0.row(token, raw) {
                self.0.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        self.0.document.report.rows = self.0.rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
