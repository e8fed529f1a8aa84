//! The ledger as scripts see it, and the document that moves it between networks' lives.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::NodeError;
use crate::mesh::entry::{Body, Class, Entry, Slot};
use crate::mesh::event::ValueText;
use crate::mesh::id::{NodeId, Signature};
use crate::mesh::name::Bucket;

/// Number of the export document that this program writes; it reads no other.
pub const LEDGER_FORMAT: u32 = 1;

/// `ledger ls --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerList {
    /// Sorted by bucket, key, author; removed ones left out.
    pub entries: Vec<LedgerItem>,
}

/// One author's value in one slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerItem {
    /// Bucket.
    pub bucket: Bucket,
    /// Key.
    pub key: String,
    /// Text, or `{"base64": …}` where it is not UTF-8.
    pub value: ValueText,
    /// Full id of who wrote it.
    #[serde(with = "crate::mesh::view::id_text")]
    pub author: NodeId,
    /// Greater is newer, within one class.
    pub version: u64,
    /// `live` or `durable`.
    pub class: Class,
}

impl From<&Entry> for LedgerItem {
    fn from(entry: &Entry) -> Self {
        Self {
            bucket: entry.slot.bucket.clone(),
            key: entry.slot.key.clone(),
            value: ValueText::from(entry.value.as_slice()),
            author: entry.slot.author,
            version: entry.version,
            class: entry.slot.class,
        }
    }
}

/// `ledger get --json`: the newest value, and the other authors'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerValue {
    /// The newest.
    #[serde(flatten)]
    pub newest: LedgerItem,
    /// Values of other authors, newest first.
    pub others: Vec<LedgerItem>,
}

impl LedgerValue {
    /// Of entries that are newest first; `None` without any.
    pub fn of(entries: &[Entry]) -> Option<Self> {
        let (newest, others) = entries.split_first()?;
        Some(Self {
            newest: newest.into(),
            others: others.iter().map(LedgerItem::from).collect(),
        })
    }
}

/// `ledger export`: every durable entry with its signature, removals included, so that any member
/// of the network can take it back in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerDocument {
    /// [`LEDGER_FORMAT`].
    pub warren_ledger: u32,
    /// Public fingerprint of the network in which the signatures hold.
    pub network: String,
    /// The entries.
    pub entries: Vec<ExportedEntry>,
}

impl LedgerDocument {
    /// The document of `entries` in the network with this fingerprint.
    pub fn of(network: String, entries: &[Entry]) -> Self {
        Self {
            warren_ledger: LEDGER_FORMAT,
            network,
            entries: entries.iter().map(ExportedEntry::from).collect(),
        }
    }

    /// The entries, if the document is of this format and of `network`. Signatures are left to
    /// the ledger, which checks every entry it takes.
    ///
    /// # Errors
    /// `usage`, with the position of the first entry that cannot be read.
    pub fn into_entries(self, network: &str) -> Result<Vec<Entry>, NodeError> {
        if self.warren_ledger != LEDGER_FORMAT {
            let given = self.warren_ledger;
            let message =
                format!("the export has format {given}, this program reads {LEDGER_FORMAT}");
            return Err(NodeError::new("usage", message)
                .with_hint("import it with the version of warren that wrote it, or a newer one"));
        }
        if self.network != network {
            let message = format!(
                "the export is of network {}, this node is in {network}: its signatures are void here",
                self.network
            );
            return Err(NodeError::new("usage", message)
                .with_hint("write the values anew with `warren ledger put`"));
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for (at, exported) in self.entries.into_iter().enumerate() {
            let entry = exported.into_entry().map_err(|field| {
                NodeError::new(
                    "usage",
                    format!("entries[{at}].{field} is not valid base64"),
                )
            })?;
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// An entry with everything that its signature covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportedEntry {
    /// Bucket.
    pub bucket: Bucket,
    /// Key.
    pub key: String,
    /// Full id of who wrote and signed it.
    #[serde(with = "crate::mesh::view::id_text")]
    pub author: NodeId,
    /// `live` or `durable`.
    pub class: Class,
    /// See [`Body::version`].
    pub version: u64,
    /// See [`Body::boot`].
    pub boot: u64,
    /// Whether this is a removal.
    pub deleted: bool,
    /// Text, or `{"base64": …}`; empty in a removal.
    pub value: ValueText,
    /// 64 bytes in base64.
    pub signature: String,
}

impl From<&Entry> for ExportedEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            bucket: entry.slot.bucket.clone(),
            key: entry.slot.key.clone(),
            author: entry.slot.author,
            class: entry.slot.class,
            version: entry.version,
            boot: entry.boot,
            deleted: entry.deleted,
            value: ValueText::from(entry.value.as_slice()),
            signature: BASE64.encode(&entry.signature.to_bytes()),
        }
    }
}

impl ExportedEntry {
    /// The entry, or the name of the field that cannot be read.
    fn into_entry(self) -> Result<Entry, &'static str> {
        let signature = BASE64.decode(self.signature.as_bytes()).ok();
        let signature: Option<[u8; 64]> = signature.and_then(|bytes| bytes.try_into().ok());
        Ok(Entry::from(Body {
            value: self.value.to_bytes().ok_or("value")?,
            signature: Signature::from(signature.ok_or("signature")?),
            slot: Slot {
                bucket: self.bucket,
                key: self.key,
                author: self.author,
                class: self.class,
            },
            version: self.version,
            boot: self.boot,
            deleted: self.deleted,
        }))
    }
}

/// `ledger import --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Entries that were new or newer.
    pub taken: usize,
    /// Entries already known, or older than what is known.
    pub known: usize,
}
