//! What can be wrong with a document, where, and how it is said.

use std::fmt;

use super::{MAX_DOCUMENT_BYTES, MAX_ROW_JSON_BYTES, MAX_ROWS};
use crate::formats::json::{Locator, Position};
use crate::mesh::networks::MAX_CLUSTER_BYTES;
use crate::mesh::token::TokenError;

/// Most problems and most notes that are kept of one document; all are counted.
pub const MAX_REPORTED: usize = 100;

/// Why a document was not read. Nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplorerError {
    /// Longer than [`MAX_DOCUMENT_BYTES`].
    #[error("it is {len} bytes, at most {MAX_DOCUMENT_BYTES} are read")]
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// Not text.
    #[error("{0}: not UTF-8 text")]
    Utf8(Position),
    /// No JSON, or JSON of another form.
    #[error("{at}: {what}")]
    Syntax {
        /// Where reading stopped.
        at: Position,
        /// What was expected or found.
        what: String,
    },
    /// More than [`MAX_ROWS`].
    #[error("{0}: more than {MAX_ROWS} networks")]
    TooManyRows(Position),
    /// Rows that cannot be read.
    #[error("{0}")]
    Rows(Box<Report>),
}

impl ExplorerError {
    /// Where it is wrong, if at one place: of several bad rows, the first.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Utf8(at) | Self::Syntax { at, .. } | Self::TooManyRows(at) => Some(*at),
            Self::Rows(report) => report.problems.first().map(|problem| problem.at),
            Self::TooLong { .. } => None,
        }
    }
}

/// How a document was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows of the document.
    pub rows: usize,
    /// Rows of a network that was there before.
    pub merged: usize,
    /// The first [`MAX_REPORTED`] problems, in order. Each is one row that was not taken.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub problem_count: usize,
    /// The first [`MAX_REPORTED`] notes.
    pub notes: Vec<Problem>,
    /// How many there are.
    pub note_count: usize,
}

impl Report {
    pub(super) fn add_problem(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < MAX_REPORTED {
            self.problems.push(problem);
        }
    }

    pub(super) fn add_note(&mut self, note: Problem) {
        self.note_count += 1;
        if self.notes.len() < MAX_REPORTED {
            self.notes.push(note);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.problems.as_slice(), self.problem_count) {
            ([only], 1) => only.fmt(f),
            (problems, count) => {
                write!(f, "{count} bad rows")?;
                for problem in problems {
                    write!(f, "\n{problem}")?;
                }
                match count - problems.len() {
                    0 => Ok(()),
                    more => write!(f, "\nand {more} more"),
                }
            }
        }
    }
}

/// One fault, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the document.
    pub at: Position,
    /// Which row, from 1.
    pub row: usize,
    /// Which field, if one; escaped and cut to fit a line.
    pub field: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: row {}", self.at, self.row)?;
        if let Some(field) = &self.field {
            write!(f, ", {field}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// What is wrong with a row or a field. Texts of the document in it are escaped and short, and
/// never a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Its key is no token that can be used.
    #[error(transparent)]
    Token(TokenError),
    /// A value of a type that LocalAI does not write there.
    #[error("{shown} is not {expected}")]
    Type {
        /// What stands there.
        shown: String,
        /// What would fit.
        expected: &'static str,
    },
    /// A row that is too long.
    #[error("it is {len} bytes, at most {MAX_ROW_JSON_BYTES} are read")]
    LongRow {
        /// Its bytes.
        len: usize,
    },
    /// A text that is too long.
    #[error("it is {len} bytes, at most {max} are kept")]
    LongText {
        /// Its bytes.
        len: usize,
        /// How many may be.
        max: usize,
    },
    /// More workers than are kept.
    #[error("its clusters take {bytes} bytes, at most {MAX_CLUSTER_BYTES} are kept")]
    ManyWorkers {
        /// What they take.
        bytes: usize,
    },
    /// A text that is no Unicode.
    #[error("its escapes are no valid text")]
    Text,
    /// The network of an earlier row. It was left out.
    #[error("its network is there before, as row {row}, which counts")]
    Again {
        /// Which row counts, from 1.
        row: usize,
    },
    /// A field that LocalAI does not have. It was left out.
    #[error("there is no such field, and it is left out")]
    Unknown,
    /// A field that is there twice. The last one counts.
    #[error("it is there twice, the last one counts")]
    Duplicate,
}

impl Fault {
    /// Of the row as a whole.
    pub(super) fn whole(self) -> Found {
        Found {
            offset: 0,
            field: None,
            fault: self,
        }
    }
}

/// A fault within a row whose place is not known yet.
#[derive(Debug)]
pub(super) struct Found {
    /// Bytes from the start of the row's value, or of what is wrong if that is the token.
    pub(super) offset: usize,
    pub(super) field: Option<String>,
    pub(super) fault: Fault,
}

impl Found {
    /// Gives it its place: in row number `row`, `at` bytes into `text`.
    pub(super) fn at(
        self,
        row: usize,
        at: usize,
        text: &str,
        locator: &mut Locator<'_>,
    ) -> Problem {
        Problem {
            at: locator.locate((at + self.offset).min(text.len())),
            row,
            field: self.field,
            fault: self.fault,
        }
    }
}
