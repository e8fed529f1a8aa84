//! One row: what is said of one network.

use serde_json::value::RawValue;

use super::fault::{Fault, Found};
use super::{Entry, MAX_ROW_JSON_BYTES};
use crate::formats::json::{Members, offset_in, offset_of, shown};
use crate::mesh::networks::{
    Cluster, ClusterKind, MAX_CLUSTER_BYTES, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES,
};
use crate::mesh::token::TokenText;

/// Reads the value of a row. `json` is valid JSON but for the escapes in its strings.
///
/// # Errors
/// The first problem of the row.
pub(super) fn read(token: TokenText, json: &str, notes: &mut Vec<Found>) -> Result<Entry, Found> {
    if json.len() > MAX_ROW_JSON_BYTES {
        let len = json.len();
        return Err(Fault::LongRow { len }.whole());
    }
    let mut row = Entry {
        token,
        name: String::new(),
        description: String::new(),
        clusters: None,
        failures: 0,
    };
    let fields = ["name", "description", "clusters", "failures"];
    for (field, member) in members(
        json,
        json,
        "an object with name and clusters",
        fields,
        notes,
    )? {
        let raw = member.raw;
        let read = match field {
            "name" => text(raw, MAX_NAME_BYTES).map(|text| row.name = text),
            "description" => text(raw, MAX_DESCRIPTION_BYTES).map(|text| row.description = text),
            "clusters" => {
                row.clusters = clusters(json, raw, notes)?;
                Ok(())
            }
            _ => number(raw).map(|count| row.failures = count),
        };
        read.map_err(|fault| member.found(fault))?;
    }
    Ok(row)
}

/// The clusters of a row whose whole JSON is `json`.
fn clusters(json: &str, raw: &str, notes: &mut Vec<Found>) -> Result<Option<Vec<Cluster>>, Found> {
    if raw == "null" {
        return Ok(None);
    }
    let mut clusters = Vec::new();
    let mut bytes = 0;
    for element in elements(json, raw, "Clusters", "a list of clusters")? {
        let mut cluster = Cluster {
            kind: ClusterKind::Worker,
            network_id: String::new(),
            workers: Vec::new(),
        };
        let mut kind = None;
        let fields = ["workers", "type", "networkid"];
        for (field, member) in members(
            json,
            element,
            "a cluster, which is an object",
            fields,
            notes,
        )? {
            let raw = member.raw;
            let read = match field {
                "type" => kind_of(raw).map(|read| kind = Some(read)),
                "networkid" => text(raw, MAX_CLUSTER_BYTES).map(|id| cluster.network_id = id),
                _ => {
                    cluster.workers = workers(json, raw)?;
                    Ok(())
                }
            };
            read.map_err(|fault| member.found(fault))?;
        }
        cluster.kind = kind.ok_or_else(|| Found {
            offset: offset_in(json, element),
            field: Some("Type".to_owned()),
            fault: Fault::Type {
                shown: "nothing".to_owned(),
                expected: KINDS,
            },
        })?;
        bytes += cluster.bytes();
        clusters.push(cluster);
    }
    match bytes > MAX_CLUSTER_BYTES {
        true => Err(Found {
            offset: offset_in(json, raw),
            field: Some("Clusters".to_owned()),
            fault: Fault::ManyWorkers { bytes },
        }),
        false => Ok(Some(clusters)),
    }
}

fn workers(json: &str, raw: &str) -> Result<Vec<String>, Found> {
    if raw == "null" {
        return Ok(Vec::new());
    }
    let elements = elements(json, raw, "Workers", "a list of workers")?;
    let worker = |element: &str| {
        text(element, MAX_CLUSTER_BYTES).map_err(|fault| Found {
            offset: offset_in(json, element),
            field: Some("Workers".to_owned()),
            fault,
        })
    };
    elements.into_iter().map(worker).collect()
}

/// A member of an object, and where it is.
struct Member<'r> {
    raw: &'r str,
    offset: usize,
    key: String,
}

impl Member<'_> {
    fn found(&self, fault: Fault) -> Found {
        Found {
            offset: self.offset,
            field: Some(self.key.clone()),
            fault,
        }
    }
}

/// The members of the object `object`, a part of `json`, that have one of these names; others are
/// noted. Of one that is there twice only the last.
fn members<'r, const N: usize>(
    json: &str,
    object: &'r str,
    expected: &'static str,
    names: [&'static str; N],
    notes: &mut Vec<Found>,
) -> Result<Vec<(&'static str, Member<'r>)>, Found> {
    let start = offset_in(json, object);
    if object == "null" {
        return Ok(Vec::new());
    }
    if !object.starts_with('{') {
        let shown = shown(object);
        return Err(Found {
            offset: start,
            field: None,
            fault: Fault::Type { shown, expected },
        });
    }
    let read: Members<'r> = serde_json::from_str(object).map_err(|error| Found {
        offset: start + offset_of(object, error.line(), error.column()),
        field: None,
        fault: Fault::Text,
    })?;
    let mut members: Vec<(&'static str, Member<'r>)> = Vec::new();
    for (key, raw) in read.0 {
        let member = Member {
            raw: raw.get(),
            offset: offset_in(json, raw.get()),
            key: shown(&key),
        };
        let name = names
            .into_iter()
            .find(|name| key.eq_ignore_ascii_case(name));
        let Some(name) = name else {
            notes.push(member.found(Fault::Unknown));
            continue;
        };
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => {
                notes.push(member.found(Fault::Duplicate));
                known.1 = member;
            }
            None => members.push((name, member)),
        }
    }
    Ok(members)
}

/// The elements of the list `list`, a part of `json`.
fn elements<'r>(
    json: &str,
    list: &'r str,
    field: &str,
    expected: &'static str,
) -> Result<Vec<&'r str>, Found> {
    let read: Result<Vec<&'r RawValue>, _> = serde_json::from_str(list);
    let read = read.map_err(|_| Found {
        offset: offset_in(json, list),
        field: Some(field.to_owned()),
        fault: Fault::Type {
            shown: shown(list),
            expected,
        },
    })?;
    Ok(read.into_iter().map(RawValue::get).collect())
}

fn text(raw: &str, max: usize) -> Result<String, Fault> {
    if raw == "null" {
        return Ok(String::new());
    }
    if !raw.starts_with('"') {
        return Err(not("text", raw));
    }
    let text: String = serde_json::from_str(raw).map_err(|_| Fault::Text)?;
    match text.len() {
        len if len > max => Err(Fault::LongText { len, max }),
        _ => Ok(text),
    }
}

const KINDS: &str = "worker, mlx_worker or federated";

fn kind_of(raw: &str) -> Result<ClusterKind, Fault> {
    let text = text(raw, MAX_NAME_BYTES).ok();
    let kind = text.and_then(|text| text.parse().ok());
    kind.ok_or_else(|| not(KINDS, raw))
}

/// Go reads nothing but digits into a whole number.
fn number(raw: &str) -> Result<u32, Fault> {
    if raw == "null" {
        return Ok(0);
    }
    let digits = raw.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| raw.parse().ok()).flatten();
    number.ok_or_else(|| not("a number from 0 to 4294967295", raw))
}

fn not(expected: &'static str, raw: &str) -> Fault {
    Fault::Type {
        shown: shown(raw),
        expected,
    }
}
