//! The tables of `warren.redb`, byte by byte. `schema/tables.md` shows the same with examples.
//!
//! Keys are fixed-width or length-prefixed bytes, numbers in them big endian, so that byte order
//! is number order. A value is a version byte, then postcard. It is read by functions here that
//! check limits first, refuse trailing bytes, and answer damage with a [`RowError`]. redb itself
//! only ever sees bytes: its own encodings of tuples and options changed between its versions.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::mesh::addr::HostPort;
use crate::mesh::entry::{Body, Class, Entry, MAX_KEY_BYTES, MAX_VALUE_BYTES, Slot};
use crate::mesh::floor::Floor;
use crate::mesh::id::{NodeId, Signature};
use crate::mesh::members::KnownPeer;
use crate::mesh::name::{Bucket, Name};

/// Addresses kept of one peer, and as many places it was learnt at.
pub const MAX_PEER_ADDRESSES: usize = 16;
/// Longest specification of a role, in bytes.
pub const MAX_ROLE_BYTES: usize = 64 * 1024;

/// Longest value of any row: a ledger value and what surrounds it.
const MAX_ROW_BYTES: usize = MAX_VALUE_BYTES + 1024;
const VERSION_1: u8 = 1;

/// A table, as redb sees it.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// One of our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// *Table* `meta`: what is true of the file as a whole.
    ///
    /// *Key* `schema` (the schema's number), `boot` (the last boot begun) or `probe` (padding,
    /// there only while the disk is tested after a failure).
    ///
    /// *Value* 1, then a u64; for `probe` bytes without meaning.
    Meta,
    /// *Table* `ledger`: durable entries, removed ones included.
    ///
    /// *Key* u8 length, bucket; u16 length, key; author (32).
    ///
    /// *Value* 1, then [`LedgerRow`].
    Ledger,
    /// *Table* `floors`: below which version an author's entries are void.
    ///
    /// *Key* author (32).
    ///
    /// *Value* 1, then [`FloorRow`].
    Floors,
    /// *Table* `peers`: who to dial after a restart.
    ///
    /// *Key* node (32).
    ///
    /// *Value* 1, then [`PeerRow`].
    Peers,
    /// *Table* `request_counts`: requests that this node ever sent to a service of a node.
    ///
    /// *Key* u8 length, bucket; node (32).
    ///
    /// *Value* 1, then a u64.
    Counts,
    /// *Table* `seen_knocks`: nonces that must not knock again (security amendment A7).
    ///
    /// *Key* epoch (u64); nonce (12).
    ///
    /// *Value* 1.
    Knocks,
    /// *Table* `roles`: roles left with the daemon by `--bg`.
    ///
    /// *Key* number of the role (u64).
    ///
    /// *Value* 1, then the specification's bytes, which the store does not read.
    Roles,
    /// *Table* `ip_table`: machines that are reached by address.
    ///
    /// *Key* 4, IPv4 (4); or 6, IPv6 (16), u8 length, zone; or `n`, u8 length, host name; then
    /// port (u16). Addresses are in canonical form.
    ///
    /// *Value* 1, then the row of `ip_table.rs`.
    Machines,
    /// *Table* `networks`: what an explorer knows of networks.
    ///
    /// *Key* the network's fingerprint (10).
    ///
    /// *Value* 1, then the row of `networks.rs`.
    Networks,
    /// *Table* `network_history`: the last looks at a network.
    ///
    /// *Key* the network's fingerprint (10).
    ///
    /// *Value* 1, then a list of looks.
    NetworkHistory,
    /// *Table* `removed_networks`: networks that do not come back by themselves.
    ///
    /// *Key* the network's fingerprint (10).
    ///
    /// *Value* 1, then a u64: when it was removed.
    RemovedNetworks,
}

impl Table {
    pub(super) const ALL: [Table; 11] = [
        Table::Meta,
        Table::Ledger,
        Table::Floors,
        Table::Peers,
        Table::Counts,
        Table::Knocks,
        Table::Roles,
        Table::Machines,
        Table::Networks,
        Table::NetworkHistory,
        Table::RemovedNetworks,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Ledger => "ledger",
            Table::Floors => "floors",
            Table::Peers => "peers",
            Table::Counts => "request_counts",
            Table::Knocks => "seen_knocks",
            Table::Roles => "roles",
            Table::Machines => "ip_table",
            Table::Networks => "networks",
            Table::NetworkHistory => "network_history",
            Table::RemovedNetworks => "removed_networks",
        }
    }

    /// Whether it is about the network, and goes when that is left.
    pub(super) const fn is_of_network(self) -> bool {
        match self {
            Table::Ledger
            | Table::Floors
            | Table::Peers
            | Table::Counts
            | Table::Knocks
            | Table::Roles => true,
            Table::Meta
            | Table::Machines
            | Table::Networks
            | Table::NetworkHistory
            | Table::RemovedNetworks => false,
        }
    }

    pub(super) const fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }
}

pub(super) const META_SCHEMA: &[u8] = b"schema";
pub(super) const META_BOOT: &[u8] = b"boot";
pub(super) const META_PROBE: &[u8] = b"probe";

/// What a ledger row adds to its key. The class is not stored: only durable entries are.
#[derive(Serialize, Deserialize)]
struct LedgerRow<'a> {
    version: u64,
    deleted: bool,
    #[serde(borrow)]
    value: &'a [u8],
    signature: Signature,
}

/// What a floor's row adds to its key.
#[derive(Serialize, Deserialize)]
struct FloorRow {
    floor: u64,
    signature: Signature,
}

/// What a peer's row adds to its key.
#[derive(Serialize, Deserialize)]
struct PeerRow<'a> {
    #[serde(borrow)]
    name: Option<&'a str>,
    last_seen_ms: u64,
    boot: u64,
    addresses: Vec<AddressRow>,
    #[serde(borrow)]
    learnt_at: Vec<Cow<'a, str>>,
}

/// An address: 0, four bytes, port; or 1, sixteen bytes, port.
#[derive(Serialize, Deserialize)]
enum AddressRow {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<SocketAddr> for AddressRow {
    fn from(at: SocketAddr) -> Self {
        match at.ip() {
            IpAddr::V4(ip) => Self::V4(ip.octets(), at.port()),
            IpAddr::V6(ip) => Self::V6(ip.octets(), at.port()),
        }
    }
}

impl From<AddressRow> for SocketAddr {
    fn from(row: AddressRow) -> Self {
        match row {
            AddressRow::V4(ip, port) => (ip, port).into(),
            AddressRow::V6(ip, port) => (ip, port).into(),
        }
    }
}

/// Why a row could not be read. It stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("its key is {len} bytes of another form")]
    Key { len: usize },
    #[error("its value has version {found:?}, known is {VERSION_1}")]
    Version { found: Option<u8> },
    #[error("its value is {len} bytes, at most {MAX_ROW_BYTES} are read")]
    Long { len: usize },
    #[error("its value is cut off or has bytes that mean nothing")]
    Value,
    #[error("{0}")]
    Content(String),
}

/// What a change does to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowChange {
    Put(Vec<u8>),
    Remove,
    /// Raises the count there.
    Add(u64),
}

/// A row's place.
pub(super) type RowKey = (Table, Vec<u8>);

pub(super) fn put_entry(entry: &Entry) -> Result<(RowKey, RowChange), StoreError> {
    let key = ledger_key(&entry.slot)?;
    if entry.value.len() > MAX_VALUE_BYTES {
        return Err(refused("its value is too long", &entry.slot));
    }
    let row = LedgerRow {
        version: entry.version,
        deleted: entry.deleted,
        value: &entry.value,
        signature: entry.signature,
    };
    Ok(((Table::Ledger, key), RowChange::Put(encode(&row)?)))
}

pub(super) fn ledger_key(slot: &Slot) -> Result<Vec<u8>, StoreError> {
    if slot.class != Class::Durable {
        return Err(refused("live entries are never on disk", slot));
    }
    if slot.key.is_empty() || slot.key.len() > MAX_KEY_BYTES {
        return Err(refused("its key is empty or too long", slot));
    }
    let mut key = prefixed(&slot.bucket);
    let len = u16::try_from(slot.key.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(slot.key.as_bytes());
    key.extend_from_slice(slot.author.as_bytes());
    Ok(key)
}

pub(super) fn read_entry(key: &[u8], value: &[u8]) -> Result<Entry, RowError> {
    let bad_key = RowError::Key { len: key.len() };
    let (bucket, rest) = split_bucket(key)?;
    let (len, rest) = rest.split_first_chunk::<2>().ok_or(bad_key.clone())?;
    let (text, author) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .ok_or(bad_key.clone())?;
    let text = std::str::from_utf8(text).map_err(|_| bad_key.clone())?;
    if text.is_empty() || text.len() > MAX_KEY_BYTES {
        return Err(bad_key);
    }
    let row: LedgerRow<'_> = decode(value)?;
    if row.value.len() > MAX_VALUE_BYTES || (row.deleted && !row.value.is_empty()) {
        return Err(RowError::Value);
    }
    Ok(Entry::from(Body {
        slot: Slot {
            bucket,
            key: text.to_owned(),
            author: node(author)?,
            class: Class::Durable,
        },
        version: row.version,
        boot: 0,
        deleted: row.deleted,
        value: row.value.to_vec(),
        signature: row.signature,
    }))
}

/// Whether a row of the ledger holds an entry of `author` that a floor voids. One that cannot be
/// read stays, as any other damage does.
pub(super) fn is_void(key: &[u8], value: &[u8], author: &[u8], floor: u64) -> bool {
    key.ends_with(author) && decode::<LedgerRow<'_>>(value).is_ok_and(|row| row.version < floor)
}

/// Whose entry a row of the ledger holds.
pub(super) fn author_of(ledger_key: &[u8]) -> Option<&[u8; 32]> {
    ledger_key.last_chunk()
}

pub(super) fn put_floor(floor: &Floor) -> Result<(RowKey, RowChange), StoreError> {
    let row = FloorRow {
        floor: floor.floor,
        signature: floor.signature,
    };
    Ok((floor_key(&floor.author), RowChange::Put(encode(&row)?)))
}

pub(super) fn floor_key(author: &NodeId) -> RowKey {
    (Table::Floors, author.as_bytes().to_vec())
}

pub(super) fn read_floor(key: &[u8], value: &[u8]) -> Result<Floor, RowError> {
    let row: FloorRow = decode(value)?;
    Ok(Floor {
        author: node(key)?,
        floor: row.floor,
        signature: row.signature,
    })
}

pub(super) fn put_peer(peer: &KnownPeer) -> Result<(RowKey, RowChange), StoreError> {
    let addresses = peer.addresses.iter().take(MAX_PEER_ADDRESSES);
    let learnt_at = peer.learnt_at.iter().take(MAX_PEER_ADDRESSES);
    let row = PeerRow {
        name: peer.name.as_ref().map(Name::as_str),
        last_seen_ms: peer.last_seen_ms,
        boot: peer.boot,
        addresses: addresses.map(|at| AddressRow::from(*at)).collect(),
        learnt_at: learnt_at.map(|at| Cow::Owned(at.to_string())).collect(),
    };
    Ok((peer_key(&peer.id), RowChange::Put(encode(&row)?)))
}

pub(super) fn peer_key(id: &NodeId) -> RowKey {
    (Table::Peers, id.as_bytes().to_vec())
}

pub(super) fn read_peer(key: &[u8], value: &[u8]) -> Result<KnownPeer, RowError> {
    let row: PeerRow<'_> = decode(value)?;
    if row.addresses.len() > MAX_PEER_ADDRESSES || row.learnt_at.len() > MAX_PEER_ADDRESSES {
        return Err(RowError::Value);
    }
    let learnt_at: Result<Vec<HostPort>, _> = row.learnt_at.iter().map(|at| at.parse()).collect();
    Ok(KnownPeer {
        id: node(key)?,
        name: row.name.map(str::parse).transpose().map_err(content)?,
        addresses: row.addresses.into_iter().map(SocketAddr::from).collect(),
        last_seen_ms: row.last_seen_ms,
        boot: row.boot,
        learnt_at: learnt_at.map_err(content)?,
    })
}

pub(super) fn count_key(bucket: &Bucket, node: &NodeId) -> RowKey {
    let mut key = prefixed(bucket);
    key.extend_from_slice(node.as_bytes());
    (Table::Counts, key)
}

pub(super) fn read_count(key: &[u8], value: &[u8]) -> Result<(Bucket, NodeId, u64), RowError> {
    let (bucket, rest) = split_bucket(key)?;
    Ok((bucket, node(rest)?, read_number(value)?))
}

pub(super) fn put_knock(epoch: u64, nonce: &[u8; 12]) -> (RowKey, RowChange) {
    let mut key = epoch.to_be_bytes().to_vec();
    key.extend_from_slice(nonce);
    ((Table::Knocks, key), RowChange::Put(vec![VERSION_1]))
}

pub(super) fn read_knock(key: &[u8], value: &[u8]) -> Result<(u64, [u8; 12]), RowError> {
    let bad_key = || RowError::Key { len: key.len() };
    decode::<()>(value)?;
    let (epoch, nonce) = key.split_first_chunk::<8>().ok_or_else(bad_key)?;
    let nonce = nonce.try_into().map_err(|_| bad_key())?;
    Ok((u64::from_be_bytes(*epoch), nonce))
}

pub(super) fn put_role(id: u64, spec: &[u8]) -> Result<(RowKey, RowChange), StoreError> {
    if spec.len() > MAX_ROLE_BYTES {
        let what = format!("the specification of role {id} is over {MAX_ROLE_BYTES} bytes");
        return Err(StoreError::Refused { what });
    }
    Ok((role_key(id), RowChange::Put(encode(&spec)?)))
}

pub(super) fn role_key(id: u64) -> RowKey {
    (Table::Roles, id.to_be_bytes().to_vec())
}

pub(super) fn read_role(key: &[u8], value: &[u8]) -> Result<(u64, Vec<u8>), RowError> {
    let id = key
        .try_into()
        .map_err(|_| RowError::Key { len: key.len() })?;
    let spec: &[u8] = decode(value)?;
    Ok((u64::from_be_bytes(id), spec.to_vec()))
}

/// The value of a row that holds one number.
pub(super) fn number(n: u64) -> Vec<u8> {
    // A u64 cannot fail to encode; an empty value would be reported as damage, never trusted.
    encode(&n).unwrap_or_default()
}

pub(super) fn read_number(value: &[u8]) -> Result<u64, RowError> {
    decode(value)
}

/// A value without meaning, `len` bytes long.
pub(super) fn padding(len: usize) -> Vec<u8> {
    vec![VERSION_1; len.max(1)]
}

/// For people: which row, and why.
pub(super) fn damage(table: Table, key: &[u8], why: &RowError) -> String {
    // Keys are short by construction; a damaged one may be anything.
    let shown = key.get(..64).unwrap_or(key);
    let key = data_encoding::HEXLOWER.encode(shown);
    format!("table {}, row {key}: {why}", table.name())
}

pub(super) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(row, vec![VERSION_1]).map_err(|error| StoreError::Refused {
        what: format!("a row could not be encoded: {error}"),
    })
}

pub(super) fn decode<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, RowError> {
    if value.len() > MAX_ROW_BYTES {
        return Err(RowError::Long { len: value.len() });
    }
    let Some((&VERSION_1, body)) = value.split_first() else {
        return Err(RowError::Version {
            found: value.first().copied(),
        });
    };
    match postcard::take_from_bytes(body) {
        Ok((row, [])) => Ok(row),
        _ => Err(RowError::Value),
    }
}

fn prefixed(bucket: &Bucket) -> Vec<u8> {
    let text = bucket.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + text.len() + 32);
    // A bucket is at most MAX_BUCKET_BYTES.
    key.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(text);
    key
}

fn split_bucket(key: &[u8]) -> Result<(Bucket, &[u8]), RowError> {
    let bad_key = || RowError::Key { len: key.len() };
    let (&len, rest) = key.split_first().ok_or_else(bad_key)?;
    let (bucket, rest) = rest.split_at_checked(len.into()).ok_or_else(bad_key)?;
    let bucket = std::str::from_utf8(bucket).map_err(|_| bad_key())?;
    Ok((bucket.parse().map_err(content)?, rest))
}

fn node(bytes: &[u8]) -> Result<NodeId, RowError> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| RowError::Key { len: bytes.len() })?;
    NodeId::from_bytes(bytes).map_err(content)
}

pub(super) fn content(error: impl std::fmt::Display) -> RowError {
    RowError::Content(error.to_string())
}

fn refused(why: &str, slot: &Slot) -> StoreError {
    StoreError::Refused {
        what: format!("entry {:?} in bucket {}: {why}", slot.key, slot.bucket),
    }
}
