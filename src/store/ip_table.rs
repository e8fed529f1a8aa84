//! Rows of the table `ip_table`, byte by byte; `schema/tables.md` shows the same.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::tables::{RowChange, RowError, RowKey, Table, content, decode, encode};
use crate::mesh::ip_table::{
    Carried, Figures, Flags, Host, MAX_CONTENT_BYTES, MAX_KEPT, Measured, Misses, Place, Row,
    Source,
};

/// What a host in a key is.
const V4: u8 = 4;
const V6: u8 = 6;
const NAME: u8 = b'n';

/// What a row adds to its key.
#[derive(Serialize, Deserialize)]
struct IpRow<'a> {
    #[serde(borrow)]
    other: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    source: Source,
    stated: Figures,
    measured: Option<Measured>,
    flags: Flags,
    #[serde(borrow)]
    carried: CarriedRow<'a>,
    misses: Misses,
    hidden: bool,
}

#[derive(Serialize, Deserialize)]
struct CarriedRow<'a> {
    machine_username: &'a str,
    escape_implementation: &'a str,
    udp_server_port: &'a str,
    bare_metal_ssh_port: &'a str,
    public_key: &'a str,
    custom_information: &'a str,
    #[serde(borrow)]
    kept: Vec<(&'a str, &'a str)>,
}

pub(super) fn put_ip(row: &Row) -> Result<(RowKey, RowChange), StoreError> {
    let refused = |why: &str| StoreError::Refused {
        what: format!("IP table, {}: {why}", row.place),
    };
    let carried = &row.carried;
    if row.content_bytes() > MAX_CONTENT_BYTES {
        return Err(refused("it is too long"));
    }
    if carried.kept.len() > MAX_KEPT {
        return Err(refused("it has too many unknown fields"));
    }
    let kept = carried.kept.iter();
    let value = IpRow {
        other: row.other.as_ref().map(|host| Cow::Owned(host.to_string())),
        name: Cow::Borrowed(&row.name),
        source: row.source,
        stated: row.stated,
        measured: row.measured,
        flags: row.flags,
        carried: CarriedRow {
            machine_username: &carried.machine_username,
            escape_implementation: &carried.escape_implementation,
            udp_server_port: &carried.udp_server_port,
            bare_metal_ssh_port: &carried.bare_metal_ssh_port,
            public_key: &carried.public_key,
            custom_information: &carried.custom_information,
            kept: kept
                .map(|(key, json)| (key.as_str(), json.as_str()))
                .collect(),
        },
        misses: row.misses,
        hidden: row.hidden,
    };
    Ok((ip_key(&row.place), RowChange::Put(encode(&value)?)))
}

pub(super) fn ip_key(place: &Place) -> RowKey {
    let mut key = Vec::with_capacity(20);
    let prefixed = |text: &str| {
        // Names and zones are shorter than 256 bytes by construction.
        let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
        [&[len], text.as_bytes()].concat()
    };
    match place.host() {
        Host::V4(ip) => {
            key.push(V4);
            key.extend_from_slice(&ip.octets());
        }
        Host::V6 { ip, zone } => {
            key.push(V6);
            key.extend_from_slice(&ip.octets());
            key.extend_from_slice(&prefixed(zone));
        }
        Host::Name(name) => {
            key.push(NAME);
            key.extend_from_slice(&prefixed(name));
        }
    }
    key.extend_from_slice(&place.port().get().to_be_bytes());
    (Table::Machines, key)
}

pub(super) fn read_ip(key: &[u8], value: &[u8]) -> Result<Row, RowError> {
    let place = place(key).ok_or(RowError::Key { len: key.len() })?;
    let row: IpRow<'_> = decode(value)?;
    let carried = row.carried;
    let other = row.other.map(|host| host.parse()).transpose();
    let kept = carried.kept.into_iter();
    let row = Row {
        place,
        other: other.map_err(content)?,
        name: row.name.into_owned(),
        source: row.source,
        stated: row.stated,
        measured: row.measured,
        misses: row.misses,
        hidden: row.hidden,
        flags: row.flags,
        carried: Carried {
            machine_username: carried.machine_username.to_owned(),
            escape_implementation: carried.escape_implementation.to_owned(),
            udp_server_port: carried.udp_server_port.to_owned(),
            bare_metal_ssh_port: carried.bare_metal_ssh_port.to_owned(),
            public_key: carried.public_key.to_owned(),
            custom_information: carried.custom_information.to_owned(),
            kept: kept
                .map(|(key, json)| (key.to_owned(), json.to_owned()))
                .collect(),
        },
    };
    match row.content_bytes() > MAX_CONTENT_BYTES || row.carried.kept.len() > MAX_KEPT {
        true => Err(RowError::Value),
        false => Ok(row),
    }
}

/// The place of a key, if it is the key of that place.
fn place(key: &[u8]) -> Option<Place> {
    let (host, port) = key.split_last_chunk::<2>()?;
    let port = NonZeroU16::new(u16::from_be_bytes(*port))?;
    let host = match host.split_first()? {
        (&V4, ip) => Host::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        (&V6, rest) => {
            let (ip, zone) = rest.split_first_chunk::<16>()?;
            Host::V6 {
                ip: Ipv6Addr::from(*ip),
                zone: prefixed_text(zone)?.to_owned(),
            }
        }
        (&NAME, name) => Host::Name(prefixed_text(name)?.to_owned()),
        _ => return None,
    };
    // Any other form of an address would be a second row of one machine.
    let canonical = host.to_string().parse() == Ok(host.clone());
    canonical.then(|| Place::new(host, port))
}

fn prefixed_text(bytes: &[u8]) -> Option<&str> {
    let (len, text) = bytes.split_first()?;
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() == usize::from(*len))
}
