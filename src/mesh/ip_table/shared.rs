//! What nodes tell each other of machines: one durable entry of the ledger for each, in
//! [`BUCKET`], under the machine's place. Whoever reads it knows by the signature who says so.
//!
//! Figures are not told: another node's way to a machine is not one's own. JSON, because
//! `ledger ls` shows it and later versions add fields; unknown fields are ignored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Carried, Flags, Host, MAX_CONTENT_BYTES, MAX_TEXT_BYTES, Place, Row, Source, Told};
use crate::mesh::entry::Entry;

/// The bucket of machines.
pub const BUCKET: &str = "iptable";
/// Longest value that is written, in bytes.
const MAX_SHARED_BYTES: usize = 8 * 1024;

/// The value of an entry.
#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct MachineRecord {
    /// The author is the machine.
    own: bool,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    nat: bool,
    #[serde(skip_serializing_if = "is_false")]
    proxy_server: bool,
    #[serde(skip_serializing_if = "is_false")]
    unsafe_mode: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    machine_username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    escape_implementation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    udp_server_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    bare_metal_ssh_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    public_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    custom_information: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Key and value by which a row is told; `None` for one that is too long.
pub fn to_entry(row: &Row) -> Option<(String, Vec<u8>)> {
    let carried = row.carried.clone();
    let record = MachineRecord {
        own: row.source == Source::Own,
        name: row.name.clone(),
        other: row.other.as_ref().map(ToString::to_string),
        nat: row.flags.nat,
        proxy_server: row.flags.proxy_server,
        unsafe_mode: row.flags.unsafe_mode,
        machine_username: carried.machine_username,
        escape_implementation: carried.escape_implementation,
        udp_server_port: carried.udp_server_port,
        bare_metal_ssh_port: carried.bare_metal_ssh_port,
        public_key: carried.public_key,
        custom_information: carried.custom_information,
    };
    let value = serde_json::to_vec(&record).ok()?;
    (value.len() <= MAX_SHARED_BYTES).then(|| (row.place.to_string(), value))
}

/// What an entry of another node tells; `None` if it is not about a machine, or not in the form
/// and the limits of a row.
pub fn told(entry: &Entry) -> Option<Told> {
    if entry.slot.bucket.as_str() != BUCKET || entry.deleted {
        return None;
    }
    let place: Place = entry.slot.key.parse().ok()?;
    // In another form it would be a second row of one machine.
    if place.to_string() != entry.slot.key {
        return None;
    }
    let record: MachineRecord = serde_json::from_slice(&entry.value).ok()?;
    let mut row = Row::new(place, Source::Learnt(entry.slot.author));
    let other: Option<Host> = record.other.and_then(|text| text.parse().ok());
    row.other = other.filter(|other| other != row.place.host());
    row.name = record.name;
    row.flags = Flags {
        nat: record.nat,
        proxy_server: record.proxy_server,
        unsafe_mode: record.unsafe_mode,
    };
    row.carried = Carried {
        machine_username: record.machine_username,
        escape_implementation: record.escape_implementation,
        udp_server_port: record.udp_server_port,
        bare_metal_ssh_port: record.bare_metal_ssh_port,
        public_key: record.public_key,
        custom_information: record.custom_information,
        kept: Vec::new(),
    };
    let texts = row.carried.texts();
    let fits = texts.iter().all(|text| text.len() <= MAX_TEXT_BYTES)
        && row.name.len() <= MAX_TEXT_BYTES
        && row.content_bytes() <= MAX_CONTENT_BYTES;
    fits.then(|| Told {
        row: Arc::new(row),
        own: record.own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::entry::{Class, Draft, NetworkId};
    use crate::mesh::id::Identity;

    fn entry(key: &str, value: &[u8]) -> Entry {
        let draft = Draft {
            bucket: BUCKET.parse().unwrap(),
            key: key.to_owned(),
            class: Class::Durable,
            version: 1,
            boot: 0,
            deleted: false,
            value: value.to_vec(),
        };
        Entry::sign(NetworkId([1; 16]), &Identity::from_seed(&[2; 32]), draft).unwrap()
    }

    #[test]
    fn a_row_is_told_without_figures_and_under_its_authors_name() {
        let mut row = Row::new("192.0.2.1:8088".parse().unwrap(), Source::Own);
        row.add_host("2001:db8::1".parse().unwrap());
        row.name = "atlas".to_owned();
        row.flags.nat = true;
        row.stated.latency = crate::mesh::ip_table::Latency::from_ms(3.0);
        row.carried.custom_information = "for you".to_owned();
        row.carried.kept.push(("region".to_owned(), "1".to_owned()));
        let (key, value) = to_entry(&row).unwrap();
        let told = told(&entry(&key, &value)).unwrap();
        assert!(told.own);
        row.source = Source::Learnt(Identity::from_seed(&[2; 32]).id());
        row.stated = Default::default();
        row.carried.kept.clear();
        assert_eq!(*told.row, row);
    }

    /// `schema/wire.md` shows the same.
    #[test]
    fn a_machine_is_told_in_these_bytes() {
        let mut row = Row::new("192.0.2.7".parse().unwrap(), Source::Own);
        row.name = "atlas".to_owned();
        row.carried.custom_information = "two GPUs".to_owned();
        let (key, value) = to_entry(&row).unwrap();
        let value = String::from_utf8(value).unwrap();
        assert_eq!(key, "192.0.2.7:8088");
        assert_eq!(
            value,
            r#"{"own":true,"name":"atlas","custom_information":"two GPUs"}"#
        );
    }

    #[test]
    fn what_is_no_machine_or_too_long_is_not_told() {
        assert!(told(&entry("192.0.2.1:8088", b"{}")).is_some());
        for (key, value) in [
            ("192.0.2.1", b"{}".as_slice()),
            ("HOST:1", b"{}"),
            ("x y:1", b"{}"),
            ("192.0.2.1:8088", b"5"),
            ("192.0.2.1:8088", b"{\"own\":1}"),
        ] {
            assert_eq!(told(&entry(key, value)), None, "{key}");
        }
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(MAX_TEXT_BYTES + 1));
        assert_eq!(told(&entry("192.0.2.1:8088", long.as_bytes())), None);
        let mut row = Row::new("192.0.2.1:8088".parse().unwrap(), Source::Own);
        row.name = "x".repeat(MAX_SHARED_BYTES);
        assert_eq!(to_entry(&row), None);
    }
}
