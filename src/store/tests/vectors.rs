//! `schema/vectors/tables.json` shows rows byte by byte; this code reads and writes the same.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::*;
use crate::store::batch::Batch;
use crate::store::ip_table::read_ip;
use crate::store::networks::{read_history, read_network, read_removed};
use crate::store::tables::{
    META_BOOT, META_SCHEMA, RowChange, Table, number, read_count, read_entry, read_floor,
    read_knock, read_number, read_peer, read_role,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/vectors/tables.json");

/// The examples: what each says, and the change that stores it.
fn examples() -> Vec<(&'static str, Change)> {
    let mut removed = Body::clone(&entry("old", b""));
    removed.deleted = true;
    removed.version = 1 << 40;
    vec![
        ("a value", Change::PutEntry(entry("model", b"llama"))),
        ("a tombstone", Change::PutEntry(removed.into())),
        ("a floor", Change::PutFloor(floor(1, 300))),
        ("a node with all fields", Change::Peer(peer(2))),
        (
            "a node known by id only",
            Change::Peer(KnownPeer {
                name: None,
                addresses: vec![],
                last_seen_ms: 0,
                boot: 0,
                learnt_at: vec![],
                ..peer(3)
            }),
        ),
        ("300 requests", count(2, 300)),
        (
            "a knock",
            Change::Knock {
                epoch: 195_000,
                nonce: *b"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b",
            },
        ),
        (
            "a role",
            Change::Role {
                id: 258,
                spec: b"{}".to_vec(),
            },
        ),
        (
            "a machine known by name only",
            Change::PutMachines(vec![Arc::new(Row::new(
                "localhost:8088".parse().unwrap(),
                Source::Own,
            ))]),
        ),
        (
            "a machine with all fields",
            Change::PutMachines(vec![ip_table::full().into()]),
        ),
        (
            "a network of which only the token is known",
            Change::PutNetworks(vec![networks::bare(1).into()]),
        ),
        (
            "a network with all fields, and the looks at it",
            Change::PutNetworks(vec![networks::full().into()]),
        ),
        (
            "a network that was removed",
            Change::RemoveNetworks(vec![networks::removed()]),
        ),
    ]
}

fn written() -> Value {
    let row = |table: Table, says: &str, key: &[u8], value: &[u8]| {
        json!({
            "table": table.name(),
            "says": says,
            "key": HEXLOWER.encode(key),
            "value": HEXLOWER.encode(value),
        })
    };
    let mut rows = vec![
        row(Table::Meta, "schema 4", META_SCHEMA, &number(4)),
        row(Table::Meta, "boot", META_BOOT, &number(1_700_000_000_000)),
    ];
    for (says, change) in examples() {
        for ((table, key), change) in Batch::of(vec![change]).unwrap().rows {
            let value = match change {
                RowChange::Put(value) => value,
                RowChange::Add(total) => number(total),
                RowChange::Remove => continue,
            };
            rows.push(row(table, says, &key, &value));
        }
    }
    json!({ "rows": rows })
}

#[test]
fn rows_are_written_as_the_vectors_show() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let new = written();
    assert_eq!(file, new, "{}", serde_json::to_string_pretty(&new).unwrap());
}

#[test]
fn the_vectors_read_as_what_they_say() {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let examples = examples();
    for row in file["rows"].as_array().unwrap() {
        let bytes = |field: &str| {
            let text = row[field].as_str().unwrap();
            HEXLOWER.decode(text.as_bytes()).unwrap()
        };
        let (key, value) = (bytes("key"), bytes("value"));
        let example = examples.iter().find(|(says, _)| row["says"] == *says);
        let read = match row["table"].as_str().unwrap() {
            "ledger" => Change::PutEntry(read_entry(&key, &value).unwrap()),
            "floors" => Change::PutFloor(read_floor(&key, &value).unwrap()),
            "peers" => Change::Peer(read_peer(&key, &value).unwrap()),
            "request_counts" => {
                let (bucket, node, add) = read_count(&key, &value).unwrap();
                Change::Count { bucket, node, add }
            }
            "seen_knocks" => {
                let (epoch, nonce) = read_knock(&key, &value).unwrap();
                Change::Knock { epoch, nonce }
            }
            "roles" => {
                let (id, spec) = read_role(&key, &value).unwrap();
                Change::Role { id, spec }
            }
            "ip_table" => Change::PutMachines(vec![read_ip(&key, &value).unwrap().into()]),
            "networks" => {
                let mut read = read_network(&key, &value).unwrap();
                if let Change::PutNetworks(rows) = &example.unwrap().1 {
                    read.history = rows[0].history.clone();
                }
                Change::PutNetworks(vec![read.into()])
            }
            "network_history" => {
                let full = networks::full();
                assert_eq!(read_history(&key, &value), Ok((full.key, full.history)));
                continue;
            }
            "removed_networks" => Change::RemoveNetworks(vec![read_removed(&key, &value).unwrap()]),
            _ => {
                assert!(read_number(&value).is_ok());
                continue;
            }
        };
        assert_eq!(read, example.unwrap().1);
    }
}
