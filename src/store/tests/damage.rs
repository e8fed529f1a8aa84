//! Files that are not what they should be: reported, named, left as they are.

use std::fs;

use redb::{ReadableDatabase, TableDefinition};

use super::*;
use crate::store::tables::{META_SCHEMA, Table, number};

fn closed_store(changes: Vec<Change>) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        store.commit(changes).await.unwrap();
        store.close().await.unwrap();
    });
    let file = dir.path().join(DATABASE_FILE);
    (dir, file)
}

fn edit(file: &Path, table: Table, key: &[u8], value: &[u8]) {
    let database = Database::open(file).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(table.definition())
        .unwrap()
        .insert(key, value)
        .unwrap();
    txn.commit().unwrap();
}

fn open_error(dir: &Path) -> StoreError {
    match Store::open(dir, 1) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[test]
fn damaged_rows_are_reported_and_kept() {
    const DAMAGED: usize = Table::ALL.len() - 1;
    let (dir, file) = closed_store(vec![
        Change::PutEntry(entry("good", b"v")),
        Change::Peer(peer(2)),
    ]);
    for table in Table::ALL {
        if table != Table::Meta {
            edit(&file, table, b"?", &[1]);
        }
    }
    let (store, loaded) = Store::open(dir.path(), 2).unwrap();
    assert_eq!(loaded.damaged.len(), DAMAGED, "{:?}", loaded.damaged);
    assert!(loaded.damaged[0].contains("table ledger, row 3f"));
    assert_eq!(keys(&loaded), ["good"]);
    assert_eq!(loaded.peers, [peer(2)]);
    drop(store);
    wait_free(dir.path());
    let (_store, loaded) = Store::open(dir.path(), 3).unwrap();
    assert_eq!(loaded.damaged.len(), DAMAGED, "they were deleted");
}

#[test]
fn values_that_are_damaged_do_not_pass() {
    use crate::store::tables::{put_entry, put_peer, read_entry, read_number, read_peer};
    let good = entry("k", b"value");
    let ((_, key), change) = put_entry(&good).unwrap();
    let crate::store::tables::RowChange::Put(value) = change else {
        panic!("an entry is put");
    };
    assert_eq!(read_entry(&key, &value), Ok(good));
    for cut in 0..value.len() {
        assert!(read_entry(&key, &value[..cut]).is_err());
    }
    for cut in 0..key.len() {
        assert!(read_entry(&key[..cut], &value).is_err());
    }
    let longer = [value.as_slice(), &[0]].concat();
    assert!(read_entry(&key, &longer).is_err(), "trailing bytes");
    let mut other = value;
    other[0] = 2;
    let error = read_entry(&key, &other).unwrap_err().to_string();
    assert!(error.contains("version Some(2)"), "{error}");
    assert!(read_entry(&key, &vec![1; 100_000]).is_err());
    assert!(read_number(&[]).is_err());

    // A peer with more addresses than are kept.
    let mut crowd = peer(1);
    crowd.addresses = vec!["192.0.2.1:1".parse().unwrap(); 100];
    let ((_, key), change) = put_peer(&crowd).unwrap();
    let crate::store::tables::RowChange::Put(value) = change else {
        panic!("a peer is put");
    };
    let kept = read_peer(&key, &value).unwrap();
    assert_eq!(kept.addresses.len(), MAX_PEER_ADDRESSES);
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let (dir, file) = closed_store(vec![]);
    for content in [&b""[..], b"hello", &[0; 8192], b"redb"] {
        fs::write(&file, content).unwrap();
        let error = open_error(dir.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("move it away"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = open_error(dir.path()).to_string();
    assert!(error.contains("is a directory, not a file"), "{error}");
}

#[test]
fn another_programs_database_is_refused() {
    let (dir, file) = closed_store(vec![]);
    fs::remove_file(&file).unwrap();
    let database = Database::create(&file).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<u64, u64>::new("theirs"))
        .unwrap();
    txn.commit().unwrap();
    drop(database);
    let error = open_error(dir.path()).to_string();
    assert!(error.contains("another program's"), "{error}");
}

#[test]
fn a_cut_or_flipped_file_never_panics_and_is_not_changed_by_refusing() {
    let changes = (0..40).map(|n| Change::PutEntry(entry(&n.to_string(), &[n; 3000])));
    let (dir, file) = closed_store(changes.collect());
    let good = fs::read(&file).unwrap();
    let mut refused = 0;
    // A fixed walk over the file: every region gets a flip, and every cut length is odd.
    for step in 0..60 {
        let mut bad = good.clone();
        let at = step * 7919 % good.len();
        if step % 3 == 0 {
            bad.truncate(at);
        } else {
            let spot = if step < 30 { at % 4096 } else { at };
            bad[spot] ^= 0x41;
        }
        fs::write(&file, &bad).unwrap();
        match Store::open(dir.path(), 1) {
            Ok((store, _)) => {
                drop(store);
                wait_free(dir.path());
                Store::open(dir.path(), 1).unwrap();
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                assert_eq!(fs::read(&file).unwrap(), bad, "step {step}: {error}");
            }
        }
        wait_free(dir.path());
    }
    assert!(refused > 10, "the damage had no effect: {refused}");
}

/// Until a store that was dropped has let go of its directory.
fn wait_free(dir: &Path) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match crate::store::lock::DirLock::take(dir, 0) {
            Ok(_) => return,
            Err(_) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_newer_schema_is_refused_by_number() {
    let (dir, file) = closed_store(vec![]);
    edit(&file, Table::Meta, META_SCHEMA, &number(99));
    let error = open_error(dir.path()).to_string();
    assert!(error.contains("schema 99"), "{error}");
    assert!(error.contains("knows up to 4"), "{error}");
}

#[test]
fn a_boot_is_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut boots = Vec::new();
    for now in [1000, 2000, 5, 5, 3000] {
        let (store, loaded) = Store::open(dir.path(), now).unwrap();
        boots.push(loaded.boot);
        drop(store);
        wait_free(dir.path());
    }
    assert_eq!(boots, [1000, 2000, 2001, 2002, 3000]);
}

#[test]
fn a_second_open_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/for/it");
    let (store, _) = Store::open(&data, 1).unwrap();
    let mode = |path: &Path| std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
    assert_eq!(mode(&data) & 0o777, 0o700);
    for file in [PID_FILE, DATABASE_FILE] {
        assert_eq!(mode(&data.join(file)) & 0o777, 0o600, "{file}");
    }
    let error = open_error(&data).to_string();
    assert!(
        error.contains("a daemon that is starting, process"),
        "{error}"
    );
    let holder = Holder {
        pid: 4711,
        node: Some(NodeText(node(1))),
        name: Some("atlas".parse().unwrap()),
        started_ms: 1,
    };
    store.write_pid_file(&holder).unwrap();
    assert_eq!(read_holder(&data), Some(holder));
    let error = open_error(&data).to_string();
    assert!(error.contains("the daemon atlas, node "), "{error}");
    assert!(error.contains("process 4711; stop that one"), "{error}");
    // Even without the lock file the database itself is locked.
    fs::remove_file(data.join(PID_FILE)).unwrap();
    assert!(matches!(open_error(&data), StoreError::Held { .. }));
}

#[test]
fn a_crash_while_the_database_is_made_leaves_a_clean_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("warren.redb.new"), b"half").unwrap();
    let (_store, loaded) = Store::open(dir.path(), 8).unwrap();
    assert_eq!(loaded.boot, 8);
    let database = dir.path().join(DATABASE_FILE);
    assert!(database.exists() && !dir.path().join("warren.redb.new").exists());
}

#[test]
fn a_file_as_directory_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for place in [file.clone(), file.join("below")] {
        let error = open_error(&place).to_string();
        assert!(error.contains("create the directory"), "{error}");
        assert!(error.contains("a file is where a directory"), "{error}");
    }
}

#[test]
fn reading_does_not_need_the_writer() {
    // Guards the fixture: a closed file has all tables of the schema.
    let (_dir, file) = closed_store(vec![]);
    let database = Database::open(file).unwrap();
    let txn = database.begin_read().unwrap();
    assert_eq!(txn.list_tables().unwrap().count(), Table::ALL.len());
}
