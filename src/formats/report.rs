//! How a document of rows was read: what is wrong with it, where, and how it is said.

use std::fmt;

use super::json::{Locator, Position};

/// Most problems and most notes that are kept of one document; all are counted.
pub const MAX_REPORTED: usize = 100;

/// How a document was read. `F` is what can be wrong with its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<F> {
    /// Rows of the document.
    pub rows: usize,
    /// Rows of what an earlier row is about; they are none of their own.
    pub merged: usize,
    /// The first [`MAX_REPORTED`] problems, in order. Each is one row that was not taken.
    pub problems: Vec<Problem<F>>,
    /// How many there are.
    pub problem_count: usize,
    /// The first [`MAX_REPORTED`] notes.
    pub notes: Vec<Problem<F>>,
    /// How many there are.
    pub note_count: usize,
}

impl<F> Report<F> {
    pub(super) fn add_problem(&mut self, problem: Problem<F>) {
        self.problem_count += 1;
        if self.problems.len() < MAX_REPORTED {
            self.problems.push(problem);
        }
    }

    /// Whether a place of a note is worth finding.
    pub(super) fn wants_notes(&self) -> bool {
        self.notes.len() < MAX_REPORTED
    }

    pub(super) fn add_note(&mut self, note: Problem<F>) {
        self.note_count += 1;
        if self.wants_notes() {
            self.notes.push(note);
        }
    }
}

/// Derived, it would ask for a fault by default.
impl<F> Default for Report<F> {
    fn default() -> Self {
        Self {
            rows: 0,
            merged: 0,
            problems: Vec::new(),
            problem_count: 0,
            notes: Vec::new(),
            note_count: 0,
        }
    }
}

impl<F: fmt::Display> fmt::Display for Report<F> {
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
pub struct Problem<F> {
    /// Where in the document.
    pub at: Position,
    /// Which row, from 1.
    pub row: usize,
    /// Which field, if one; escaped and cut to fit a line.
    pub field: Option<String>,
    /// What is wrong.
    pub fault: F,
}

impl<F: fmt::Display> fmt::Display for Problem<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: row {}", self.at, self.row)?;
        if let Some(field) = &self.field {
            write!(f, ", {field}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// A fault within a row whose place is not known yet.
#[derive(Debug)]
pub(super) struct Found<F> {
    /// Bytes from the start of the row's value, or of what is wrong if that is its key.
    pub(super) offset: usize,
    pub(super) field: Option<String>,
    pub(super) fault: F,
}

impl<F> Found<F> {
    /// Gives it its place: in row number `row`, `at` bytes into `text`.
    pub(super) fn at(
        self,
        row: usize,
        at: usize,
        text: &str,
        locator: &mut Locator<'_>,
    ) -> Problem<F> {
        Problem {
            at: locator.locate((at + self.offset).min(text.len())),
            row,
            field: self.field,
            fault: self.fault,
        }
    }
}
