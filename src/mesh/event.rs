//! What happened, for `events`, logs and `ledger watch`. One JSON object each.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::id::NodeId;
use super::name::{Bucket, Name};

/// Something that happened, when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. In JSON the field `event` names the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A node answers.
    NodeUp {
        /// Who.
        #[serde(with = "super::view::id_text")]
        id: NodeId,
        /// Its name, if known.
        name: Option<Name>,
    },
    /// A node stopped answering.
    NodeDown {
        /// Who.
        #[serde(with = "super::view::id_text")]
        id: NodeId,
        /// Its name, if known.
        name: Option<Name>,
        /// Why it counts as gone.
        reason: String,
    },
    /// A node said that it leaves.
    NodeLeft {
        /// Who.
        #[serde(with = "super::view::id_text")]
        id: NodeId,
        /// Its name, if known.
        name: Option<Name>,
    },
    /// A provider became usable.
    ServiceUp {
        /// Service.
        service: Bucket,
        /// Who serves it.
        #[serde(with = "super::view::id_text")]
        id: NodeId,
    },
    /// A provider is no longer usable.
    ServiceDown {
        /// Service.
        service: Bucket,
        /// Who served it.
        #[serde(with = "super::view::id_text")]
        id: NodeId,
    },
    /// A ledger slot changed: written, or removed if `deleted`.
    Ledger {
        /// Bucket.
        bucket: Bucket,
        /// Key.
        key: String,
        /// Author.
        #[serde(with = "super::view::id_text")]
        author: NodeId,
        /// Version.
        version: u64,
        /// Removed.
        deleted: bool,
        /// The value as text, or `{"base64": …}` where it is not UTF-8; absent when removed.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<ValueText>,
    },
    /// Something the operator should look at.
    Warning {
        /// Stable word for programs, for example `clock`.
        code: String,
        /// What happened and what to do.
        message: String,
    },
    /// What a warning said is over.
    Resolved {
        /// The warning's word.
        code: String,
    },
}

/// A value in JSON: text where it is UTF-8, base64 where not (DESIGN §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValueText {
    /// UTF-8.
    Text(String),
    /// Anything else, standard base64 with padding.
    Bytes {
        /// The bytes.
        base64: String,
    },
}

impl From<&[u8]> for ValueText {
    fn from(value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes {
                base64: data_encoding::BASE64.encode(value),
            },
        }
    }
}

impl ValueText {
    /// The bytes again; `None` if the base64 is broken.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Bytes { base64 } => data_encoding::BASE64.decode(base64.as_bytes()).ok(),
        }
    }
}

impl What {
    /// Every kind, as the field `event` has it.
    pub const KINDS: [&str; 8] = [
        "node_up",
        "node_down",
        "node_left",
        "service_up",
        "service_down",
        "ledger",
        "warning",
        "resolved",
    ];

    /// The kind, as the field `event` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NodeUp { .. } => "node_up",
            Self::NodeDown { .. } => "node_down",
            Self::NodeLeft { .. } => "node_left",
            Self::ServiceUp { .. } => "service_up",
            Self::ServiceDown { .. } => "service_down",
            Self::Ledger { .. } => "ledger",
            Self::Warning { .. } => "warning",
            Self::Resolved { .. } => "resolved",
        }
    }

    /// The event of a ledger change.
    pub fn ledger(entry: &Entry) -> Self {
        Self::Ledger {
            bucket: entry.slot.bucket.clone(),
            key: entry.slot.key.clone(),
            author: entry.slot.author,
            version: entry.version,
            deleted: entry.deleted,
            value: (!entry.deleted).then(|| ValueText::from(entry.value.as_slice())),
        }
    }
}
