//! What a datagram is, from its first bytes alone (security.md §3.5).
//!
//! Everything that is not for this node or not from a member is dropped here, before QUIC can
//! answer it. Own connection ids are 8 bytes and carry a keyed check, knocks are 20 bytes.

use super::keys::DCID_BYTES;

/// Bytes of a connection id that this process gave out.
pub const OWN_CID_BYTES: usize = 8;
/// Shorter datagrams are nothing of ours: the smallest QUIC packet with payload has 21 bytes.
pub const MIN_DATAGRAM_BYTES: usize = 21;
/// A client pads its Initial to this (RFC 9000 §14.1).
pub const MIN_INITIAL_BYTES: usize = 1200;

const FORM_LONG: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
const VERSION_1: [u8; 4] = [0, 0, 0, 1];
const TYPE_INITIAL: u8 = 0;
const TYPE_0RTT: u8 = 1;
const TYPE_RETRY: u8 = 3;

/// What is left to check of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// Nothing this node ever answers.
    Drop,
    /// Belongs to a connection, if this connection id is one of ours.
    ForConnection([u8; OWN_CID_BYTES]),
    /// Opens a connection, if this is a knock.
    Knock([u8; DCID_BYTES]),
}

/// Reads the first bytes of one datagram (one segment of a GRO batch).
///
/// 0-RTT and Retry packets are never right here: this program never sends or asks for them, so
/// whoever does is not a member. Version Negotiation has version 0 and falls to the version check.
pub fn classify(datagram: &[u8]) -> Datagram {
    if datagram.len() < MIN_DATAGRAM_BYTES {
        return Datagram::Drop;
    }
    let first = datagram[0];
    if first & FIXED_BIT == 0 {
        return Datagram::Drop;
    }
    if first & FORM_LONG == 0 {
        return field(datagram, 1).map_or(Datagram::Drop, Datagram::ForConnection);
    }
    let kind = (first >> 4) & 0x03;
    if datagram[1..5] != VERSION_1 || kind == TYPE_0RTT || kind == TYPE_RETRY {
        return Datagram::Drop;
    }
    match usize::from(datagram[5]) {
        OWN_CID_BYTES => field(datagram, 6).map_or(Datagram::Drop, Datagram::ForConnection),
        DCID_BYTES if kind == TYPE_INITIAL && datagram.len() >= MIN_INITIAL_BYTES => {
            field(datagram, 6).map_or(Datagram::Drop, Datagram::Knock)
        }
        _ => Datagram::Drop,
    }
}

fn field<const N: usize>(datagram: &[u8], at: usize) -> Option<[u8; N]> {
    datagram.get(at..at + N)?.try_into().ok()
}

/// Keeps the segments of a GRO batch that `admit` lets pass: moves them together in place, in
/// order, and returns how many bytes are left. Every segment is judged on its own (D26): all are
/// `stride` long, the last may be shorter.
pub fn compact(batch: &mut [u8], stride: usize, mut admit: impl FnMut(&[u8]) -> bool) -> usize {
    let stride = stride.max(1);
    let (mut read, mut write) = (0, 0);
    while read < batch.len() {
        let end = (read + stride).min(batch.len());
        if admit(&batch[read..end]) {
            batch.copy_within(read..end, write);
            write += end - read;
        }
        read = end;
    }
    write
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(first: u8, version: u32, cid_len: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xab; len];
        bytes[0] = first;
        bytes[1..5].copy_from_slice(&version.to_be_bytes());
        bytes[5] = cid_len;
        bytes
    }

    #[test]
    fn truth_table() {
        let cid = Datagram::ForConnection([0xab; 8]);
        let knock = Datagram::Knock([0xab; 20]);
        let table = [
            (vec![0x40; 20], Datagram::Drop, "too short"),
            (
                long(0xc0, 1, 20, 1200),
                knock,
                "an Initial with a 20-byte id",
            ),
            (
                long(0xc0, 1, 20, 1199),
                Datagram::Drop,
                "an Initial that is not padded",
            ),
            (
                long(0xc0, 0, 20, 1200),
                Datagram::Drop,
                "Version Negotiation",
            ),
            (
                long(0xc0, 0x1a2a_3a4a, 20, 1200),
                Datagram::Drop,
                "version bait",
            ),
            (long(0xc0, 1, 8, 1200), cid, "an Initial to one of our ids"),
            (
                long(0xc0, 1, 7, 1200),
                Datagram::Drop,
                "a short connection id",
            ),
            (long(0xc0, 1, 0, 1200), Datagram::Drop, "no connection id"),
            (
                long(0xc0, 1, 255, 1200),
                Datagram::Drop,
                "an impossible id length",
            ),
            (long(0xd0, 1, 8, 1200), Datagram::Drop, "0-RTT"),
            (long(0xf0, 1, 8, 1200), Datagram::Drop, "Retry"),
            (long(0xe0, 1, 8, 1200), cid, "Handshake"),
            (
                long(0xe0, 1, 20, 1200),
                Datagram::Drop,
                "Handshake to a knock",
            ),
            (long(0x80, 1, 8, 1200), Datagram::Drop, "no fixed bit, long"),
            (
                long(0x01, 1, 8, 1200),
                Datagram::Drop,
                "no fixed bit, short",
            ),
        ];
        for (bytes, want, what) in table {
            assert_eq!(classify(&bytes), want, "{what}");
        }
        let mut short = vec![0xcd; 40];
        short[0] = 0x5f;
        assert_eq!(classify(&short), Datagram::ForConnection([0xcd; 8]));
    }

    #[test]
    fn every_length_is_survived() {
        for len in 0..1500 {
            for first in [0x00, 0x40, 0x80, 0xc0, 0xff] {
                let mut bytes = vec![first; len];
                bytes.iter_mut().skip(1).take(4).for_each(|b| *b = 0);
                classify(&bytes);
            }
        }
    }

    proptest! {
        /// Compaction keeps exactly the admitted segments, in order.
        #[test]
        fn compaction_is_a_filter(
            batch in prop::collection::vec(any::<u8>(), 0..400),
            stride in 0usize..60,
        ) {
            let admit = |segment: &[u8]| segment[0] & 1 == 0;
            let kept: Vec<u8> =
                batch.chunks(stride.max(1)).filter(|s| admit(s)).flatten().copied().collect();
            let mut work = batch;
            let len = compact(&mut work, stride, admit);
            prop_assert_eq!(&work[..len], &kept[..]);
        }
    }
}
