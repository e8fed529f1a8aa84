//! Frames of a link's control stream: `u16 kind | u32 length | body`, big endian.
//!
//! Kinds are never reused. A kind this build does not know is a value: it is skipped and counted.
//! Every kind has a limit that is checked before a body is read, and a body is postcard without
//! trailing bytes. `schema/wire.md` is the contract, `schema/vectors/frames.json` its examples.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::alive::Alive;
use super::entry::{Entry, ItemId, MAX_VALUE_BYTES};
use super::floor::Floor;
use super::suspicion::Suspicion;

/// Bytes before a body.
pub const HEADER_BYTES: usize = 6;
/// Longest body of a kind that this build does not know.
pub const MAX_UNKNOWN_BYTES: usize = 64 * 1024;
/// Entries in one frame are batched up to this size by the sender.
pub const ENTRY_BATCH_BYTES: usize = 256 * 1024;
/// Longest reconciliation message.
pub const MAX_SYNC_BYTES: usize = 64 * 1024;
/// Most ids asked for in one [`Frame::Want`].
pub const MAX_WANT_IDS: usize = 4096;
/// Most signs of life in one frame.
pub const MAX_ALIVE: usize = 256;
/// Most suspicions in one frame.
pub const MAX_SUSPECTED: usize = 256;
/// Most floors in one frame.
pub const MAX_FLOORS_SENT: usize = 256;
/// Most ids in one [`Frame::Offer`] or [`Frame::Fetch`].
pub const MAX_OFFERED: usize = 256;

/// The registry: number, name, longest body.
macro_rules! kinds {
    ($($name:ident = $number:literal, $max:expr;)*) => {
        /// Kind numbers on the wire.
        pub mod kind {
            $(#[doc = concat!("See `Frame`: ", stringify!($name), ".")]
            pub const $name: u16 = $number;)*
        }

        /// Longest body of `kind`.
        pub fn max_body(kind: u16) -> usize {
            match kind {
                $(kind::$name => $max,)*
                _ => MAX_UNKNOWN_BYTES,
            }
        }

        /// Every kind with its name and limit, for documents and tests.
        pub const REGISTRY: &[(u16, &str, usize)] = &[$(($number, stringify!($name), $max)),*];
    };
}

kinds! {
    PING = 1, 10;
    PONG = 2, 10;
    ALIVE = 3, 4 + MAX_ALIVE * 128;
    ENTRIES = 4, ENTRY_BATCH_BYTES + MAX_VALUE_BYTES + 2048;
    SYNC_OPEN = 5, MAX_SYNC_BYTES + 64;
    SYNC = 6, MAX_SYNC_BYTES + 64;
    WANT = 7, 16 + MAX_WANT_IDS * 32;
    NEIGHBOUR = 8, 1;
    SUSPICIONS = 9, 4 + MAX_SUSPECTED * 160;
    DIGEST = 10, 10;
    SYNC_DONE = 11, 6;
    OFFER = 12, 4 + MAX_OFFERED * 32;
    FETCH = 13, 4 + MAX_OFFERED * 32;
    FLOORS = 14, 4 + MAX_FLOORS_SENT * 110;
}

/// The number of a ping that asks for no [`Frame::Pong`]: that QUIC acknowledges it is enough.
pub const UNANSWERED: u64 = 0;

/// One message between two nodes that have checked each other's Hello.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// Asks for a [`Frame::Pong`] with the same number; [`UNANSWERED`] only for the ACK of QUIC.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
    /// Signs of life, of the sender or of others.
    Alive(Vec<Alive>),
    /// Entries, of the sender or of others.
    Entries(Vec<Entry>),
    /// Starts a reconciliation.
    SyncOpen(SyncOpen),
    /// Continues one.
    Sync(SyncMessage),
    /// Asks for the statements behind salted ids of a session.
    Want(Want),
    /// Whether the sender counts the receiver among its neighbours: it then keeps the link and
    /// sends news over it.
    Neighbour(bool),
    /// Suspicions, of the sender or of others.
    Suspicions(Vec<Suspicion>),
    /// Sum of what the sender holds, sent when that has been at rest for a while. A hint: another
    /// sum is a reason to reconcile.
    Digest(u64),
    /// Everything of this session that the receiver asked for or lacked was sent before this.
    SyncDone {
        /// See [`SyncOpen::session`].
        session: u32,
        /// Whether the sender has caught up itself: two nodes that were cut off learn nothing
        /// fresh of others from each other.
        fresh: bool,
    },
    /// The sender has these large entries.
    Offer(Vec<ItemId>),
    /// Asks for entries that were offered on this link.
    Fetch(Vec<ItemId>),
    /// Floors, of the sender or of others.
    Floors(Vec<Floor>),
    /// A kind from a later version; its body was skipped.
    Unknown {
        /// Kind number.
        kind: u16,
        /// Bytes skipped.
        len: usize,
    },
}

/// Opening of a reconciliation session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncOpen {
    /// Number chosen by the opener, unique on its link.
    pub session: u32,
    /// Item ids are hashed with this, so that no author can craft colliding ids (C24).
    pub salt: [u8; 16],
    /// First negentropy message.
    pub message: Vec<u8>,
}

/// A further message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncMessage {
    /// See [`SyncOpen::session`].
    pub session: u32,
    /// Negentropy message.
    pub message: Vec<u8>,
}

/// Ids of a session that the opener lacks: of entries, signs of life or suspicions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// See [`SyncOpen::session`].
    pub session: u32,
    /// Salted ids, at most [`MAX_WANT_IDS`].
    pub ids: Vec<ItemId>,
}

/// Why bytes are not a frame. The link they came on is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The header announces more than the kind may have.
    #[error("a frame of kind {kind} announces {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Kind number.
        kind: u16,
        /// Announced length.
        len: usize,
        /// Limit of the kind.
        max: usize,
    },
    /// The body is not what the kind says, or has bytes after it.
    #[error("the body of a frame of kind {kind} does not decode")]
    Body {
        /// Kind number.
        kind: u16,
    },
}

impl Frame {
    /// Kind number.
    pub fn kind(&self) -> u16 {
        match self {
            Frame::Ping(_) => kind::PING,
            Frame::Pong(_) => kind::PONG,
            Frame::Alive(_) => kind::ALIVE,
            Frame::Entries(_) => kind::ENTRIES,
            Frame::SyncOpen(_) => kind::SYNC_OPEN,
            Frame::Sync(_) => kind::SYNC,
            Frame::Want(_) => kind::WANT,
            Frame::Neighbour(_) => kind::NEIGHBOUR,
            Frame::Suspicions(_) => kind::SUSPICIONS,
            Frame::Digest(_) => kind::DIGEST,
            Frame::SyncDone { .. } => kind::SYNC_DONE,
            Frame::Offer(_) => kind::OFFER,
            Frame::Fetch(_) => kind::FETCH,
            Frame::Floors(_) => kind::FLOORS,
            Frame::Unknown { kind, .. } => *kind,
        }
    }

    /// Header and body. The sender keeps to the limits: its batches are made under them.
    pub fn encode(&self) -> Vec<u8> {
        let body = match self {
            Frame::Ping(number) | Frame::Pong(number) | Frame::Digest(number) => {
                encode_body(number)
            }
            Frame::Alive(alive) => encode_body(alive),
            Frame::Entries(entries) => encode_body(entries),
            Frame::SyncOpen(open) => encode_body(open),
            Frame::Sync(message) => encode_body(message),
            Frame::Want(want) => encode_body(want),
            Frame::Neighbour(wanted) => encode_body(wanted),
            Frame::Suspicions(all) => encode_body(all),
            Frame::SyncDone { session, fresh } => encode_body(&(session, fresh)),
            Frame::Offer(ids) | Frame::Fetch(ids) => encode_body(ids),
            Frame::Floors(floors) => encode_body(floors),
            Frame::Unknown { len, .. } => vec![0; *len],
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&self.kind().to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// Serialising these types into memory cannot fail; an empty body would be refused by the peer.
fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

/// Reads the frame at the start of `bytes`: the frame and how many bytes it took, or `None`
/// while more bytes are needed.
///
/// # Errors
/// An over-long frame is refused from its header, before its body has arrived.
pub fn decode_frame(bytes: &[u8]) -> Result<Option<(Frame, usize)>, WireError> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Ok(None);
    };
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let len = u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize;
    let max = max_body(kind);
    if len > max {
        return Err(WireError::TooLong { kind, len, max });
    }
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    Ok(Some((decode_body(kind, body)?, HEADER_BYTES + len)))
}

fn decode_body(kind: u16, body: &[u8]) -> Result<Frame, WireError> {
    let bad = || WireError::Body { kind };
    let frame = match kind {
        kind::PING => Frame::Ping(exactly(body).ok_or_else(bad)?),
        kind::PONG => Frame::Pong(exactly(body).ok_or_else(bad)?),
        kind::ALIVE => Frame::Alive(exactly(body).ok_or_else(bad)?),
        kind::ENTRIES => Frame::Entries(exactly(body).ok_or_else(bad)?),
        kind::SYNC_OPEN => Frame::SyncOpen(exactly(body).ok_or_else(bad)?),
        kind::SYNC => Frame::Sync(exactly(body).ok_or_else(bad)?),
        kind::WANT => Frame::Want(exactly(body).ok_or_else(bad)?),
        kind::NEIGHBOUR => Frame::Neighbour(exactly(body).ok_or_else(bad)?),
        kind::SUSPICIONS => Frame::Suspicions(exactly(body).ok_or_else(bad)?),
        kind::DIGEST => Frame::Digest(exactly(body).ok_or_else(bad)?),
        kind::SYNC_DONE => {
            let (session, fresh) = exactly(body).ok_or_else(bad)?;
            Frame::SyncDone { session, fresh }
        }
        kind::OFFER => Frame::Offer(exactly(body).ok_or_else(bad)?),
        kind::FETCH => Frame::Fetch(exactly(body).ok_or_else(bad)?),
        kind::FLOORS => Frame::Floors(exactly(body).ok_or_else(bad)?),
        _ => Frame::Unknown {
            kind,
            len: body.len(),
        },
    };
    let few_enough = match &frame {
        Frame::Alive(alive) => alive.len() <= MAX_ALIVE,
        Frame::Suspicions(all) => all.len() <= MAX_SUSPECTED,
        Frame::Want(want) => want.ids.len() <= MAX_WANT_IDS,
        Frame::Offer(ids) | Frame::Fetch(ids) => ids.len() <= MAX_OFFERED,
        Frame::Floors(floors) => floors.len() <= MAX_FLOORS_SENT,
        _ => true,
    };
    if few_enough { Ok(frame) } else { Err(bad()) }
}

/// Decodes all of `body`: bytes left over are a refusal, not a surprise later.
fn exactly<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// Splits entries into frames that keep to [`ENTRY_BATCH_BYTES`].
pub fn entry_frames(entries: Vec<Entry>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut batch = Vec::new();
    let mut size = 0;
    for entry in entries {
        // 256 covers every fixed field with its postcard lengths.
        let bytes =
            entry.value.len() + entry.slot.key.len() + entry.slot.bucket.as_str().len() + 256;
        if size + bytes > ENTRY_BATCH_BYTES && !batch.is_empty() {
            frames.push(Frame::Entries(std::mem::take(&mut batch)));
            size = 0;
        }
        size += bytes;
        batch.push(entry);
    }
    if !batch.is_empty() {
        frames.push(Frame::Entries(batch));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::alive::LifeState;
    use crate::mesh::entry::{Class, Draft, NetworkId};
    use crate::mesh::id::Identity;

    fn samples() -> Vec<Frame> {
        let identity = Identity::from_seed(&[1; 32]);
        let network = NetworkId([5; 16]);
        let draft = Draft {
            bucket: "federated".parse().unwrap(),
            key: "k".into(),
            class: Class::Live,
            version: 1,
            boot: 9,
            deleted: false,
            value: b"{}".to_vec(),
        };
        vec![
            Frame::Ping(1),
            Frame::Pong(u64::MAX),
            Frame::Alive(vec![Alive::sign(
                network,
                &identity,
                9,
                0,
                LifeState::Alive,
            )]),
            Frame::Entries(vec![Entry::sign(network, &identity, draft).unwrap()]),
            Frame::SyncOpen(SyncOpen {
                session: 1,
                salt: [2; 16],
                message: vec![0x61],
            }),
            Frame::Sync(SyncMessage {
                session: 1,
                message: vec![],
            }),
            Frame::Want(Want {
                session: 1,
                ids: vec![ItemId([3; 32])],
            }),
            Frame::Neighbour(true),
            Frame::Suspicions(vec![Suspicion::sign(
                network,
                &identity,
                &Alive::sign(
                    network,
                    &Identity::from_seed(&[2; 32]),
                    9,
                    1,
                    LifeState::Alive,
                ),
            )]),
            Frame::Digest(0x0102_0304_0506_0708),
            Frame::SyncDone {
                session: 1,
                fresh: true,
            },
            Frame::Offer(vec![ItemId([4; 32])]),
            Frame::Fetch(vec![ItemId([4; 32])]),
            Frame::Floors(vec![Floor::sign(network, &identity, 7)]),
        ]
    }

    #[test]
    fn frames_read_as_they_were_written_at_every_split() {
        for frame in samples() {
            let bytes = frame.encode();
            for cut in 0..bytes.len() {
                assert_eq!(decode_frame(&bytes[..cut]), Ok(None), "{frame:?} at {cut}");
            }
            let mut followed = bytes.clone();
            followed.push(0xff);
            assert_eq!(decode_frame(&followed), Ok(Some((frame, bytes.len()))));
        }
    }

    /// The bytes of `schema/vectors/frames.json`: what is on the wire does not change unseen.
    #[test]
    fn golden_frames() {
        let golden: Vec<(String, String)> =
            serde_json::from_str(include_str!("../../schema/vectors/frames.json")).unwrap();
        let made: Vec<(String, String)> = samples()
            .iter()
            .map(|frame| {
                let (_, name, _) = REGISTRY.iter().find(|r| r.0 == frame.kind()).unwrap();
                (
                    name.to_string(),
                    data_encoding::HEXLOWER.encode(&frame.encode()),
                )
            })
            .collect();
        assert_eq!(
            made,
            golden,
            "{}",
            serde_json::to_string_pretty(&made).unwrap()
        );
    }

    #[test]
    fn an_over_long_frame_is_refused_from_its_header() {
        let header = [0, 1, 0, 0, 0, 11];
        assert_eq!(
            decode_frame(&header),
            Err(WireError::TooLong {
                kind: kind::PING,
                len: 11,
                max: 10
            })
        );
    }

    #[test]
    fn an_unknown_kind_is_skipped_and_trailing_bytes_are_not() {
        let unknown = [0xff, 0xff, 0, 0, 0, 2, 1, 2];
        assert_eq!(
            decode_frame(&unknown),
            Ok(Some((
                Frame::Unknown {
                    kind: 0xffff,
                    len: 2
                },
                8
            )))
        );
        let trailing = [0, 1, 0, 0, 0, 2, 1, 1];
        assert_eq!(
            decode_frame(&trailing),
            Err(WireError::Body { kind: kind::PING })
        );
    }

    #[test]
    fn batches_keep_under_the_limit() {
        let identity = Identity::from_seed(&[1; 32]);
        let entries: Vec<Entry> = (0..40)
            .map(|i| {
                let draft = Draft {
                    bucket: "b".parse().unwrap(),
                    key: format!("k{i}"),
                    class: Class::Durable,
                    version: 1,
                    boot: 0,
                    deleted: false,
                    value: vec![0; MAX_VALUE_BYTES],
                };
                Entry::sign(NetworkId([5; 16]), &identity, draft).unwrap()
            })
            .collect();
        let frames = entry_frames(entries.clone());
        assert!(frames.len() > 5);
        let mut back = Vec::new();
        for frame in frames {
            let bytes = frame.encode();
            match decode_frame(&bytes).unwrap().unwrap() {
                (Frame::Entries(some), _) => back.extend(some),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(back, entries);
    }
}
