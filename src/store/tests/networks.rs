//! Rows of an explorer's networks: one for each network, its looks beside it, and no part of the
//! network that the node itself is in.

use super::*;
use crate::mesh::keys::Secret;
use crate::mesh::networks::{
    Cluster, ClusterKind, History, Look, MAX_CLUSTER_BYTES, Network, NetworkKey, Networks,
    NewNetwork, Removed, Saw, State,
};
use crate::mesh::token::{Token, TokenText};
use crate::store::networks::{put_network, read_history, read_network};
use crate::store::tables::{RowChange, Table};

/// As LocalAI makes them.
const LOCALAI: &str = include_str!("../../../tests/fixtures/localai-token.txt");

/// A row of which nothing is known.
pub(super) fn bare(n: u8) -> Network {
    let token = Token::new(Secret::new([n; 32]), 9_000, 360).unwrap();
    row(token)
}

fn row(token: Token) -> Network {
    let added = Networks::default().add(NewNetwork::new(token), 1_700_000_000_000);
    Network::clone(&added.unwrap().1)
}

/// A row that uses everything.
pub(super) fn full() -> Network {
    let TokenText::LocalAi(localai) = TokenText::parse(LOCALAI).unwrap() else {
        panic!("it is a LocalAI token")
    };
    let mut row = row(Token::from_localai(localai, Secret::new([7; 32])));
    row.name = "garage".to_owned();
    row.description = "three boxes\nin a garage".to_owned();
    row.bootstrap = vec![
        "192.0.2.1:7717".parse().unwrap(),
        "a.example:1".parse().unwrap(),
    ];
    row.publish_token = true;
    row.clusters = Some(vec![
        Cluster {
            kind: ClusterKind::Federated,
            network_id: String::new(),
            workers: vec!["atlas-AbCdEfGhIj".to_owned(), "rhea".to_owned()],
        },
        Cluster {
            kind: ClusterKind::MlxWorker,
            network_id: "gpu_lab".to_owned(),
            workers: vec!["atlas".to_owned()],
        },
    ]);
    row.nodes = 3;
    row.failures = 300;
    row.state = State::Hidden;
    row.first_seen_ms = Some(1_700_000_000_001);
    row.last_seen_ms = Some(1_700_000_000_002);
    row.first_success_ms = Some(1_700_000_000_003);
    row.last_success_ms = Some(1_700_000_000_004);
    row.last_look_ms = Some(1_700_000_000_005);
    row.last_error = Some("nobody answers".to_owned());
    row.hidden_for_ms = 86_400_000;
    row.next_look_ms = 1_700_000_000_006;
    let look = |at_ms, saw, workers| Look {
        at_ms,
        saw,
        nodes: 3,
        workers,
    };
    row.history = History::new(vec![
        look(1_700_000_000_004, Saw::Workers, 3),
        look(1_700_000_000_005, Saw::Nobody, 0),
    ]);
    row
}

pub(super) fn removed() -> Removed {
    Removed {
        key: bare(2).key,
        at_ms: 1_700_000_000_000,
    }
}

fn stored(row: &Network) -> (Vec<u8>, Vec<u8>) {
    match put_network(row).unwrap() {
        [((Table::Networks, key), RowChange::Put(value)), _] => (key, value),
        other => panic!("{other:?} puts no network"),
    }
}

#[test]
fn rows_read_as_they_are_stored_and_damage_does_not_pass() {
    for row in [bare(1), full()] {
        let (key, value) = stored(&row);
        let mut read = read_network(&key, &value).unwrap();
        read.history = row.history.clone();
        assert_eq!(read, row);
        assert_eq!(read.token.to_text(), row.token.to_text());
        for cut in 0..value.len() {
            assert!(read_network(&key, &value[..cut]).is_err());
        }
        for cut in 0..key.len() {
            assert!(read_network(&key[..cut], &value).is_err());
        }
        assert!(read_network(&key, &[value.as_slice(), &[0]].concat()).is_err());
        let (other, _) = stored(&bare(3));
        assert!(
            read_network(&other, &value).is_err(),
            "a row of another network"
        );
    }
    let [_, ((Table::NetworkHistory, key), RowChange::Put(value))] = put_network(&full()).unwrap()
    else {
        panic!("it has looks")
    };
    assert_eq!(read_history(&key, &value), Ok((full().key, full().history)));
    for cut in 0..value.len() {
        assert!(read_history(&key, &value[..cut]).is_err());
    }
}

#[test]
fn a_damaged_row_does_not_show_its_token() {
    let (key, mut value) = stored(&full());
    value.push(0);
    let shown = read_network(&key, &value).unwrap_err().to_string();
    assert!(!shown.contains("b3Rw"), "{shown}");
    assert!(!format!("{:?}", full()).contains("b3Rw"));
}

#[tokio::test]
async fn an_import_is_one_transaction_and_one_bad_row_stops_it() {
    let disk = Disk::default();
    let store = disk.store(Pace::default());
    let before = store.transactions();
    let rows: Vec<_> = (1..=100).map(|n| bare(n).into()).collect();
    in_time(store.commit(vec![Change::PutNetworks(rows)]))
        .await
        .unwrap();
    assert_eq!(store.transactions(), before + 1);
    assert_eq!(disk.load().networks.len(), 100);

    let mut long = bare(101);
    long.clusters = Some(vec![Cluster {
        kind: ClusterKind::Worker,
        network_id: String::new(),
        workers: vec!["w".repeat(MAX_CLUSTER_BYTES)],
    }]);
    let changes = vec![
        Change::RemoveNetworks(vec![removed()]),
        Change::PutNetworks(vec![bare(102).into(), long.clone().into()]),
    ];
    let refused = in_time(store.commit(changes))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        format!("not stored: network {}: it has too many workers", long.key)
    );
    in_time(store.close()).await.unwrap();
    assert_eq!(disk.load().networks.len(), 100);
}

#[tokio::test]
async fn a_removed_network_leaves_its_name_only_and_leaving_a_network_keeps_the_others() {
    let disk = Disk::default();
    let store = disk.store(Pace::default());
    let put = Change::PutNetworks(vec![bare(2).into(), full().into()]);
    in_time(store.commit(vec![put, count(2, 1), Change::ForgetNetwork]))
        .await
        .unwrap();
    let loaded = disk.load();
    assert_eq!(loaded.counts, []);
    assert_eq!(loaded.networks.len(), 2);
    assert!(loaded.networks.contains(&full()), "its looks are with it");

    let gone = Removed {
        key: full().key,
        at_ms: 5,
    };
    let remove = Change::RemoveNetworks(vec![removed(), gone]);
    in_time(store.commit(vec![remove])).await.unwrap();
    let loaded = disk.load();
    assert_eq!(loaded.networks, []);
    let mut keys: Vec<NetworkKey> = loaded
        .removed_networks
        .iter()
        .map(|gone| gone.key)
        .collect();
    keys.sort();
    let mut expected = vec![removed().key, full().key];
    expected.sort();
    assert_eq!(keys, expected);

    let again = vec![
        Change::PutNetworks(vec![bare(2).into()]),
        Change::ForgetRemovals(vec![removed().key]),
    ];
    in_time(store.commit(again)).await.unwrap();
    in_time(store.close()).await.unwrap();
    let loaded = disk.load();
    assert_eq!(loaded.networks, [bare(2)]);
    assert_eq!(loaded.removed_networks, [gone]);
}

#[test]
fn a_database_from_before_there_were_networks_gets_empty_tables() {
    let disk = Disk::default();
    let database = disk.open().unwrap();
    let path = Path::new("disk");
    schema::migrate(&database, path, &schema::MIGRATIONS[..3]).unwrap();
    schema::migrate(&database, path, schema::MIGRATIONS).unwrap();
    let loaded = schema::load(&database, path, 0).unwrap();
    assert_eq!((loaded.networks, loaded.removed_networks), (vec![], vec![]));
}
