//! The bytes in front of a tunnelled datagram: which flow it belongs to. Pure.
//!
//! A flow is named by the QUIC stream that was opened for it, as RFC 9297 names the datagrams of
//! HTTP; the number is written as RFC 9000 §16 writes numbers. Layout and golden bytes:
//! `schema/wire.md`.

/// Longest [`FlowId`] on the wire.
pub const MAX_FLOW_ID_BYTES: usize = 8;
/// First number that cannot be written.
const END: u64 = 1 << 62;
/// Bits of the first byte that say how many bytes there are.
const SIZE_SHIFT: u32 = 6;

/// A flow of datagrams: the id of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

/// Why a datagram belongs to no flow. It is dropped; the link stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It ends before its flow is named.
    #[error("a datagram of {0} bytes ends before its flow is named")]
    Cut(usize),
    /// The number is longer than it needs to be: each flow has one name.
    #[error("flow {0} is written in more bytes than it needs")]
    Long(u64),
}

impl FlowId {
    /// The flow of the first stream of a connection.
    pub const ZERO: Self = Self(0);

    /// The flow of that stream; `None` for a number that no stream has.
    pub fn new(stream: u64) -> Option<Self> {
        (stream < END).then_some(Self(stream))
    }

    /// The id of its stream.
    pub fn stream(self) -> u64 {
        self.0
    }

    /// How many bytes stand in front of each datagram: 1, 2, 4 or 8.
    pub fn encoded_len(self) -> usize {
        match self.0 {
            0..0x40 => 1,
            0x40..0x4000 => 2,
            0x4000..0x4000_0000 => 4,
            _ => 8,
        }
    }

    /// Writes the bytes that stand in front of each datagram.
    pub fn encode(self, into: &mut impl Extend<u8>) {
        let len = self.encoded_len();
        let mut bytes = self.0.to_be_bytes();
        let first = bytes.len() - len;
        // 1, 2, 4 and 8 bytes are 0, 1, 2 and 3; a number below END leaves these bits free.
        let size = u8::try_from(len.ilog2()).unwrap_or(0);
        bytes[first] |= size << SIZE_SHIFT;
        into.extend(bytes[first..].iter().copied());
    }

    /// Reads which flow a datagram belongs to, and where its payload starts.
    ///
    /// # Errors
    /// It belongs to none.
    pub fn decode(datagram: &[u8]) -> Result<(Self, usize), DatagramError> {
        let cut = DatagramError::Cut(datagram.len());
        let first = *datagram.first().ok_or(cut)?;
        let len = 1 << (first >> SIZE_SHIFT);
        let bytes = datagram.get(..len).ok_or(cut)?;
        let number = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let id = Self(number & !(u64::from(first >> SIZE_SHIFT) << (8 * len - 2)));
        match id.encoded_len() == len {
            true => Ok((id, len)),
            false => Err(DatagramError::Long(id.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of `schema/wire.md`; the numbers are those of RFC 9000 §A.1.
    const GOLDEN: &[(u64, &[u8])] = &[
        (0, &[0x00]),
        (37, &[0x25]),
        (15_293, &[0x7b, 0xbd]),
        (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
        (
            151_288_809_941_952_652,
            &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
        ),
    ];

    fn encoded(id: FlowId) -> Vec<u8> {
        let mut bytes = Vec::new();
        id.encode(&mut bytes);
        bytes
    }

    #[test]
    fn the_golden_numbers_read_and_write() {
        for (stream, bytes) in GOLDEN {
            let id = FlowId::new(*stream).unwrap();
            assert_eq!(encoded(id), *bytes);
            assert_eq!(id.encoded_len(), bytes.len());
            let datagram = [bytes, &b"payload"[..]].concat();
            assert_eq!(FlowId::decode(&datagram), Ok((id, bytes.len())));
        }
        assert_eq!(FlowId::new(END), None);
    }

    #[test]
    fn what_names_no_flow_is_refused() {
        assert_eq!(FlowId::decode(&[]), Err(DatagramError::Cut(0)));
        assert_eq!(FlowId::decode(&[0x7b]), Err(DatagramError::Cut(1)));
        // RFC 9000 §A.1 has this one as another form of 37.
        assert_eq!(FlowId::decode(&[0x40, 0x25]), Err(DatagramError::Long(37)));
    }

    proptest! {
        #[test]
        fn every_flow_reads_back(stream in 0..END, payload: Vec<u8>) {
            let id = FlowId::new(stream).unwrap();
            let mut datagram = encoded(id);
            let at = datagram.len();
            prop_assert!(at <= MAX_FLOW_ID_BYTES);
            datagram.extend_from_slice(&payload);
            prop_assert_eq!(FlowId::decode(&datagram), Ok((id, at)));
        }

        #[test]
        fn any_bytes_name_one_flow_or_none(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok((id, at)) = FlowId::decode(&bytes) {
                prop_assert_eq!(encoded(id), &bytes[..at]);
            }
        }
    }
}
