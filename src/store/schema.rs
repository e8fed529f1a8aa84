//! The database file: opened or made, brought to the current schema, read.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableError, WriteTransaction,
};

use super::disk::{refuse_non_file, remove_file, sync_dir};
use super::ip_table::read_ip;
use super::lock::describe_holder;
use super::networks::{read_history, read_network, read_removed};
use super::tables::{
    META_BOOT, META_PROBE, META_SCHEMA, RowError, Table, damage, number, read_count, read_entry,
    read_floor, read_knock, read_number, read_peer, read_role,
};
use super::{Loaded, StoreError};

/// Name of the database file.
pub const DATABASE_FILE: &str = "warren.redb";

/// redb's page cache. Everything is read once at the start and then only written, so more than
/// the inner pages of the trees is not worth its memory.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

type Migration = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// Migration `n` leads from schema `n` to `n + 1`. Never changed once released; only added to.
pub(super) const MIGRATIONS: &[Migration] = &[first_tables, floors, ip_table, networks];

fn first_tables(txn: &WriteTransaction) -> Result<(), redb::Error> {
    for table in [
        Table::Meta,
        Table::Ledger,
        Table::Peers,
        Table::Counts,
        Table::Knocks,
        Table::Roles,
    ] {
        txn.open_table(table.definition())?;
    }
    Ok(())
}

fn floors(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(Table::Floors.definition())?;
    Ok(())
}

fn ip_table(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(Table::Machines.definition())?;
    Ok(())
}

fn networks(txn: &WriteTransaction) -> Result<(), redb::Error> {
    for table in [
        Table::Networks,
        Table::NetworkHistory,
        Table::RemovedNetworks,
    ] {
        txn.open_table(table.definition())?;
    }
    Ok(())
}

/// Makes `dir`'s database, in the current schema, if it has none.
pub(super) fn make_if_missing(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(DATABASE_FILE);
    refuse_non_file(&path)?;
    if path.exists() {
        return Ok(());
    }
    // Made under another name: a crash half way must not leave a file that looks damaged.
    let unfinished = dir.join(format!("{DATABASE_FILE}.new"));
    remove_file(&unfinished)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|error| StoreError::path("create", &unfinished, &error))?;
    let file = FileBackend::new(file).map_err(|error| open_error(&unfinished, error))?;
    migrate(&build(&unfinished, file)?, &unfinished, MIGRATIONS)?;
    std::fs::rename(&unfinished, &path)
        .and_then(|()| sync_dir(dir))
        .map_err(|error| StoreError::path("create", &path, &error))
}

/// The file of a database that exists.
pub(super) fn file(path: &Path) -> Result<FileBackend, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| StoreError::path("open", path, &error))?;
    FileBackend::new(file).map_err(|error| open_error(path, error))
}

/// Opens a database that exists.
pub(super) fn open(path: &Path, storage: impl StorageBackend) -> Result<Database, StoreError> {
    let len = storage
        .len()
        .map_err(|error| StoreError::path("read", path, &error))?;
    if len == 0 {
        // redb would take it for a new one; but then it would not be there.
        return Err(damaged(path, "it is empty"));
    }
    build(path, storage)
}

fn build(path: &Path, storage: impl StorageBackend) -> Result<Database, StoreError> {
    guarded(path, || {
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(storage)
            .map_err(|error| open_error(path, error))
    })
}

/// Runs what reads a file that may be damaged: redb asserts where it should answer.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(damaged(path, "its pages contradict each other")))
}

fn damaged(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            let dir = path.parent().unwrap_or(path);
            StoreError::Held {
                dir: dir.to_owned(),
                holder: describe_holder(dir),
            }
        }
        error => read_error(path, error.into()),
    }
}

fn read_error(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::path("read", path, &error)
        }
        error => damaged(path, error.to_string()),
    }
}

/// Brings `db` to the newest schema, one transaction for each step.
pub(super) fn migrate(
    db: &Database,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    guarded(path, || take_steps(db, path, migrations))
}

fn take_steps(db: &Database, path: &Path, migrations: &[Migration]) -> Result<(), StoreError> {
    let failed = |error| read_error(path, error);
    let known = migrations.len() as u64;
    let found = schema(db, path)?;
    if found > known {
        return Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (from, migration) in (0u64..).zip(migrations) {
        if from < found {
            continue;
        }
        let step = || -> Result<(), redb::Error> {
            let txn = db.begin_write()?;
            migration(&txn)?;
            txn.open_table(Table::Meta.definition())?
                .insert(META_SCHEMA, number(from + 1).as_slice())?;
            Ok(txn.commit()?)
        };
        step().map_err(failed)?;
    }
    Ok(())
}

/// Schema of `db`; 0 for one without tables.
fn schema(db: &Database, path: &Path) -> Result<u64, StoreError> {
    let failed = |error| read_error(path, error);
    let txn = db.begin_read().map_err(|error| failed(error.into()))?;
    match read_meta(&txn, META_SCHEMA).map_err(failed)? {
        Some(value) => {
            value.map_err(|error| damaged(path, damage(Table::Meta, META_SCHEMA, &error)))
        }
        None => {
            let mut tables = txn.list_tables().map_err(|error| failed(error.into()))?;
            match tables.next() {
                None => Ok(0),
                Some(_) => Err(damaged(path, "it is another program's database")),
            }
        }
    }
}

fn read_meta(
    txn: &ReadTransaction,
    key: &[u8],
) -> Result<Option<Result<u64, RowError>>, redb::Error> {
    let meta = match txn.open_table(Table::Meta.definition()) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        meta => meta?,
    };
    Ok(meta.get(key)?.map(|value| read_number(value.value())))
}

/// Begins a new boot and reads all tables.
pub(super) fn load(db: &Database, path: &Path, now_unix_ms: u64) -> Result<Loaded, StoreError> {
    guarded(path, || {
        let boot = begin_boot(db, path, now_unix_ms)?;
        let mut loaded = Loaded {
            boot,
            ..Loaded::default()
        };
        read_all(db, &mut loaded).map_err(|error| read_error(path, error))?;
        Ok(loaded)
    })
}

/// `max(stored + 1, now)` (C18), durable before anyone can have seen it: a boot is never used
/// twice, not even if the clock went back.
fn begin_boot(db: &Database, path: &Path, now_unix_ms: u64) -> Result<u64, StoreError> {
    let failed = |error| read_error(path, error);
    let txn = db.begin_read().map_err(|error| failed(error.into()))?;
    let stored = match read_meta(&txn, META_BOOT).map_err(failed)? {
        None => 0,
        Some(Ok(boot)) => boot,
        Some(Err(error)) => return Err(damaged(path, damage(Table::Meta, META_BOOT, &error))),
    };
    drop(txn);
    let boot = stored.saturating_add(1).max(now_unix_ms);
    let write = || -> Result<(), redb::Error> {
        let txn = db.begin_write()?;
        let mut meta = txn.open_table(Table::Meta.definition())?;
        meta.insert(META_BOOT, number(boot).as_slice())?;
        // A crash while the disk was tested left it.
        meta.remove(META_PROBE)?;
        drop(meta);
        Ok(txn.commit()?)
    };
    match write() {
        Ok(()) => Ok(boot),
        Err(error @ redb::Error::Corrupted(_)) => Err(failed(error)),
        Err(error) => Err(StoreError::write(&error)),
    }
}

fn read_all(db: &Database, loaded: &mut Loaded) -> Result<(), redb::Error> {
    let txn = db.begin_read()?;
    let damaged = &mut loaded.damaged;
    loaded.ledger = read_table(&txn, Table::Ledger, damaged, read_entry)?;
    loaded.floors = read_table(&txn, Table::Floors, damaged, read_floor)?;
    loaded.peers = read_table(&txn, Table::Peers, damaged, read_peer)?;
    loaded.counts = read_table(&txn, Table::Counts, damaged, read_count)?;
    loaded.knocks = read_table(&txn, Table::Knocks, damaged, read_knock)?;
    loaded.roles = read_table(&txn, Table::Roles, damaged, read_role)?;
    loaded.ip_table = read_table(&txn, Table::Machines, damaged, read_ip)?;
    loaded.networks = read_table(&txn, Table::Networks, damaged, read_network)?;
    let history = read_table(&txn, Table::NetworkHistory, damaged, read_history)?;
    let mut history: BTreeMap<_, _> = history.into_iter().collect();
    for network in &mut loaded.networks {
        network.history = history.remove(&network.key).unwrap_or_default();
    }
    loaded.removed_networks = read_table(&txn, Table::RemovedNetworks, damaged, read_removed)?;
    Ok(())
}

fn read_table<T>(
    txn: &ReadTransaction,
    table: Table,
    damaged: &mut Vec<String>,
    read: fn(&[u8], &[u8]) -> Result<T, RowError>,
) -> Result<Vec<T>, redb::Error> {
    let mut rows = Vec::new();
    for row in txn.open_table(table.definition())?.iter()? {
        let (key, value) = row?;
        match read(key.value(), value.value()) {
            Ok(row) => rows.push(row),
            Err(why) => damaged.push(damage(table, key.value(), &why)),
        }
    }
    Ok(rows)
}
