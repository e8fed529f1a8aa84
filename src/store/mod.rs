//! The only place that touches disk: `DATA_DIR/warren.redb`, and the small files beside it.
//!
//! It decides nothing about the mesh: it keeps what it is given and gives it back. It never
//! overwrites or deletes a database it cannot read, never holds back an error of the disk, and
//! never says "stored" before the disk did. A data directory belongs to one process at a time.
//!
//! | file | content | written |
//! |---|---|---|
//! | `warren.redb` | the tables of `schema/tables.md` | one thread, group commit |
//! | `warren.pid` | who holds the directory ([`Holder`]); locked as long as it does | in place |
//! | `identity.key`, `token`, `admin.cookie`, `localai.secret` | see [`files`] | atomically |
//!
//! Limits: a disk that loses or alters what it has reported as synced does so here too. A file
//! that was not closed then opens as of an earlier commit or is reported as damaged; a value
//! changed within a row that still decodes is noticed only where it is signed.

mod batch;
mod disk;
mod error;
pub mod files;
mod ip_table;
mod lock;
mod networks;
mod schema;
mod shared;
mod tables;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use tokio::sync::watch;

use crate::mesh::entry::{Entry, Slot};
use crate::mesh::floor::Floor;
use crate::mesh::id::NodeId;
use crate::mesh::ip_table::{Place, Row};
use crate::mesh::members::KnownPeer;
use crate::mesh::name::Bucket;
use crate::mesh::networks::{Network, NetworkKey, Removed};

pub use error::StoreError;
pub use lock::{Holder, NodeText, PID_FILE, read_holder};
pub use schema::DATABASE_FILE;
pub use shared::SharedFile;
pub use tables::{MAX_PEER_ADDRESSES, MAX_ROLE_BYTES};

use batch::Batch;
use lock::DirLock;
use writer::{Opener, Pace, Shared, Writer};

/// A handle to an open data directory. Clones are the same store. When the last one is dropped
/// what waits is still written, but only [`Store::close`] says whether it was.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

/// What the store holds at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// This start's number, greater than every one before: `max(stored + 1, now)` (C18).
    pub boot: u64,
    /// Durable entries, removed ones included, sorted by bucket length, bucket, key length, key,
    /// author. Their form is checked, their signatures are not.
    pub ledger: Vec<Entry>,
    /// The greatest floor of each author. Their signatures are not checked.
    pub floors: Vec<Floor>,
    /// Nodes known from before.
    pub peers: Vec<KnownPeer>,
    /// Requests ever sent, by service and node.
    pub counts: Vec<(Bucket, NodeId, u64)>,
    /// Knocks seen: epoch and nonce (A7).
    pub knocks: Vec<(u64, [u8; 12])>,
    /// Roles left with the daemon: number and specification.
    pub roles: Vec<(u64, Vec<u8>)>,
    /// Machines that are reached by address, in the order of their keys.
    pub ip_table: Vec<Row>,
    /// Networks of an explorer, by key.
    pub networks: Vec<Network>,
    /// Networks that do not come back by themselves.
    pub removed_networks: Vec<Removed>,
    /// Rows that could not be read, each with its reason. They stay in the file.
    pub damaged: Vec<String>,
}

/// One change. A sequence of them is applied in order, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Sets a slot. Durable entries only; the caller has verified and merged it.
    PutEntry(Entry),
    /// Removes a slot without a tombstone: this node no longer keeps it.
    DropEntry(Slot),
    /// Sets an author's floor and removes every row of its entries below, in one step. The caller
    /// has verified and merged it.
    PutFloor(Floor),
    /// Forgets an author's floor: this node no longer keeps it.
    DropFloor(NodeId),
    /// Sets what is known of a node.
    Peer(KnownPeer),
    /// Forgets a node.
    ForgetPeer(NodeId),
    /// Raises the count of requests sent to a service of a node.
    Count {
        /// The service.
        bucket: Bucket,
        /// Who serves it.
        node: NodeId,
        /// By how much.
        add: u64,
    },
    /// Remembers a knock (A7).
    Knock {
        /// The epoch whose keys it used.
        epoch: u64,
        /// Its nonce.
        nonce: [u8; 12],
    },
    /// Forgets the knocks of all epochs before this one.
    ForgetKnocksBefore(u64),
    /// Keeps a role for the next start.
    Role {
        /// Its number.
        id: u64,
        /// What it is, at most [`MAX_ROLE_BYTES`]; the store does not read it.
        spec: Vec<u8>,
    },
    /// Forgets a role.
    ForgetRole(u64),
    /// Sets rows of the IP table. Many at once take less memory than as many changes.
    PutMachines(Vec<Arc<Row>>),
    /// Removes a row of the IP table because the user asked for it.
    RemoveMachine(Place),
    /// Removes all rows of the IP table.
    ClearMachines,
    /// Sets rows of an explorer's networks, each with its history.
    PutNetworks(Vec<Arc<Network>>),
    /// Removes networks of an explorer, and remembers that.
    RemoveNetworks(Vec<Removed>),
    /// Forgets that networks were removed.
    ForgetRemovals(Vec<NetworkKey>),
    /// Forgets ledger, floors, peers, counts, knocks and roles; the boot number, the IP table and
    /// the explorer's networks stay.
    ForgetNetwork,
}

/// Whether the disk takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Healthy,
    /// It does not: commits are refused, write-behind changes wait in memory.
    Failing {
        /// What happened and what to do.
        reason: String,
    },
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.shared.close());
    }
}

impl Store {
    /// Makes `dir` if it is missing (0700), locks it, makes its database if there is none, and
    /// goes on as [`Store::open_on`]. Blocks.
    ///
    /// # Errors
    /// Names the file or the daemon in the way; nothing stays locked.
    pub fn open(dir: &Path, now_unix_ms: u64) -> Result<(Self, Loaded), StoreError> {
        let lock = DirLock::take(dir, now_unix_ms)?;
        schema::make_if_missing(dir)?;
        let path = dir.join(DATABASE_FILE);
        let file = path.clone();
        let (store, loaded) = Self::open_on(&path, move || schema::file(&file), now_unix_ms)?;
        store.0.shared.hold(lock);
        Ok((store, loaded))
    }

    /// Opens the database that `storage` gives, migrates it, begins a new boot, and reads
    /// everything. Blocks; a database that was not closed is checked and repaired first, which
    /// reads all of it. `storage` is called again after a failure of the disk; errors call the
    /// database `path`.
    ///
    /// # Errors
    /// What is wrong with the storage or with the database in it.
    pub fn open_on<S: StorageBackend>(
        path: &Path,
        mut storage: impl FnMut() -> Result<S, StoreError> + Send + 'static,
        now_unix_ms: u64,
    ) -> Result<(Self, Loaded), StoreError> {
        let database = schema::open(path, storage()?)?;
        schema::migrate(&database, path, schema::MIGRATIONS)?;
        let loaded = schema::load(&database, path, now_unix_ms)?;
        for row in &loaded.damaged {
            tracing::warn!(%row, "a row of the database is damaged and was left out");
        }
        let name = path.to_owned();
        let reopen = Box::new(move || schema::open(&name, storage()?));
        let store = Self::start(database, &loaded, reopen, Pace::default())
            .map_err(|error| StoreError::path("start the writer of", path, &error))?;
        Ok((store, loaded))
    }

    fn start(
        database: redb::Database,
        loaded: &Loaded,
        reopen: Opener,
        pace: Pace,
    ) -> std::io::Result<Self> {
        let counts = loaded.counts.iter();
        let totals: BTreeMap<Vec<u8>, u64> = counts
            .map(|(bucket, node, count)| (tables::count_key(bucket, node).1, *count))
            .collect();
        let shared = Arc::new(Shared::new());
        Writer::spawn(Arc::clone(&shared), database, totals, reopen, pace)?;
        Ok(Self(Arc::new(Handle { shared })))
    }

    /// Stores `changes` in one transaction, together with whatever else waits. When this returns
    /// they are synced to disk.
    ///
    /// Once polled the write happens even if the future is dropped.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: one of them must not be stored, and none was.
    /// [`StoreError::Write`]: the disk failed; see there for what may be on it.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let batch = Batch::of(changes)?;
        let done = self.0.shared.commit(batch)?;
        done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Stores `change` with the next group, at most 100 ms from now. Never waits; changes of one
    /// row are merged, counts add up. While the disk fails they wait in bounded memory.
    pub fn later(&self, change: Change) {
        // One for each connection, nearly always to a row that waits already.
        if let Change::Count { bucket, node, add } = &change
            && self.0.shared.add(bucket, node, *add)
        {
            return;
        }
        match Batch::of(vec![change]) {
            Ok(batch) => self.0.shared.later(batch),
            Err(error) => tracing::warn!(%error, "a change was refused"),
        }
    }

    /// Whether the disk takes writes, now and from now on.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.shared.health()
    }

    /// Writes who holds the directory, for others who try to open it.
    ///
    /// # Errors
    /// The file could not be written, or the store is closed.
    pub fn write_pid_file(&self, holder: &Holder) -> Result<(), StoreError> {
        let written = self.0.shared.with_lock(|lock| lock.write(holder));
        written.unwrap_or(Err(StoreError::Closed))
    }

    /// Transactions committed since the store was opened.
    pub fn transactions(&self) -> u64 {
        self.0.shared.transactions()
    }

    /// Writes what waits, closes the database and lets go of the directory. After that every
    /// other call answers [`StoreError::Closed`].
    ///
    /// # Errors
    /// What could not be written is lost; the directory is free all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        // Without an answer the thread had ended before: somebody else closed it.
        self.0.shared.close().await.unwrap_or(Ok(()))
    }
}
