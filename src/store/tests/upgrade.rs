//! Databases of earlier schemas are brought to the current one, with everything in them.

use redb::{ReadableDatabase, TableHandle};

use super::*;
use crate::store::tables::Table;
use crate::store::transaction::transact;

#[test]
fn migrations_run_once_each_and_in_order() {
    let disk = Disk::default();
    let database = disk.open().unwrap();
    let path = Path::new("disk");
    fn step(txn: &redb::WriteTransaction) -> Result<(), redb::Error> {
        let mut roles = txn.open_table(Table::Roles.definition())?;
        let steps = redb::ReadableTableMetadata::len(&roles)?;
        roles.insert(steps.to_be_bytes().as_slice(), [1, 0].as_slice())?;
        Ok(())
    }
    fn fails(_: &redb::WriteTransaction) -> Result<(), redb::Error> {
        Err(redb::Error::Corrupted("no".to_owned()))
    }
    let [first, floors, ip_table, networks] = schema::MIGRATIONS else {
        panic!("there are more")
    };
    schema::migrate(&database, path, &[*first]).unwrap();
    let known = [*first, *floors, *ip_table, *networks];
    let failing = [&known[..], &[step, fails]].concat();
    assert!(schema::migrate(&database, path, &failing).is_err());
    let steps = [&known[..], &[step, step]].concat();
    schema::migrate(&database, path, &steps).unwrap();
    schema::migrate(&database, path, &steps).unwrap();
    let loaded = schema::load(&database, path, 0).unwrap();
    assert_eq!(
        loaded.roles.len(),
        2,
        "a migration was repeated or left out"
    );
    let error = schema::migrate(&database, path, &[*first]).unwrap_err();
    assert!(matches!(
        error,
        StoreError::NewerSchema {
            found: 6,
            known: 1,
            ..
        }
    ));
}

/// Every change that there was before floors.
fn changes_of_schema_1() -> Vec<Change> {
    let removed = Draft {
        version: 9,
        deleted: true,
        ..draft("removed", b"")
    };
    vec![
        Change::PutEntry(entry("model", b"llama")),
        Change::PutEntry(signed(1, removed)),
        Change::PutEntry(signed(2, draft("model", b"llama"))),
        Change::Peer(peer(2)),
        count(2, 41),
        Change::Knock {
            epoch: 7,
            nonce: [3; 12],
        },
        Change::Role {
            id: 1,
            spec: vec![7; 300],
        },
    ]
}

#[tokio::test]
async fn a_database_of_schema_1_keeps_all_it_holds_and_takes_floors() {
    let disk = Disk::default();
    let path = Path::new("disk");
    {
        let database = disk.open().unwrap();
        schema::migrate(&database, path, &schema::MIGRATIONS[..1]).unwrap();
        let batch = Batch::of(changes_of_schema_1()).unwrap();
        transact(&database, [&batch].into_iter(), &BTreeMap::new()).unwrap();
        let txn = database.begin_read().unwrap();
        let tables = txn.list_tables().unwrap();
        let names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        for table in Table::ALL {
            let since = table.is_of_network() && table != Table::Floors || table == Table::Meta;
            assert_eq!(names.contains(&table.name().to_owned()), since, "{names:?}");
        }
    }
    // What a database that never had another schema holds after the same changes.
    let fresh = Disk::default();
    let store = fresh.store(Pace::default());
    store.commit(changes_of_schema_1()).await.unwrap();
    store.close().await.unwrap();

    let storage = disk.clone();
    let opened = Store::open_on(path, move || Ok(storage.clone()), 1_000);
    let (store, loaded) = opened.unwrap();
    assert_eq!(loaded.ledger.len(), 3);
    let boot = loaded.boot;
    assert_eq!(boot, 1_000);
    assert_eq!(
        loaded,
        Loaded {
            boot,
            ..fresh.load()
        }
    );
    store
        .commit(vec![Change::PutFloor(floor(1, 8)), count(2, 1)])
        .await
        .unwrap();
    store.close().await.unwrap();
    let after = disk.load();
    assert_eq!(after.floors, [floor(1, 8)]);
    assert_eq!(keys(&after), ["model", "removed"]);
    assert_eq!(after.ledger[0].slot.author, node(2));
    assert_eq!(after.counts[0].2, 42, "the count began anew");
}
