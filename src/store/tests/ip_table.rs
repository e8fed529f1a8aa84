//! Rows of the IP table: one for each machine, all or nothing, and not a part of the network.

use super::*;
use crate::mesh::ip_table::{
    Carried, Figures, Flags, Latency, MAX_CONTENT_BYTES, Measured, Method, Misses, Speed,
};
use crate::store::ip_table::{put_ip, read_ip};
use crate::store::tables::{RowChange, Table};

/// A row that uses everything.
pub(super) fn full() -> Row {
    let mut row = Row::new(
        "[fe80::7%eth0]:9000".parse().unwrap(),
        Source::Learnt(node(2)),
    );
    row.add_host("fe80::8".parse().unwrap());
    row.name = "atlas".to_owned();
    row.stated = Figures {
        latency: Latency::from_ns(14_981_051),
        download: Speed::from_mbps(34.5),
        upload: None,
    };
    row.measured = Some(Measured {
        at_ms: 1_700_000_000_000,
        method: Method::P2prc,
        least: Latency::from_ms(30.0),
        median: Latency::from_ms(31.0),
        download: None,
        upload: Speed::from_mbps(50.0),
    });
    row.misses = Misses {
        count: 2,
        last_ms: 1_700_000_000_001,
    };
    row.hidden = true;
    row.flags = Flags {
        nat: true,
        proxy_server: false,
        unsafe_mode: true,
    };
    row.carried = Carried {
        machine_username: "ann".to_owned(),
        escape_implementation: "FRP".to_owned(),
        udp_server_port: "1".to_owned(),
        bare_metal_ssh_port: "22".to_owned(),
        public_key: "ssh-rsa AAAA\n".to_owned(),
        custom_information: "for you".to_owned(),
        kept: vec![("region".to_owned(), "{\"zone\":1}".to_owned())],
    };
    row
}

fn stored(row: &Row) -> (Vec<u8>, Vec<u8>) {
    match put_ip(row).unwrap() {
        ((Table::Machines, key), RowChange::Put(value)) => (key, value),
        other => panic!("{other:?} puts no machine"),
    }
}

#[test]
fn rows_read_as_they_are_stored_and_damage_does_not_pass() {
    for place in [
        "192.0.2.1:1",
        "[2001:db8::1]:65535",
        "[fe80::1%eth0]:8088",
        "a.example:80",
    ] {
        let row = Row::new(place.parse().unwrap(), Source::Configured);
        let (key, value) = stored(&row);
        assert_eq!(read_ip(&key, &value), Ok(row));
    }
    let (key, value) = stored(&full());
    assert_eq!(read_ip(&key, &value), Ok(full()));
    for cut in 0..value.len() {
        assert!(read_ip(&key, &value[..cut]).is_err());
    }
    for cut in 0..key.len() {
        assert!(read_ip(&key[..cut], &value).is_err());
    }
    assert!(read_ip(&key, &[value.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn a_key_in_another_form_is_damage() {
    let (_, value) = stored(&machine(1, 0));
    let mapped = [
        &[6][..],
        &[0; 10],
        &[255, 255, 192, 0, 2, 1],
        &[0],
        &[31, 152],
    ]
    .concat();
    let upper = [b"n\x01A".as_slice(), &[31, 152]].concat();
    let zone = [&[6][..], &[32, 1], &[0; 14], &[1, b'x'], &[31, 152]].concat();
    let port_0 = [&[4][..], &[192, 0, 2, 1], &[0, 0]].concat();
    for key in [mapped, upper, zone, port_0] {
        assert!(read_ip(&key, &value).is_err(), "{key:?}");
    }
}

#[tokio::test]
async fn an_import_is_one_transaction_and_one_bad_row_stops_it() {
    let disk = Disk::default();
    let store = disk.store(Pace::default());
    let before = store.transactions();
    let rows = (1..=200).map(|n| machine(n, n).into()).collect();
    in_time(store.commit(vec![Change::PutMachines(rows)]))
        .await
        .unwrap();
    assert_eq!(store.transactions(), before + 1);
    assert_eq!(disk.load().ip_table.len(), 200);

    let mut long = machine(1, 0);
    long.name = "x".repeat(MAX_CONTENT_BYTES + 1);
    let replacing = vec![
        Change::ClearMachines,
        Change::PutMachines(vec![machine(201, 0).into(), long.into()]),
    ];
    let refused = in_time(store.commit(replacing))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "not stored: IP table, 192.0.2.1:8088: it is too long"
    );
    in_time(store.close()).await.unwrap();
    assert_eq!(disk.load().ip_table.len(), 200);
}

#[tokio::test]
async fn leaving_a_network_keeps_the_ip_table_and_replacing_keeps_the_network() {
    let disk = Disk::default();
    let store = disk.store(Pace::default());
    let machine = |n| Change::PutMachines(vec![machine(n, n).into()]);
    let first = vec![machine(1), count(2, 1), Change::ForgetNetwork, machine(2)];
    in_time(store.commit(first)).await.unwrap();
    assert_eq!(disk.load().ip_table.len(), 2);
    assert_eq!(disk.load().counts, []);
    let second = vec![machine(3), count(2, 1), Change::ClearMachines, machine(4)];
    in_time(store.commit(second)).await.unwrap();
    in_time(store.close()).await.unwrap();
    let loaded = disk.load();
    assert_eq!(loaded.ip_table.len(), 1);
    assert_eq!(loaded.ip_table[0].name, "4");
    assert_eq!(loaded.counts.len(), 1);
}

#[test]
fn a_database_from_before_there_was_a_table_gets_an_empty_one() {
    let disk = Disk::default();
    let database = disk.open().unwrap();
    let path = Path::new("disk");
    schema::migrate(&database, path, &schema::MIGRATIONS[..2]).unwrap();
    schema::migrate(&database, path, schema::MIGRATIONS).unwrap();
    assert_eq!(schema::load(&database, path, 0).unwrap().ip_table, []);
}
