//! The networks of an explorer: the one handle by which they are read and changed, in a server and
//! in a command without one. What a change does is decided in [`crate::mesh::networks`]; here it is
//! stored and only then shown, one change at a time. Who reads gets a snapshot and never waits for
//! who writes.

mod pool;
mod tokens;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, broadcast, watch};

use crate::formats::explorer::{self, Document, Entry, ExplorerError, Options, Report};
use crate::mesh::name::Name;
use crate::mesh::networks::{
    Edit, Edits, Held, Import, Looked, Merged, Network, NetworkKey, Networks, NewNetwork, Policy,
    Recorded, Refused,
};
use crate::mesh::token::{Token, TokenError};
use crate::store::{Change, DATABASE_FILE, Holder, Loaded, Store, StoreError};
pub use pool::{Pool, PoolError, Pooled};
use tokens::{AT_A_TIME, Tokens};

/// Changes that a slow subscriber may be behind.
const BACKLOG: usize = 256;

/// The networks of one data directory. Clones are handles to the same networks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use warren::mesh::networks::{Held, NewNetwork};
/// use warren::{NetworkDb, Token};
///
/// let now_ms = 1_700_000_000_000;
/// let db = NetworkDb::open(dir.path(), Held::default(), now_ms)?;
/// let token = Token::generate(&mut rand::rng(), 9_000, 360)?;
/// let added = db.add(NewNetwork { name: "garage".to_owned(), ..NewNetwork::new(token) }, now_ms).await?;
///
/// let networks = db.networks();
/// assert_eq!(networks.get(&added.key).map(|row| row.name.as_str()), Some("garage"));
/// db.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct NetworkDb(Arc<Inner>);

struct Inner {
    store: Store,
    now: watch::Sender<Arc<Networks>>,
    changes: broadcast::Sender<Arc<NetworkChanges>>,
    /// Held from the decision about a change until it is taken over.
    turn: Arc<Turn<()>>,
    tokens: Tokens,
    boot: u64,
}

/// What one change did.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkChanges {
    /// [`Networks::revision`] with it.
    pub revision: u64,
    /// Networks that are new or changed.
    pub put: Vec<Arc<Network>>,
    /// Networks that are gone.
    pub removed: Vec<NetworkKey>,
}

/// Why the networks were not changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworksError {
    /// The document cannot be read.
    #[error(transparent)]
    Document(#[from] ExplorerError),
    /// The token is none, or cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The networks cannot be changed so.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The disk does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process is on its way out.
    #[error("the database of networks is being closed")]
    Closed,
}

impl NetworksError {
    /// Stable word for programs: `usage`, `exists`, `full`, `not_found`, `refused`, `in_use` or
    /// `store`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(Refused::Exists(_)) => "exists",
            Self::Refused(Refused::Full { .. }) => "full",
            Self::Refused(Refused::NotFound(_)) => "not_found",
            Self::Document(_)
            | Self::Token(_)
            | Self::Refused(_)
            | Self::Store(StoreError::Refused { .. }) => "usage",
            Self::Closed => "refused",
            Self::Store(StoreError::Held { .. }) => "in_use",
            Self::Store(_) => "store",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Document(ExplorerError::Rows(_)) => {
                Some("nothing was stored; --skip-bad leaves bad rows out")
            }
            Self::Document(_) => Some("nothing was stored"),
            Self::Refused(Refused::Exists(_)) => {
                Some("another spelling of the same token is the same network")
            }
            Self::Refused(Refused::Full { .. }) => {
                Some("--max-networks and --max-network-bytes allow more")
            }
            Self::Refused(Refused::NotFound(_)) => Some("`warren explorer tokens ls` lists them"),
            Self::Store(StoreError::Write { .. }) => Some("nothing was stored"),
            _ => None,
        }
    }

    /// What LocalAI's `POST /network/add` says, with status 400; `None` where it says
    /// `Cannot add token` with status 500.
    pub fn as_localai(&self) -> Option<&'static str> {
        match self {
            Self::Token(TokenError::Stretch(_)) => None,
            Self::Token(_) => Some("Invalid token"),
            Self::Refused(Refused::Exists(_)) => Some("Token already exists"),
            _ => None,
        }
    }
}

/// How a document is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// How it is read.
    pub read: Options,
    /// Networks that are not in it go, and names and descriptions are the document's.
    pub replace: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What an import did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How the document was read.
    pub report: Report,
    /// What became of its rows.
    pub merged: Merged,
}

impl NetworkDb {
    /// Opens the networks of a data directory on which nothing runs. Blocks, and locks the
    /// directory until [`NetworkDb::close`].
    ///
    /// # Errors
    /// [`NetworksError::Store`]; its code is `in_use` if a process runs on the directory.
    pub fn open(dir: &Path, held: Held, now_unix_ms: u64) -> Result<Self, NetworksError> {
        let (store, mut loaded) = Store::open(dir, now_unix_ms)?;
        Ok(Self::of(store, &mut loaded, held))
    }

    /// Whether a data directory has a database that could be opened.
    pub fn exists(dir: &Path) -> bool {
        dir.join(DATABASE_FILE).exists()
    }

    /// The networks of an open store; takes their rows out of `loaded`.
    pub fn of(store: Store, loaded: &mut Loaded, held: Held) -> Self {
        let rows = std::mem::take(&mut loaded.networks);
        let removed = std::mem::take(&mut loaded.removed_networks);
        let networks = Networks::new(rows, removed, held);
        Self(Arc::new(Inner {
            store,
            now: watch::Sender::new(Arc::new(networks)),
            changes: broadcast::Sender::new(BACKLOG),
            turn: Arc::default(),
            tokens: Tokens::default(),
            boot: loaded.boot,
        }))
    }

    /// Tells processes that want the directory, too, who has it. For who has opened it.
    ///
    /// # Errors
    /// [`NetworksError::Store`]: the file cannot be written.
    pub fn introduce(&self, name: Name, started_ms: u64) -> Result<(), NetworksError> {
        let holder = Holder {
            pid: std::process::id(),
            node: None,
            name: Some(name),
            started_ms,
        };
        Ok(self.0.store.write_pid_file(&holder)?)
    }

    /// Closes the store. For who has opened it; a node closes its own.
    ///
    /// # Errors
    /// [`NetworksError::Store`]: what could not be written is lost; the directory is free all the
    /// same.
    pub async fn close(&self) -> Result<(), NetworksError> {
        Ok(self.0.store.close().await?)
    }

    /// All networks, as they are now. Stays as it is; waits for nobody.
    pub fn networks(&self) -> Arc<Networks> {
        Arc::clone(&self.0.now.borrow())
    }

    /// One network.
    pub fn get(&self, key: &NetworkKey) -> Option<Arc<Network>> {
        self.networks().get(key).cloned()
    }

    /// All networks, as they change.
    pub fn watch(&self) -> watch::Receiver<Arc<Networks>> {
        self.0.now.subscribe()
    }

    /// What changes from now on. What is told of is in [`NetworkDb::networks`] before. A receiver
    /// that lags loses the oldest changes and reads everything anew.
    pub fn changes(&self) -> broadcast::Receiver<Arc<NetworkChanges>> {
        self.0.changes.subscribe()
    }

    /// A number that is greater after each start: with [`Networks::revision`] it names one state of
    /// the networks for ever.
    pub fn boot(&self) -> u64 {
        self.0.boot
    }

    /// Reads a token. One of LocalAI costs 64 MiB and about 0.1 s unless its network is known; at
    /// most two are read at a time, so whoever asks for strangers limits them first.
    ///
    /// # Errors
    /// [`NetworksError::Token`].
    pub async fn read_token(&self, text: &str) -> Result<Token, NetworksError> {
        self.0.tokens.read(text, &self.networks()).await
    }

    /// Takes a network in: it is on disk when this returns. One that was removed may come again.
    ///
    /// # Errors
    /// [`NetworksError`]; nothing was changed.
    pub async fn add(
        &self,
        new: NewNetwork,
        now_unix_ms: u64,
    ) -> Result<Arc<Network>, NetworksError> {
        let turn = self.turn().await;
        let (edits, row) = self.networks().add(new, now_unix_ms)?;
        self.store(turn, edits).await?;
        Ok(row)
    }

    /// Reads LocalAI's document and takes its networks in, all or nothing: they are on disk when
    /// this returns. Their tokens are public, as LocalAI shows them. A LocalAI token that is not
    /// known costs what [`NetworkDb::read_token`] says.
    ///
    /// # Errors
    /// [`NetworksError`]; nothing was changed.
    pub async fn import(
        &self,
        document: impl Into<Bytes>,
        options: ImportOptions,
        now_unix_ms: u64,
    ) -> Result<Imported, NetworksError> {
        let document = document.into();
        // Reading a large document takes a second, in which a server has others to serve.
        let read = tokio::task::spawn_blocking(move || explorer::read(&document, options.read));
        let Document {
            entries, report, ..
        } = read.await.map_err(|_| NetworksError::Closed)??;
        let how = match options.replace {
            true => Import::Replace,
            false => Import::Merge,
        };
        let dry_run = options.dry_run;
        let merged = self.take_in(entries, how, dry_run, now_unix_ms).await?;
        Ok(Imported { report, merged })
    }

    /// Changes what the operator may change of a network.
    ///
    /// # Errors
    /// [`NetworksError`]; nothing was changed.
    pub async fn edit(
        &self,
        key: &NetworkKey,
        edit: Edit,
        now_unix_ms: u64,
    ) -> Result<Arc<Network>, NetworksError> {
        let turn = self.turn().await;
        let (edits, row) = self.networks().edit(key, edit, now_unix_ms)?;
        self.store(turn, edits).await?;
        Ok(row)
    }

    /// Removes networks. A look that is on its way does not bring them back, nor does a file that
    /// is shared with others.
    ///
    /// # Errors
    /// [`Refused::NotFound`] if one of them is not there; then none is removed.
    pub async fn remove(&self, keys: &[NetworkKey], now_unix_ms: u64) -> Result<(), NetworksError> {
        let turn = self.turn().await;
        let edits = self.networks().remove(keys, now_unix_ms)?;
        self.store(turn, edits).await
    }

    /// Notes what looks at networks found, in one transaction.
    ///
    /// # Errors
    /// [`NetworksError::Store`]; nothing was changed.
    pub async fn record(
        &self,
        looks: Vec<Looked>,
        policy: &Policy,
        now_unix_ms: u64,
    ) -> Result<Recorded, NetworksError> {
        let turn = self.turn().await;
        let (edits, recorded) = self.networks().record(looks, now_unix_ms, policy);
        self.store(turn, edits).await?;
        Ok(recorded)
    }

    async fn take_in(
        &self,
        entries: Vec<Entry>,
        how: Import,
        dry_run: bool,
        now_unix_ms: u64,
    ) -> Result<Merged, NetworksError> {
        let networks = self.networks();
        let derived = stream::iter(entries).map(|entry| self.derive(entry, &networks));
        // One after the other in the order of the document, so that it does not matter who is
        // first.
        let rows: Vec<NewNetwork> = derived.buffered(AT_A_TIME).try_collect().await?;
        let turn = self.turn().await;
        let (edits, merged) = self.networks().import(rows, how, now_unix_ms)?;
        if !dry_run {
            self.store(turn, edits).await?;
        }
        Ok(merged)
    }

    async fn derive(&self, entry: Entry, networks: &Networks) -> Result<NewNetwork, NetworksError> {
        let token = self.0.tokens.derive(entry.token, networks).await?;
        Ok(NewNetwork {
            name: entry.name,
            description: entry.description,
            publish_token: true,
            clusters: entry.clusters,
            failures: entry.failures,
            ..NewNetwork::new(token)
        })
    }

    async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0.turn).lock_owned().await
    }

    /// Stores `edits`, then shows them. In a task of its own: who asked may be gone before the
    /// disk has answered, and what is shown must not fall behind the disk.
    async fn store(&self, turn: OwnedMutexGuard<()>, edits: Edits) -> Result<(), NetworksError> {
        if edits.is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let stored = tokio::spawn(async move {
            let _turn = turn;
            let changes = vec![
                Change::RemoveNetworks(edits.remove.clone()),
                Change::PutNetworks(edits.put.clone()),
                Change::ForgetRemovals(edits.forget.clone()),
            ];
            this.0.store.commit(changes).await?;
            let next = Arc::new(this.networks().with(&edits));
            let revision = next.revision();
            this.0.now.send_replace(next);
            // Nobody may be listening.
            let _ = this.0.changes.send(Arc::new(NetworkChanges {
                revision,
                put: edits.put,
                removed: edits.remove.into_iter().map(|gone| gone.key).collect(),
            }));
            Ok(())
        });
        stored.await.unwrap_or(Err(NetworksError::Closed))
    }
}

#[cfg(test)]
mod tests;
