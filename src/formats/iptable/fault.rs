//! What can be wrong with a table, where, and how it is said.

use super::{MAX_DOCUMENT_BYTES, MAX_ROW_JSON_BYTES};
use crate::formats::json::Position;
use crate::formats::report;
use crate::mesh::ip_table::{HostError, MAX_KEPT, MAX_KEY_BYTES, MAX_ROWS, MAX_TEXT_BYTES};

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

/// How a table was read.
pub type Report = report::Report<Fault>;
/// One fault, with its place.
pub type Problem = report::Problem<Fault>;
/// A fault within a row whose place is not known yet.
pub(super) type Found = report::Found<Fault>;

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
