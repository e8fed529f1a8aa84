//! The bytes at the head of a stream of a link, both ways. Pure.
//!
//! The dialling side writes an [`Opening`] first: kind, flags, length, and so many bytes. Of a
//! tunnel that is a [`Header`]; the side next to the server answers with one [`Status`] byte
//! before the server's own bytes, and everything after that is opaque. Of a measurement it is a
//! [`measure::Request`](Request).
//! Layout, registries and golden bytes: `schema/wire.md`.

use super::measure::wire::{Request, RequestError};
use super::name::{Bucket, MAX_BUCKET_BYTES, NameError};

/// [`Header`] kind of a tunnelled connection. The registry of kinds is `schema/wire.md`.
pub const KIND_TUNNEL: u8 = 1;
/// [`Opening`] kind of a measurement.
pub const KIND_MEASURE: u8 = 3;
/// Bytes at the start of every opening: kind, flags, length of what follows.
pub const FIXED_BYTES: usize = 3;
/// Longest encoded [`Opening`].
pub const MAX_HEADER_BYTES: usize = FIXED_BYTES + MAX_BUCKET_BYTES;

const AT_KIND: usize = 0;
const AT_FLAGS: usize = 1;
const AT_LEN: usize = 2;

/// What a peer opens a stream for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A connection to a service.
    Tunnel(Header),
    /// A measurement.
    Measure(Request),
}

impl Opening {
    /// The opening's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Tunnel(header) => header.encode(),
            Self::Measure(request) => {
                let body = request.encode();
                // A request is 13 bytes long by its type.
                let len = u8::try_from(body.len()).unwrap_or(u8::MAX);
                [&[KIND_MEASURE, 0, len], body.as_slice()].concat()
            }
        }
    }

    /// Reads an opening from the start of `bytes`, as [`Header::decode`] does.
    ///
    /// # Errors
    /// As soon as the bytes cannot become an opening, however many are still missing.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        if bytes.get(AT_KIND) != Some(&KIND_MEASURE) {
            let read = Header::decode(bytes)?;
            return Ok(read.map(|(header, used)| (Self::Tunnel(header), used)));
        }
        let Some(body) = body(bytes)? else {
            return Ok(None);
        };
        let request = Request::decode(body)?;
        Ok(Some((Self::Measure(request), FIXED_BYTES + body.len())))
    }
}

/// What follows kind, flags and length; `None` while more is needed.
fn body(bytes: &[u8]) -> Result<Option<&[u8]>, HeaderError> {
    if let Some(&flags) = bytes.get(AT_FLAGS).filter(|flags| **flags != 0) {
        return Err(HeaderError::Flags(flags));
    }
    let Some(&len) = bytes.get(AT_LEN) else {
        return Ok(None);
    };
    let len = usize::from(len);
    if len > MAX_BUCKET_BYTES {
        return Err(HeaderError::TooLong(len));
    }
    Ok(bytes.get(FIXED_BYTES..FIXED_BYTES + len))
}

/// What a tunnel's stream asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The service whose server should get the bytes.
    pub bucket: Bucket,
}

/// Why the head of a stream was refused. The stream is reset; the link stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Of a newer version, or not what is expected here.
    #[error("stream kind {0} is unknown here")]
    Kind(u8),
    /// A flag this version does not know. Flags change the meaning of what follows, so they
    /// cannot be skipped.
    #[error("stream header has flags {0:#04x}, this version knows none")]
    Flags(u8),
    /// What follows is longer than [`MAX_BUCKET_BYTES`].
    #[error("stream header goes on for {0} bytes, at most {MAX_BUCKET_BYTES} are read")]
    TooLong(usize),
    /// The bucket is not a name.
    #[error("stream header: {0}")]
    Bucket(#[from] NameError),
    /// The bucket is not text.
    #[error("stream header names a bucket that is not UTF-8")]
    NotText,
    /// The request of a measurement is none.
    #[error("stream header: {0}")]
    Measure(#[from] RequestError),
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let bucket = self.bucket.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_BYTES + bucket.len());
        // A `Bucket` is at most MAX_BUCKET_BYTES (127) long by construction.
        let len = u8::try_from(bucket.len()).unwrap_or(u8::MAX);
        bytes.extend_from_slice(&[KIND_TUNNEL, 0, len]);
        bytes.extend_from_slice(bucket);
        bytes
    }

    /// Reads a header from the start of `bytes`: `None` while more is needed, else the header
    /// and how many bytes it took. Never needs more than [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    /// As soon as the bytes cannot become a header, however many are still missing.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        match bytes.get(AT_KIND) {
            Some(&KIND_TUNNEL) => {}
            Some(&kind) => return Err(HeaderError::Kind(kind)),
            None => return Ok(None),
        }
        let Some(bucket) = body(bytes)? else {
            return Ok(None);
        };
        let end = FIXED_BYTES + bucket.len();
        let bucket = std::str::from_utf8(bucket).map_err(|_| HeaderError::NotText)?;
        let bucket = bucket.parse()?;
        Ok(Some((Self { bucket }, end)))
    }
}

/// The one byte that answers a [`Header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The server accepted the connection; its bytes follow.
    Connected,
    /// It did not; the stream ends here. Nothing reached a server.
    Refused(Refusal),
}

/// Why a node did not connect a tunnel to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The node does not expose this service.
    #[error("the node does not expose this service")]
    NoSuchService,
    /// The server refused the connection.
    #[error("the server refused the connection")]
    ServerRefused,
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    ServerSilent,
    /// The node is about to stop.
    #[error("the node is draining")]
    Draining,
    /// The node serves as many connections as it allows.
    #[error("the node has too many connections")]
    TooMany,
    /// A reason of a newer version. Handled like the others: nothing reached a server.
    #[error("the node refused with reason {0}, unknown to this version")]
    Unknown(u8),
}

impl Status {
    /// Its byte. Numbers are never reused.
    pub fn byte(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Refused(Refusal::NoSuchService) => 1,
            Self::Refused(Refusal::ServerRefused) => 2,
            Self::Refused(Refusal::ServerSilent) => 3,
            Self::Refused(Refusal::Draining) => 4,
            Self::Refused(Refusal::TooMany) => 5,
            Self::Refused(Refusal::Unknown(byte)) => byte,
        }
    }

    /// What a byte says; every byte says something.
    pub fn from_byte(byte: u8) -> Self {
        Self::Refused(match byte {
            0 => return Self::Connected,
            1 => Refusal::NoSuchService,
            2 => Refusal::ServerRefused,
            3 => Refusal::ServerSilent,
            4 => Refusal::Draining,
            5 => Refusal::TooMany,
            other => Refusal::Unknown(other),
        })
    }
}

/// Why one side of a tunnel's stream was cut: the code of RESET_STREAM and STOP_SENDING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// The TCP connection behind it was reset.
    TcpReset,
    /// The node that forwards it stops.
    Shutdown,
    /// Nobody wants these bytes any more.
    Unwanted,
    /// The stream's head was not understood.
    BadHeader,
    /// A code of a newer version, or of the transport; means a reset.
    Unknown(u64),
}

impl Cut {
    /// Its number. Numbers are never reused.
    pub fn code(self) -> u64 {
        match self {
            Self::TcpReset => 1,
            Self::Shutdown => 2,
            Self::Unwanted => 3,
            Self::BadHeader => 4,
            Self::Unknown(code) => code,
        }
    }

    /// What a number says.
    pub fn from_code(code: u64) -> Self {
        match code {
            1 => Self::TcpReset,
            2 => Self::Shutdown,
            3 => Self::Unwanted,
            4 => Self::BadHeader,
            other => Self::Unknown(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::measure::Limits;
    use crate::mesh::measure::wire::{Report, Way};
    use proptest::prelude::*;
    use std::time::Duration;

    /// The bytes of `schema/wire.md`.
    #[rustfmt::skip]
    const GOLDEN: &[u8] = &[
        0x01,                                                 // kind: tunnel
        0x00,                                                 // flags: none
        0x0d,                                                 // length of the bucket
        b'l', b'a', b'b', b'_', b'f', b'e', b'd', b'e', b'r', b'a', b't', b'e', b'd',
    ];

    #[test]
    fn the_golden_header_reads_and_writes() {
        let header = Header {
            bucket: "lab_federated".parse().unwrap(),
        };
        assert_eq!(header.encode(), GOLDEN);
        assert_eq!(Header::decode(GOLDEN), Ok(Some((header, GOLDEN.len()))));
    }

    #[test]
    fn a_header_in_pieces_waits_for_the_rest_and_leaves_what_follows() {
        for cut in 0..GOLDEN.len() {
            assert_eq!(Header::decode(&GOLDEN[..cut]), Ok(None), "{cut} bytes");
        }
        let mut more = GOLDEN.to_vec();
        more.extend_from_slice(b"GET /");
        let (_, used) = Header::decode(&more).unwrap().unwrap();
        assert_eq!(&more[used..], b"GET /");
    }

    #[test]
    fn what_cannot_become_a_header_is_refused_at_once() {
        assert_eq!(Header::decode(&[9]), Err(HeaderError::Kind(9)));
        assert_eq!(Header::decode(&[1, 2]), Err(HeaderError::Flags(2)));
        assert_eq!(Header::decode(&[1, 0, 128]), Err(HeaderError::TooLong(128)));
        assert!(matches!(
            Header::decode(&[1, 0, 0]),
            Err(HeaderError::Bucket(_))
        ));
        assert!(matches!(
            Header::decode(b"\x01\x00\x01/"),
            Err(HeaderError::Bucket(_))
        ));
        assert_eq!(Header::decode(&[1, 0, 1, 0xff]), Err(HeaderError::NotText));
    }

    #[test]
    fn every_status_byte_and_every_cut_has_one_meaning() {
        for byte in 0..=u8::MAX {
            assert_eq!(Status::from_byte(byte).byte(), byte);
        }
        assert_eq!(Status::from_byte(4), Status::Refused(Refusal::Draining));
        for code in 0..100 {
            assert_eq!(Cut::from_code(code).code(), code);
        }
    }

    /// The bytes of `schema/wire.md`.
    #[rustfmt::skip]
    const GOLDEN_MEASURE: &[u8] = &[
        0x03,                                                 // kind: measurement
        0x00,                                                 // flags: none
        0x0d,                                                 // 13 bytes follow
        0x02,                                                 // way: upload
        0x00, 0x00, 0x00, 0x00, 0x0f, 0x42, 0x40, 0x00,       // 256,000,000 bytes
        0x00, 0x00, 0x0b, 0xb8,                               // 3,000 ms
    ];

    #[test]
    fn the_golden_measurement_reads_and_writes_and_waits_for_the_rest() {
        let limits = Limits {
            bytes: 256_000_000,
            time: Duration::from_secs(3),
        };
        let way = Way::Upload;
        let opening = Opening::Measure(Request { way, limits });
        assert_eq!(opening.encode(), GOLDEN_MEASURE);
        let read = Opening::decode(GOLDEN_MEASURE);
        assert_eq!(read, Ok(Some((opening, GOLDEN_MEASURE.len()))));
        for cut in 0..GOLDEN_MEASURE.len() {
            assert_eq!(Opening::decode(&GOLDEN_MEASURE[..cut]), Ok(None), "{cut}");
        }
        let report = Report {
            bytes: 0x0102_0304,
            elapsed: Duration::from_micros(0x05_0607),
        };
        let bytes = [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 5, 6, 7];
        assert_eq!(report.encode(), bytes);
        assert_eq!(Report::decode(bytes), report);
    }

    #[test]
    fn what_cannot_become_a_measurement_is_refused() {
        let changed = |at: usize, to: u8| {
            let mut bytes = GOLDEN_MEASURE.to_vec();
            bytes[at] = to;
            Opening::decode(&bytes)
        };
        let way = RequestError::Way(9);
        assert_eq!(changed(3, 9), Err(HeaderError::Measure(way)));
        let short = RequestError::Length(12);
        assert_eq!(changed(2, 12), Err(HeaderError::Measure(short)));
        assert_eq!(changed(1, 1), Err(HeaderError::Flags(1)));
        assert_eq!(changed(0, 9), Err(HeaderError::Kind(9)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_refuse(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            start in prop::option::of((1..4_u8, 0..130_u8)),
        ) {
            if let (Some((kind, len)), [at_kind, at_flags, at_len, ..]) = (start, &mut bytes[..]) {
                (*at_kind, *at_flags, *at_len) = (kind, 0, len);
            }
            if let Ok(Some((opening, used))) = Opening::decode(&bytes) {
                prop_assert!(used <= MAX_HEADER_BYTES);
                prop_assert_eq!(opening.encode(), &bytes[..used]);
            }
        }
    }
}
