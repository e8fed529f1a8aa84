//! A LocalAI explorer's file beside the database (`--pool-database`): its networks come in, and
//! ours go out, so that both explorers know the same.
//!
//! The file is replaced as a whole under LocalAI's lock. Rows that others added in between, and
//! rows that nobody can read, stay in it. Networks that were removed here go from it and do not
//! come back, and networks whose token is not to be shown are never written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{NetworkDb, NetworksError};
use crate::formats::explorer::{
    self, Document, Entry, ExplorerError, MAX_DOCUMENT_BYTES, Options, Report, Strange,
};
use crate::mesh::networks::{Import, Merged, Network, NetworkKey, Networks};
use crate::store::{SharedFile, StoreError};

/// Networks that are taken in at once.
const PART: usize = 256;

/// The file, and the networks that are kept in step with it. Clones are the same.
#[derive(Clone)]
pub struct Pool {
    db: NetworkDb,
    path: Arc<PathBuf>,
}

/// Why the file was not read or written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// It is no document of LocalAI's explorer. It was left as it is.
    #[error("{}: {error}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ExplorerError,
    },
    /// The file or its lock.
    #[error(transparent)]
    File(#[from] StoreError),
    /// The networks cannot be taken in.
    #[error(transparent)]
    Networks(#[from] NetworksError),
}

/// What came out of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooled {
    /// How it was read: its problems are rows that stay in the file and are not taken.
    pub report: Report,
    /// What became of its networks.
    pub merged: Merged,
}

impl Pool {
    /// The file at `path`, which need not be there.
    pub fn new(db: NetworkDb, path: &Path) -> Self {
        Self {
            db,
            path: Arc::new(path.to_owned()),
        }
    }

    /// Takes in the networks of the file that are not known: at the start, and first thing in
    /// [`Pool::sync`].
    ///
    /// # Errors
    /// [`PoolError`]; some of them may have come in.
    pub async fn load(&self, now_unix_ms: u64) -> Result<Pooled, PoolError> {
        let this = self.clone();
        let read = blocking(move || this.read(&this.lock()?)).await?;
        let Document {
            mut entries,
            report,
            ..
        } = read;
        let mut merged = Merged::default();
        // In parts: what the secrets of many LocalAI tokens cost is not paid twice if this ends
        // half way.
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(PART));
            let part = std::mem::replace(&mut entries, rest);
            let shared = Import::Shared;
            merged += self.db.take_in(part, shared, false, now_unix_ms).await?;
        }
        Ok(Pooled { report, merged })
    }

    /// Takes in what others added, and writes the file: after each pass, and at the end.
    ///
    /// # Errors
    /// [`PoolError`]. A file that cannot be read is not replaced.
    pub async fn sync(&self, now_unix_ms: u64) -> Result<Pooled, PoolError> {
        let pooled = self.load(now_unix_ms).await?;
        let this = self.clone();
        blocking(move || this.write()).await?;
        Ok(pooled)
    }

    /// Under one lock: reads the file again, and replaces it if it says something else than it
    /// should.
    fn write(&self) -> Result<(), PoolError> {
        let file = self.lock()?;
        let old = file.read(MAX_DOCUMENT_BYTES)?;
        let document = self.parse(&old)?;
        let networks = self.db.networks();
        let entries = document.entries.iter();
        let theirs = entries.filter(|entry| self.is_theirs(entry, &networks));
        let theirs: Vec<Strange> = theirs.map(Strange::from).chain(document.strange).collect();
        let ours = networks.iter().filter(|row| row.publish_token);
        let ours: Vec<&Network> = ours.map(|row| &**row).collect();
        let mut new = Vec::with_capacity(old.len());
        let written = explorer::write(&mut new, ours, &theirs);
        written.map_err(|error| StoreError::Refused {
            what: error.to_string(),
        })?;
        match new == old {
            true => Ok(()),
            false => Ok(file.replace(&new)?),
        }
    }

    /// Whether a network of the file is neither ours nor removed here: it was added since the
    /// file was taken in, or there is no room for it.
    fn is_theirs(&self, entry: &Entry, networks: &Networks) -> bool {
        let token = self.db.0.tokens.at_hand(&entry.token, networks);
        let key = token.map(|token| NetworkKey::of(&token));
        key.is_none_or(|key| networks.get(&key).is_none() && !networks.is_removed(&key))
    }

    fn lock(&self) -> Result<SharedFile, PoolError> {
        Ok(SharedFile::lock(&self.path)?)
    }

    fn read(&self, file: &SharedFile) -> Result<Document, PoolError> {
        self.parse(&file.read(MAX_DOCUMENT_BYTES)?)
    }

    fn parse(&self, document: &[u8]) -> Result<Document, PoolError> {
        // A file that was never written, or that LocalAI is about to write.
        let document = match document {
            [] => b"{}",
            document => document,
        };
        let read = explorer::read(document, Options { skip_bad: true });
        read.map_err(|error| PoolError::Document {
            path: PathBuf::clone(&self.path),
            error,
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PoolError> + Send + 'static,
) -> Result<T, PoolError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(NetworksError::Closed.into()))
}
