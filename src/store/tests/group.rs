//! Group commit, write-behind, and what a sequence of changes comes to.

use std::task::{Context, Waker};

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::store::tables::Table;

/// Nothing is written unless somebody asks.
fn never() -> Pace {
    Pace {
        write_behind: PATIENCE * 60,
        ..Pace::default()
    }
}

#[tokio::test]
async fn commits_that_wait_together_share_a_transaction() {
    let disk = Disk::default();
    let store = disk.store(Pace::default());
    let commits: Vec<_> = (0..200)
        .map(|n| vec![Change::PutEntry(entry(&format!("k{n}"), b"v"))])
        .map(|changes| store.commit(changes))
        .collect();
    // While the disk is held the first group cannot end, so all others come into the second.
    let held = disk.state();
    let mut all = Box::pin(join_all(commits));
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(all.as_mut().poll(&mut nobody).is_pending());
    drop(held);
    for done in in_time(all).await {
        done.unwrap();
    }
    assert!(store.transactions() <= 2, "{}", store.transactions());
    assert_eq!(disk.load().ledger.len(), 200);
}

#[tokio::test]
async fn write_behind_is_written_without_a_commit() {
    let disk = Disk::default();
    let store = disk.store(Pace::default());
    store.later(count(1, 1));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while disk.load().counts.is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn write_behind_is_merged_and_goes_with_the_next_commit() {
    let disk = Disk::default();
    let store = disk.store(never());
    for _ in 0..1000 {
        store.later(count(1, 1));
    }
    store.later(count(2, 5));
    store.later(Change::Peer(peer(4)));
    assert_eq!(store.transactions(), 0);
    in_time(store.commit(vec![count(1, 10)])).await.unwrap();
    assert_eq!(store.transactions(), 1);
    let loaded = disk.load();
    let mut counts: Vec<_> = loaded.counts.iter().map(|(_, id, n)| (*id, *n)).collect();
    counts.sort_by_key(|(_, n)| *n);
    assert_eq!(counts, [(node(2), 5), (node(1), 1010)]);
    assert_eq!(loaded.peers, [peer(4)]);
}

#[tokio::test]
async fn counts_go_on_after_a_restart() {
    let disk = Disk::default();
    for _ in 0..3 {
        let store = disk.store(never());
        store.later(count(1, 2));
        in_time(store.close()).await.unwrap();
    }
    assert_eq!(disk.load().counts[0].2, 6);
}

#[tokio::test]
async fn a_dropped_store_writes_what_waits() {
    let disk = Disk::default();
    let store = disk.store(never());
    store.later(count(1, 2));
    drop(store);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while disk.load().counts.is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_closed_store_answers() {
    let disk = Disk::default();
    let store = disk.store(never());
    in_time(store.close()).await.unwrap();
    in_time(store.close()).await.unwrap();
    let error = in_time(store.commit(vec![count(1, 1)])).await.unwrap_err();
    assert_eq!(error, StoreError::Closed);
    store.later(count(1, 1));
}

#[tokio::test]
async fn a_change_that_must_not_be_stored_takes_its_group_with_it() {
    let disk = Disk::default();
    let store = disk.store(never());
    let mut live = Body::clone(&entry("live", b"v"));
    live.slot.class = Class::Live;
    let changes = vec![
        Change::PutEntry(entry("good", b"v")),
        Change::PutEntry(live.into()),
    ];
    let error = in_time(store.commit(changes)).await.unwrap_err();
    assert!(error.to_string().contains("\"live\""), "{error}");
    let long = Change::Role {
        id: 1,
        spec: vec![0; MAX_ROLE_BYTES + 1],
    };
    assert!(in_time(store.commit(vec![long])).await.is_err());
    assert_eq!(disk.load().ledger, []);
}

#[tokio::test]
async fn leaving_forgets_the_network_and_not_the_boot() {
    let disk = Disk::default();
    let store = disk.store(never());
    store.later(count(1, 9));
    let knock = |epoch| Change::Knock {
        epoch,
        nonce: [1; 12],
    };
    let role = Change::Role {
        id: 3,
        spec: b"r".to_vec(),
    };
    let all = vec![
        Change::PutEntry(entry("k", b"v")),
        Change::Peer(peer(2)),
        knock(4),
        role.clone(),
    ];
    in_time(store.commit(all)).await.unwrap();
    let before = disk.load();
    assert_eq!(before.knocks, [(4, [1; 12])]);
    assert_eq!(before.roles, [(3, b"r".to_vec())]);
    in_time(store.commit(vec![Change::ForgetNetwork, count(1, 1)]))
        .await
        .unwrap();
    let after = disk.load();
    assert_eq!(after.boot, before.boot);
    assert_eq!(after.counts[0].2, 1, "the new count starts at zero");
    let nothing = Loaded {
        boot: after.boot,
        counts: after.counts.clone(),
        ..Loaded::default()
    };
    assert_eq!(after, nothing);
}

/// What an author signs again and the floor beneath it are one transaction; what waits and what
/// is on disk is voided alike.
#[tokio::test]
async fn a_floor_takes_the_entries_below_it_with_it() {
    let disk = Disk::default();
    let store = disk.store(never());
    in_time(store.commit(vec![Change::PutEntry(entry("stored", b"v"))]))
        .await
        .unwrap();
    store.later(Change::PutEntry(entry("waiting", b"v")));
    let mut survivor = Body::clone(&entry("survivor", b"v"));
    survivor.version = 9;
    let changes = vec![
        Change::PutEntry(survivor.clone().into()),
        Change::PutFloor(floor(2, 100)),
        Change::PutFloor(floor(1, 8)),
    ];
    in_time(store.commit(changes)).await.unwrap();
    let loaded = disk.load();
    assert_eq!(loaded.ledger, [Entry::from(survivor)]);
    let heights = loaded
        .floors
        .iter()
        .map(|floor| (floor.author, floor.floor));
    let heights: BTreeMap<NodeId, u64> = heights.collect();
    assert_eq!(heights, BTreeMap::from([(node(1), 8), (node(2), 100)]));
}

#[tokio::test]
async fn write_behind_is_bounded_but_counts_still_add_up() {
    let disk = Disk::default();
    let store = disk.store(never());
    store.later(count(1, 1));
    let role = |id| Change::Role {
        id,
        spec: vec![0; MAX_ROLE_BYTES],
    };
    for id in 0..1000 {
        store.later(role(id));
    }
    store.later(count(1, 1));
    in_time(store.close()).await.unwrap();
    let loaded = disk.load();
    assert!(loaded.roles.len() < 300, "the bound had no effect");
    assert!(!loaded.roles.is_empty());
    assert_eq!(loaded.counts[0].2, 2);
}

/// A few rows, so that changes meet.
fn change() -> impl Strategy<Value = Change> {
    let slot = |n: u8| entry(&n.to_string(), b"").slot.clone();
    prop_oneof![
        (0u8..3, any::<u8>()).prop_map(|(k, v)| Change::PutEntry(entry(&k.to_string(), &[v]))),
        (0u8..3).prop_map(move |n| Change::DropEntry(slot(n))),
        (1u8..3, 6u64..9).prop_map(|(n, at)| Change::PutFloor(floor(n, at))),
        (1u8..3).prop_map(|n| Change::DropFloor(node(n))),
        (1u8..3, 1u64..9).prop_map(|(n, add)| count(n, add)),
        (0u64..4, 0u8..3).prop_map(|(epoch, n)| Change::Knock {
            epoch,
            nonce: [n; 12]
        }),
        (0u64..5).prop_map(Change::ForgetKnocksBefore),
        (0u64..3, any::<u8>()).prop_map(|(id, v)| Change::Role { id, spec: vec![v] }),
        (0u64..3).prop_map(Change::ForgetRole),
        (1u8..3).prop_map(|n| Change::Peer(peer(n))),
        (1u8..3).prop_map(|n| Change::ForgetPeer(node(n))),
        (1u8..4, any::<u8>()).prop_map(|(n, v)| Change::PutMachines(vec![machine(n, v).into()])),
        (1u8..4).prop_map(|n| Change::RemoveMachine(machine(n, 0).place)),
        Just(Change::ClearMachines),
        (1u8..4, any::<u8>()).prop_map(|(n, v)| Change::PutNetworks(vec![network(n, v).into()])),
        (1u8..4, 1u64..3).prop_map(|(n, at)| Change::RemoveNetworks(vec![gone(n, at)])),
        (1u8..4).prop_map(|n| Change::ForgetRemovals(vec![gone(n, 0).key])),
        Just(Change::ForgetNetwork),
    ]
}

fn network(n: u8, name: u8) -> Network {
    let mut network = networks::bare(n);
    network.name = name.to_string();
    network
}

fn gone(n: u8, at_ms: u64) -> Removed {
    let key = networks::bare(n).key;
    Removed { key, at_ms }
}

/// What the tables hold, done naively: the oracle of `Batch`.
#[derive(Default)]
struct Model(BTreeMap<(Table, Vec<u8>), String>);

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::PutEntry(e) => self.put(Table::Ledger, &e.slot.key, format!("{:?}", e.value)),
            Change::DropEntry(slot) => self.remove(Table::Ledger, &slot.key),
            Change::Peer(p) => self.put(Table::Peers, &p.id.to_string(), String::new()),
            Change::ForgetPeer(id) => self.remove(Table::Peers, &id.to_string()),
            Change::Count { node, add, .. } => {
                let key = (Table::Counts, node.to_string().into_bytes());
                let old: u64 = self.0.get(&key).map_or(0, |n| n.parse().unwrap());
                self.0.insert(key, (old + add).to_string());
            }
            Change::PutFloor(floor) => {
                // Every entry here is version 7 of node 1.
                if floor.author == node(1) && floor.floor > 7 {
                    self.0.retain(|(table, _), _| *table != Table::Ledger);
                }
                self.put(
                    Table::Floors,
                    &floor.author.to_string(),
                    floor.floor.to_string(),
                );
            }
            Change::DropFloor(author) => self.remove(Table::Floors, &author.to_string()),
            Change::Knock { epoch, nonce } => {
                self.put(Table::Knocks, &format!("{epoch} {nonce:?}"), String::new());
            }
            Change::ForgetKnocksBefore(end) => self.0.retain(|(table, key), _| {
                let epoch = key.first().map_or(0, |digit| u64::from(digit - b'0'));
                *table != Table::Knocks || epoch >= *end
            }),
            Change::Role { id, spec } => {
                self.put(Table::Roles, &id.to_string(), format!("{spec:?}"));
            }
            Change::ForgetRole(id) => self.remove(Table::Roles, &id.to_string()),
            Change::PutMachines(rows) => {
                for row in rows {
                    self.put(Table::Machines, &row.place.to_string(), row.name.clone());
                }
            }
            Change::RemoveMachine(place) => self.remove(Table::Machines, &place.to_string()),
            Change::ClearMachines => self.0.retain(|(table, _), _| *table != Table::Machines),
            Change::PutNetworks(rows) => {
                for row in rows {
                    self.put(Table::Networks, &row.key.to_string(), row.name.clone());
                }
            }
            Change::RemoveNetworks(removed) => {
                for gone in removed {
                    let (key, at) = (gone.key.to_string(), gone.at_ms.to_string());
                    self.remove(Table::Networks, &key);
                    self.put(Table::RemovedNetworks, &key, at);
                }
            }
            Change::ForgetRemovals(keys) => {
                for key in keys {
                    self.remove(Table::RemovedNetworks, &key.to_string());
                }
            }
            Change::ForgetNetwork => self.0.retain(|(table, _), _| !table.is_of_network()),
        }
    }

    fn put(&mut self, table: Table, key: &str, value: String) {
        self.0.insert((table, key.as_bytes().to_vec()), value);
    }

    fn remove(&mut self, table: Table, key: &str) {
        self.0.remove(&(table, key.as_bytes().to_vec()));
    }

    fn of(loaded: &Loaded) -> Self {
        let mut model = Self::default();
        for e in &loaded.ledger {
            model.put(Table::Ledger, &e.slot.key, format!("{:?}", e.value));
        }
        for f in &loaded.floors {
            model.put(Table::Floors, &f.author.to_string(), f.floor.to_string());
        }
        for p in &loaded.peers {
            model.put(Table::Peers, &p.id.to_string(), String::new());
        }
        for (_, id, n) in &loaded.counts {
            model.put(Table::Counts, &id.to_string(), n.to_string());
        }
        for (epoch, nonce) in &loaded.knocks {
            model.put(Table::Knocks, &format!("{epoch} {nonce:?}"), String::new());
        }
        for (id, spec) in &loaded.roles {
            model.put(Table::Roles, &id.to_string(), format!("{spec:?}"));
        }
        for row in &loaded.ip_table {
            model.put(Table::Machines, &row.place.to_string(), row.name.clone());
        }
        for row in &loaded.networks {
            model.put(Table::Networks, &row.key.to_string(), row.name.clone());
        }
        for gone in &loaded.removed_networks {
            let (key, at) = (gone.key.to_string(), gone.at_ms.to_string());
            model.put(Table::RemovedNetworks, &key, at);
        }
        model
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_ends_as_if_done_one_by_one(
        groups in prop::collection::vec((any::<bool>(), prop::collection::vec(change(), 1..8)), 1..8)
    ) {
        let disk = Disk::default();
        let store = disk.store(never());
        let mut model = Model::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (now, changes) in groups {
            changes.iter().for_each(|change| model.apply(change));
            if now {
                runtime.block_on(store.commit(changes)).unwrap();
            } else {
                changes.into_iter().for_each(|change| store.later(change));
            }
        }
        runtime.block_on(store.close()).unwrap();
        prop_assert_eq!(Model::of(&disk.load()).0, model.0);
    }
}
