//! What can be wrong with a document, where, and how it is said.

use super::{MAX_DOCUMENT_BYTES, MAX_ROW_JSON_BYTES, MAX_ROWS};
use crate::formats::json::Position;
use crate::formats::report;
use crate::mesh::networks::MAX_CLUSTER_BYTES;
use crate::mesh::token::TokenError;

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
pub type Report = report::Report<Fault>;
/// One fault, with its place.
pub type Problem = report::Problem<Fault>;
/// A fault within a row whose place is not known yet.
pub(super) type Found = report::Found<Fault>;

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
