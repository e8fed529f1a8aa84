//! One process per data directory: the directory itself, and the lock on `warren.pid`.
//!
//! The lock is on our own file and not only on the database, because the database is closed and
//! opened again after an I/O error: in that moment no other daemon may slip in.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::disk::refuse_non_file;
use crate::mesh::id::NodeId;
use crate::mesh::name::Name;

/// Name of the lock file.
pub const PID_FILE: &str = "warren.pid";

/// Longest [`PID_FILE`] that is read.
const MAX_PID_FILE_BYTES: u64 = 4096;

/// Who holds a data directory: the content of `warren.pid`, one JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Node id in text, once it is known.
    pub node: Option<NodeText>,
    /// The node's name, once it is known.
    pub name: Option<Name>,
    /// When the process opened the directory, milliseconds since the Unix epoch.
    pub started_ms: u64,
}

/// A node id that is text in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeText(#[serde(with = "crate::mesh::view::id_text")] pub NodeId);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the daemon {name}")?,
            None => f.write_str("a daemon that is starting")?,
        }
        if let Some(NodeText(node)) = &self.node {
            write!(f, ", node {}", node.short())?;
        }
        write!(f, ", process {}", self.pid)
    }
}

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    path: PathBuf,
    file: File,
}

impl DirLock {
    /// Makes `dir` (0700) if it is missing, and takes it.
    pub(super) fn take(dir: &Path, now_unix_ms: u64) -> Result<Self, StoreError> {
        make_dir(dir)?;
        let path = dir.join(PID_FILE);
        refuse_non_file(&path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::path("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Held {
                    dir: dir.to_owned(),
                    holder: describe_holder(dir),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::path("lock", &path, &error));
            }
        }
        let lock = Self { path, file };
        // What the last holder wrote must not be taken for us.
        lock.write(&Holder {
            pid: std::process::id(),
            node: None,
            name: None,
            started_ms: now_unix_ms,
        })?;
        Ok(lock)
    }

    /// Says who holds the directory.
    pub(super) fn write(&self, holder: &Holder) -> Result<(), StoreError> {
        let failed = |error: &io::Error| StoreError::path("write", &self.path, error);
        let text = serde_json::to_string(holder).map_err(|error| failed(&error.into()))?;
        // In place: a renamed file would not carry the lock.
        self.file.set_len(0).map_err(|error| failed(&error))?;
        self.file
            .write_all_at(format!("{text}\n").as_bytes(), 0)
            .map_err(|error| failed(&error))
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // The lock goes with the file; only the text would stay.
        let _ = self.file.set_len(0);
    }
}

/// Who holds `dir`, as far as `warren.pid` says so.
pub fn read_holder(dir: &Path) -> Option<Holder> {
    let file = File::open(dir.join(PID_FILE)).ok()?;
    let mut text = String::new();
    file.take(MAX_PID_FILE_BYTES)
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

pub(super) fn describe_holder(dir: &Path) -> String {
    read_holder(dir).map_or_else(|| "another process".to_owned(), |holder| holder.to_string())
}

fn make_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| StoreError::path("create the directory", dir, &error))?;
    let metadata = dir
        .metadata()
        .map_err(|error| StoreError::path("read the directory", dir, &error))?;
    // The user chose it and may share it on purpose, so it is not changed.
    if metadata.mode() & 0o022 != 0 {
        tracing::warn!(
            dir = %dir.display(),
            "others may write to the data directory and replace its keys; chmod 700 it"
        );
    }
    Ok(())
}
