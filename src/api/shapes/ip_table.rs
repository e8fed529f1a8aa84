//! The IP table as scripts see it.

use std::borrow::Borrow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, Serializer};

use super::NodeError;
use crate::formats::iptable::Problem;
use crate::formats::timestamp::Timestamp;
use crate::mesh::ip_table::{Latency, Merged, Method, Row, Source, State};
use crate::mesh::name::Name;
use crate::service::ip_table::{Imported, TableError};

/// One row of `iptable ls --json`. What is not known is null, never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `HOST:PORT`.
    pub address: String,
    /// A second address, with the same port.
    pub other_address: Option<String>,
    /// What the machine is called; empty where nobody said.
    pub name: String,
    /// Milliseconds: this node's least round trip where it was measured, else what a document
    /// said, as it meant it.
    pub latency_ms: Option<f64>,
    /// This node's median round trip, in milliseconds.
    pub median_ms: Option<f64>,
    /// Mbit/s (10⁶ bits) from there.
    pub download_mbps: Option<f64>,
    /// Mbit/s to there.
    pub upload_mbps: Option<f64>,
    /// `reachable`, `suspect`, `unreachable` or `unknown`.
    pub state: State,
    /// Tries that failed since it last answered.
    pub misses: u32,
    /// `configured`, `imported`, `learnt`, `self` or `posted`.
    pub source: String,
    /// Full id of the node that told of it.
    pub learnt_from: Option<String>,
    /// When this node measured it last.
    pub measured_at: Option<Timestamp>,
    /// How: `link` or `p2prc`.
    pub method: Option<String>,
    /// Which of the figures this node measured itself.
    pub measured: OwnFigures,
    /// Whether it is behind a NAT.
    pub nat: bool,
    /// What its owner says of it.
    pub custom_information: String,
}

impl From<&Row> for Machine {
    fn from(row: &Row) -> Self {
        let own = row.measured.as_ref();
        let latency = own.and_then(|own| own.least).or(row.stated.latency);
        Self {
            address: row.place.to_string(),
            other_address: row.other.as_ref().map(ToString::to_string),
            name: row.name.clone(),
            latency_ms: latency.map(Latency::as_ms),
            median_ms: own.and_then(|own| own.median).map(Latency::as_ms),
            download_mbps: row.download_mbps(),
            upload_mbps: row.upload_mbps(),
            state: row.state(),
            misses: row.misses.count,
            source: source_word(row.source),
            learnt_from: match row.source {
                Source::Learnt(node) => Some(node.to_string()),
                _ => None,
            },
            measured_at: own.and_then(|own| Timestamp::known(own.at_ms)),
            method: own.map(|own| method_word(own.method).to_owned()),
            measured: OwnFigures {
                latency: own.is_some_and(|own| own.least.is_some()),
                download: own.is_some_and(|own| own.download.is_some()),
                upload: own.is_some_and(|own| own.upload.is_some()),
            },
            nat: row.flags.nat,
            custom_information: row.carried.custom_information.clone(),
        }
    }
}

pub(super) fn source_word(source: Source) -> String {
    match source {
        Source::Learnt(_) => "learnt".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn method_word(method: Method) -> &'static str {
    match method {
        Method::Link => "link",
        Method::P2prc => "p2prc",
    }
}

/// Which figures are a node's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFigures {
    /// Of the latency.
    pub latency: bool,
    /// Of the download speed.
    pub download: bool,
    /// Of the upload speed.
    pub upload: bool,
}

/// `iptable ls --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machines {
    /// In the order that was asked for.
    pub ip_table: Vec<Machine>,
}

/// Writes [`Machines`] row by row, so that a large table is in memory once.
///
/// # Errors
/// Those of `out`.
pub fn write_machines<R: Borrow<Row>>(
    out: &mut impl Write,
    rows: impl IntoIterator<Item = R>,
) -> io::Result<()> {
    out.write_all(b"{\"ip_table\":[")?;
    for (nth, row) in rows.into_iter().enumerate() {
        if nth > 0 {
            out.write_all(b",\n")?;
        }
        control_free(out, &Machine::from(row.borrow()))?;
    }
    out.write_all(b"]}\n")
}

/// Writes JSON without control characters.
pub(super) fn control_free(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut json = Serializer::with_formatter(&mut *out, Plain);
    Ok(value.serialize(&mut json)?)
}

/// JSON without control characters: it may go to a terminal, and its texts are of others.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // The ones below 0x20 are escaped by JSON's own rules.
        let mut rest = fragment;
        while let Some(at) = rest.find(char::is_control) {
            let (plain, from) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            let code = chars.next().map_or(0, u32::from);
            write!(out, "\\u{code:04x}")?;
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

/// `iptable import --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableImported {
    /// Whether nothing was stored.
    pub dry_run: bool,
    /// Version of P2PRC that the document is from, `V1` to `V14` or `D1` to `D4`; null without rows.
    pub variant: Option<String>,
    /// Unit in which its unquoted latencies were read.
    pub latency_unit: Option<String>,
    /// Elements of its list.
    pub elements: usize,
    /// Elements that were another element's machine.
    pub merged: usize,
    /// Machines that were not known.
    pub added: usize,
    /// Machines of which something was new.
    pub changed: usize,
    /// Machines of which everything was known.
    pub unchanged: usize,
    /// Machines that were replaced.
    pub removed: usize,
    /// Rows about this node, which are never taken from a document.
    pub own: usize,
    /// Bad rows that were left out.
    pub skipped: usize,
    /// The first of them, each with place and field.
    pub problems: Vec<String>,
    /// What was read otherwise than written: how often.
    pub note_count: usize,
    /// The first of that.
    pub notes: Vec<String>,
}

impl TableImported {
    /// Of what an import did.
    pub fn of(imported: &Imported, dry_run: bool) -> Self {
        let Imported {
            variant,
            report,
            merged,
        } = imported;
        let texts = |all: &[Problem]| all.iter().map(ToString::to_string).collect();
        Self {
            dry_run,
            variant: variant.map(|variant| variant.to_string()),
            latency_unit: variant.map(|variant| variant.latency_unit().to_string()),
            elements: report.rows,
            merged: report.merged,
            added: merged.added,
            changed: merged.changed,
            unchanged: merged.unchanged,
            removed: merged.removed,
            own: merged.own,
            skipped: report.problem_count,
            problems: texts(&report.problems),
            note_count: report.note_count,
            notes: texts(&report.notes),
        }
    }
}

/// Body of `POST /v1/iptable/rows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMachine {
    /// `HOST`, `HOST:PORT` or `[V6]:PORT`.
    pub address: String,
    /// What it is called.
    #[serde(default)]
    pub name: Option<Name>,
    /// Whether all other rows of the user go.
    #[serde(default)]
    pub replace: bool,
}

/// `iptable add --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineAdded {
    /// Whether it was not known before.
    pub added: bool,
    /// Rows that were replaced by it.
    pub removed: usize,
}

impl From<Merged> for MachineAdded {
    fn from(merged: Merged) -> Self {
        Self {
            added: merged.added > 0,
            removed: merged.removed,
        }
    }
}

/// Body of `POST /v1/iptable/remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveMachines {
    /// Each as in [`AddMachine`].
    pub addresses: Vec<String>,
}

/// Body of `POST /v1/iptable/prune`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// Whether rows of the user may go, too.
    #[serde(default)]
    pub all: bool,
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// `iptable prune --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// Whether nothing was stored.
    pub dry_run: bool,
    /// What went.
    pub removed: Vec<Machine>,
}

/// Body of `POST /v1/iptable/annotate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotate {
    /// What to say.
    pub text: String,
    /// Where this node is reached, if it has no row yet.
    #[serde(default)]
    pub address: Option<String>,
}

impl From<TableError> for NodeError {
    fn from(error: TableError) -> Self {
        let shown = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => shown.with_hint(hint),
            None => shown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_no_control_character_and_reads_as_what_it_was() {
        let mut row = Row::new("192.0.2.1:8088".parse().unwrap(), Source::Imported);
        row.name = "a\u{1b}[31m\u{9b}\u{7f}ü\n".to_owned();
        let mut text = Vec::new();
        write_machines(&mut text, [&row, &row]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n'),
            "{text:?}"
        );
        let read: Machines = serde_json::from_str(&text).unwrap();
        assert_eq!(read.ip_table, [Machine::from(&row), Machine::from(&row)]);
        assert_eq!(read.ip_table[0].latency_ms, None, "0 is no latency");
    }
}
