//! The IP table of a data directory: the one handle by which it is read and changed, in a daemon
//! and in a command without one. What a change does is decided in [`crate::mesh::ip_table`]; here
//! it is read, stored and only then taken over, one change at a time.

mod probe;
mod refresh;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, watch};

use crate::formats::iptable::{self, IpTableError, Options, Report, Variant};
use crate::mesh::entry::Entry;
use crate::mesh::id::NodeId;
use crate::mesh::ip_table::{
    Edits, MAX_TEXT_BYTES, Merged, Place, Posted, Recorded, Refused, Round, Row, Source, Stranger,
    Table, Told, shared,
};
use crate::mesh::name::Name;
use crate::store::{Change, DATABASE_FILE, Loaded, Store, StoreError, files};
pub use probe::{Links, MeshSide, ProbeOptions, Probed, TableProbe};

/// The IP table of one data directory. Clones are handles to the same table.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use warren::IpTable;
/// use warren::service::ip_table::ImportOptions;
///
/// let table = IpTable::open(dir.path(), 1_700_000_000_000)?;
/// let document = br#"{"ip_address":[{"ipv4":"192.0.2.7","latency":14981051,"download":0,"upload":0}]}"#;
/// let imported = table.import(document.to_vec(), ImportOptions::default()).await?;
/// assert_eq!(imported.merged.added, 1);
///
/// let rows = table.rows();
/// assert_eq!(rows[0].place.to_string(), "192.0.2.7:8088");
/// table.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct IpTable(Arc<Inner>);

struct Inner {
    store: Store,
    table: Mutex<Table>,
    /// This node's row, should it need one.
    new_own: Mutex<Option<Row>>,
    /// Where members were reached.
    #[cfg(feature = "p2p")]
    reached: Mutex<crate::mesh::ip_table::Reached>,
    /// Held from the decision about a change until it is taken over.
    turn: Arc<Turn<()>>,
    changed: watch::Sender<()>,
    /// Probes that somebody waits for.
    asked: watch::Sender<usize>,
}

/// Why the table was not changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The document cannot be read.
    #[error(transparent)]
    Document(#[from] IpTableError),
    /// The rows cannot be taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such row.
    #[error("the table has no machine at {0}")]
    NotFound(Place),
    /// It is this node itself, which cannot be probed from here.
    #[error("{0} is this node itself")]
    OwnRow(Place),
    /// This node has no row of its own, and its address is not known.
    #[error("this node has no row in its table, and where it is reached is not known")]
    NoOwnRow,
    /// A text is longer than a row takes.
    #[error("the text has {len} bytes, at most {MAX_TEXT_BYTES} are kept")]
    LongText {
        /// Its bytes.
        len: usize,
    },
    /// The disk does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process is on its way out.
    #[error("the table is being closed")]
    Closed,
}

impl TableError {
    /// Stable word for programs: `usage`, `refused`, `not_found`, `in_use` or `store`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Document(_) | Self::LongText { .. } | Self::OwnRow(_) => "usage",
            Self::Refused(_) | Self::Closed => "refused",
            Self::NotFound(_) | Self::NoOwnRow => "not_found",
            Self::Store(StoreError::Refused { .. }) => "usage",
            Self::Store(StoreError::Held { .. }) => "in_use",
            Self::Store(_) => "store",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Document(IpTableError::Rows(_)) => {
                Some("nothing was stored; --skip-bad leaves bad rows out")
            }
            Self::Document(IpTableError::Syntax { .. }) => {
                Some("nothing was stored; --lenient reads the commas of P2PRC's documented sample")
            }
            Self::Document(_) | Self::Refused(_) => Some("nothing was stored"),
            Self::NotFound(_) => Some("`warren iptable ls` lists them"),
            Self::NoOwnRow => Some("start the daemon, or say with --address where it is reached"),
            Self::Store(StoreError::Write { .. }) => {
                Some("`warren status` shows when the disk takes writes again")
            }
            _ => None,
        }
    }
}

/// How a document is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// How it is read.
    pub read: Options,
    /// Rows of the user that are not in it go, and what it leaves open of others, too.
    pub replace: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What an import did, or would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// What it was taken for; `None` without any row.
    pub variant: Option<Variant>,
    /// How the document was read.
    pub report: Report,
    /// What became of its rows.
    pub merged: Merged,
}

impl IpTable {
    /// Opens the table of a data directory on which no daemon runs. Blocks, and locks the
    /// directory until [`IpTable::close`].
    ///
    /// # Errors
    /// [`TableError::Store`]; its code is `in_use` if a daemon runs on the directory.
    pub fn open(dir: &Path, now_unix_ms: u64) -> Result<Self, TableError> {
        let (store, mut loaded) = Store::open(dir, now_unix_ms)?;
        let me = files::load_identity(dir)?.map(|identity| identity.id());
        Ok(Self::of(store, &mut loaded, me))
    }

    /// Whether a data directory has a table that could be opened.
    pub fn exists(dir: &Path) -> bool {
        dir.join(DATABASE_FILE).exists()
    }

    /// The table of an open store; takes its rows out of `loaded`. What `me` tells others is not
    /// news.
    pub(crate) fn of(store: Store, loaded: &mut Loaded, me: Option<NodeId>) -> Self {
        let mut table = Table::new(std::mem::take(&mut loaded.ip_table));
        table.set_told(told(&loaded.ledger, me));
        Self(Arc::new(Inner {
            store,
            table: Mutex::new(table),
            new_own: Mutex::default(),
            #[cfg(feature = "p2p")]
            reached: Mutex::default(),
            turn: Arc::default(),
            changed: watch::Sender::new(()),
            asked: watch::Sender::new(0),
        }))
    }

    /// Closes the store. For who has opened it; a node closes its own.
    ///
    /// # Errors
    /// [`TableError::Store`]: what could not be written is lost; the directory is free all the
    /// same.
    pub async fn close(&self) -> Result<(), TableError> {
        Ok(self.0.store.close().await?)
    }

    /// Every machine, by place: what this node keeps, with what others tell.
    pub fn rows(&self) -> Vec<Arc<Row>> {
        self.table().list()
    }

    /// The machine at a place, by any of its addresses.
    pub fn get(&self, place: &Place) -> Option<Arc<Row>> {
        self.table().get(place)
    }

    /// Marked as changed after each change of what is kept.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Reads a document and takes its rows in, all or nothing: they are on disk when this
    /// returns.
    ///
    /// # Errors
    /// [`TableError`]; nothing was changed.
    pub async fn import(
        &self,
        document: impl Into<Bytes>,
        options: ImportOptions,
    ) -> Result<Imported, TableError> {
        let document = document.into();
        let turn = self.turn().await;
        let table = self.clone();
        // Reading a large document takes a second, in which a daemon has others to serve.
        let decided = tokio::task::spawn_blocking(move || {
            let iptable::Document {
                rows,
                variant,
                report,
            } = iptable::read(&document, options.read)?;
            drop(document);
            let import = table
                .table()
                .import(rows, Source::Imported, options.replace)?;
            Ok::<_, TableError>((variant, report, import))
        });
        let (variant, report, (edits, merged)) =
            decided.await.map_err(|_| TableError::Closed)??;
        if !options.dry_run {
            self.store(turn, edits).await?;
        }
        Ok(Imported {
            variant,
            report,
            merged,
        })
    }

    /// Adds a machine by its address, as the user's word.
    ///
    /// # Errors
    /// [`TableError`]; nothing was changed.
    pub async fn add(
        &self,
        place: Place,
        name: Option<Name>,
        replace: bool,
    ) -> Result<Merged, TableError> {
        let mut row = Row::new(place, Source::Configured);
        row.name = name.map(|name| name.to_string()).unwrap_or_default();
        let turn = self.turn().await;
        let import = self.table().import(vec![row], Source::Configured, replace);
        let (edits, merged) = import?;
        self.store(turn, edits).await?;
        Ok(merged)
    }

    /// Removes machines. What another node tells of them is not shown any more, until it tells
    /// something else.
    ///
    /// # Errors
    /// [`TableError::NotFound`] if one of them is not there; then none is removed.
    pub async fn remove(&self, places: &[Place]) -> Result<(), TableError> {
        let turn = self.turn().await;
        let mut all = Edits::default();
        for place in places {
            let edits = self.table().remove(place);
            let edits = edits.ok_or_else(|| TableError::NotFound(place.clone()))?;
            all.put.extend(edits.put);
            all.remove.extend(edits.remove);
        }
        self.store(turn, all).await
    }

    /// Removes machines that are unreachable, and says which: those that others told of, and with
    /// `all` those of the user, too.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn prune(&self, all: bool, dry_run: bool) -> Result<Vec<Arc<Row>>, TableError> {
        let turn = self.turn().await;
        let (edits, gone) = self.table().prune(all);
        if !dry_run {
            self.store(turn, edits).await?;
        }
        Ok(gone)
    }

    /// As [`IpTable::prune`] without `all`, of the machines at `places` only.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn prune_among(&self, places: &BTreeSet<Place>) -> Result<Vec<Arc<Row>>, TableError> {
        let turn = self.turn().await;
        let (edits, gone) = self.table().prune_among(places);
        self.store(turn, edits).await?;
        Ok(gone)
    }

    /// Says something of this node for all to see (P2PRC's `CustomInformation`). Its row is made
    /// if it has none: at `place`, else where the running node is reached. One that it has moves
    /// to `place`.
    ///
    /// # Errors
    /// [`TableError::NoOwnRow`], [`TableError::LongText`], [`TableError::Store`].
    pub async fn annotate(&self, text: String, place: Option<Place>) -> Result<(), TableError> {
        if text.len() > MAX_TEXT_BYTES {
            let len = text.len();
            return Err(TableError::LongText { len });
        }
        let turn = self.turn().await;
        let new = lock(&self.0.new_own).clone();
        let edits = self.table().annotate(text, place, new);
        self.store(turn, edits.ok_or(TableError::NoOwnRow)?).await
    }

    /// Notes what a round of measurements found: on disk when this returns. A miss makes a
    /// machine suspect, [`crate::mesh::ip_table::MISSES_UNREACHABLE`] of them unreachable; none
    /// removes it.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn record(&self, round: &Round) -> Result<Recorded, TableError> {
        let turn = self.turn().await;
        let (edits, recorded) = self.table().record(round);
        self.store(turn, edits).await?;
        Ok(recorded)
    }

    /// Takes in what somebody sent who has proven nothing, at most `room` new machines: see
    /// [`Table::post`]. On disk when this returns.
    ///
    /// # Errors
    /// [`TableError::Store`]; nothing was changed.
    pub async fn post(
        &self,
        rows: Vec<Row>,
        from: Stranger,
        room: usize,
    ) -> Result<Posted, TableError> {
        let turn = self.turn().await;
        let own = lock(&self.0.new_own).clone();
        let (edits, posted) = self.table().post(rows, from, own.as_ref(), room);
        self.store(turn, edits).await?;
        Ok(posted)
    }

    /// What somebody is told who has proven nothing, this node first: see [`Table::tell`].
    pub fn tell(&self, to: Stranger) -> Vec<Arc<Row>> {
        let own = lock(&self.0.new_own).clone();
        self.table().tell(to, own)
    }

    /// The row that this node gets when it needs one.
    #[cfg(feature = "p2p")]
    pub(crate) fn set_new_own(&self, row: Row) {
        *lock(&self.0.new_own) = Some(row);
    }

    /// Members are reached there now, and others are online without a link. Returns whether that
    /// is news; then what others tell is to be heard anew.
    #[cfg(feature = "p2p")]
    pub(crate) fn reached(
        &self,
        members: &[(NodeId, std::net::SocketAddr)],
        is_online: impl Fn(&NodeId) -> bool,
    ) -> bool {
        lock(&self.0.reached).note(members, is_online)
    }

    /// What others tell now, as their entries of the ledger have it, but for what they say of
    /// addresses at which other members are; and what `me` should tell them.
    #[cfg(feature = "p2p")]
    pub(crate) fn hear(&self, entries: &[Entry], me: NodeId) -> Vec<Arc<Row>> {
        let told = told(entries, Some(me)).into_iter();
        let reached = lock(&self.0.reached).clone();
        let mut table = self.table();
        table.set_told(told.filter_map(|told| reached.judge(told)));
        table.shared(me)
    }

    async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0.turn).lock_owned().await
    }

    /// Stores `edits`, then takes them over. In a task of its own: who asked may be gone before
    /// the disk has answered, and the table must not fall behind the disk.
    async fn store(&self, turn: OwnedMutexGuard<()>, edits: Edits) -> Result<(), TableError> {
        if edits.is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let stored = tokio::spawn(async move {
            let _turn = turn;
            let removed = edits.remove.iter().cloned().map(Change::RemoveMachine);
            let put = Change::PutMachines(edits.put.clone());
            this.0.store.commit(removed.chain([put]).collect()).await?;
            this.table().apply(edits);
            this.0.changed.send_replace(());
            Ok(())
        });
        stored.await.unwrap_or(Err(TableError::Closed))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.0.table)
    }
}

fn told(entries: &[Entry], me: Option<NodeId>) -> Vec<Told> {
    let others = entries.iter().filter(|e| Some(e.slot.author) != me);
    others.filter_map(shared::told).collect()
}

/// Nothing that runs under these locks leaves what they guard half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
