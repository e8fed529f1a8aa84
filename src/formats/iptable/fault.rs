//! What can be wrong with a table, where, and how it is said.

use std::fmt;

use super::{MAX_DOCUMENT_BYTES, MAX_ROW_JSON_BYTES, Variant};
use crate::formats::json::{Locator, Position};
use crate::mesh::ip_table::{HostError, MAX_KEPT, MAX_KEY_BYTES, MAX_ROWS, MAX_TEXT_BYTES};

/// Most problems and most notes that are kept of one document; all are counted.
pub const MAX_REPORTED: usize = 100;

/// Why a document was not read. Nothing of it was taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IpTableError {
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
    /// An object without `ip_address`.
    #[error("it has no list \"ip_address\", so it is no IP table")]
    NotATable,
    /// `ip_address` twice.
    #[error("\"ip_address\" is there twice")]
    Twice,
    /// More than [`MAX_ROWS`].
    #[error("{0}: more than {MAX_ROWS} rows")]
    TooManyRows(Position),
    /// Rows that cannot be read.
    #[error("{0}")]
    Rows(Box<Report>),
}

impl IpTableError {
    /// Where it is wrong, if at one place: of several bad rows, the first.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Utf8(at) | Self::Syntax { at, .. } | Self::TooManyRows(at) => Some(*at),
            Self::Rows(report) => report.problems.first().map(|problem| problem.at),
            Self::TooLong { .. } | Self::NotATable | Self::Twice => None,
        }
    }
}

/// How a document was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What it was taken for, which says what its figures mean; `None` without any row.
    pub variant: Option<Variant>,
    /// Elements of its list.
    pub elements: usize,
    /// Rows that were another row's machine and went into that one.
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

    /// Whether a place of a note is worth finding.
    pub(super) fn wants_notes(&self) -> bool {
        self.notes.len() < MAX_REPORTED
    }

    pub(super) fn add_note(&mut self, note: Problem) {
        self.note_count += 1;
        if self.wants_notes() {
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
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where in the document.
    pub at: Position,
    /// Which element of the list, from 1.
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

/// What is wrong with a row or a field. Texts of the document in it are escaped and short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An address that is none.
    #[error("{shown} is {error}")]
    Address {
        /// What stands there.
        shown: String,
        /// What it is instead.
        error: HostError,
    },
    /// Neither `ipv4` nor `ipv6` says anything.
    #[error("it has no address")]
    NoAddress,
    /// A port that is none.
    #[error("{shown} is no port; ports are numbers from 1 to 65535")]
    Port {
        /// What stands there.
        shown: String,
    },
    /// A value of a type that no version of P2PRC writes there.
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
    #[error("it is {len} bytes, at most {MAX_TEXT_BYTES} are kept")]
    LongText {
        /// Its bytes.
        len: usize,
    },
    /// A text that is no Unicode.
    #[error("its escapes are no valid text")]
    Text,
    /// An unknown field nested too deeply.
    #[error("an unknown field is nested deeper than {max} levels")]
    Deep {
        /// Levels kept.
        max: usize,
    },
    /// Too many unknown fields.
    #[error("more than {MAX_KEPT} unknown fields")]
    ManyFields,
    /// The name of an unknown field is too long.
    #[error("the name of an unknown field is longer than {MAX_KEY_BYTES} bytes")]
    LongKey,
    /// An element that is no row. It was left out.
    #[error("{shown} is no row and was left out")]
    NotARow {
        /// What stands there.
        shown: String,
    },
    /// A figure that is none. The row was taken without it.
    #[error("{shown} is no {what}, which is unknown then")]
    Figure {
        /// What stands there.
        shown: String,
        /// What was expected.
        what: &'static str,
    },
    /// A field that is there twice. The last one counts.
    #[error("it is there twice, the last one counts")]
    Duplicate,
}

/// A fault within a row whose place is not known yet.
#[derive(Debug)]
pub(super) struct Found {
    /// Bytes from the start of the row.
    pub(super) offset: usize,
    pub(super) field: Option<String>,
    pub(super) fault: Fault,
}

impl Found {
    /// Gives it its place: in row number `row`, which starts at byte `at` of `text`.
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
