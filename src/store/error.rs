//! What can go wrong on disk, in words for the person who has to act.

use std::io;
use std::path::{Path, PathBuf};

/// Why the disk did not do what was asked. Each text says what happened, to which file, and
/// what to do. Cheap to clone: every waiter of a failed transaction gets the same one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory could not be created, read, written or removed.
    #[error("cannot {doing} {}: {reason}; {hint}", path.display())]
    Path {
        /// What was tried, for example `create the directory`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's own words.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// Something else has the name of one of our files.
    #[error("{} is {found}, not a file; move it away, or choose another --data-dir", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What is there, for example `a directory`.
        found: &'static str,
    },
    /// Another process has the directory open.
    #[error("{} is in use by {holder}; stop that one, or choose another --data-dir", dir.display())]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, as far as it said so itself.
        holder: String,
    },
    /// The database is not readable as one. It was left as it is.
    #[error(
        "{} is damaged: {reason}; it was not changed: restore it from a backup, \
         or move it away to start with an empty one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A later version of the program wrote the database.
    #[error(
        "{} has schema {found}, this program knows up to {known}; run the newer program again, \
         or choose another --data-dir",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: u64,
        /// Newest schema this program knows.
        known: u64,
    },
    /// A file with a secret does not hold one.
    #[error("{} is not {expected}: {reason}; restore it from a backup, or remove it {loss}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong, without the content.
        reason: String,
        /// What removing it means.
        loss: &'static str,
    },
    /// A transaction failed. Whether its changes are on disk is unknown until the next success;
    /// everything acknowledged before is.
    #[error("could not write to the database: {reason}; {hint}")]
    Write {
        /// What the system or the database said.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// A change that must not be stored. Nothing of its group was.
    #[error("not stored: {what}")]
    Refused {
        /// What is wrong with it.
        what: String,
    },
    /// The store was closed before.
    #[error("the store is closed; start the daemon again")]
    Closed,
}

impl StoreError {
    pub(super) fn path(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Path {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
            hint: hint(error.kind()),
        }
    }

    pub(super) fn write(error: &redb::Error) -> Self {
        let hint = match error {
            redb::Error::Io(error) => hint(error.kind()),
            redb::Error::Corrupted(_) => "restore warren.redb from a backup, or move it away",
            _ => OPENS_AGAIN,
        };
        Self::Write {
            reason: error.to_string(),
            hint,
        }
    }
}

const OPENS_AGAIN: &str = "the database is opened again with the next write";

fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "give this user read and write access to it, or choose another --data-dir"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the disk is read-only: mount it writable, or choose another --data-dir"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk; writing goes on by itself as soon as there is some"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is where a directory should be: move it away, or choose another --data-dir"
        }
        io::ErrorKind::NotFound => "check the path given with --data-dir",
        _ => "check the disk and the system log",
    }
}
