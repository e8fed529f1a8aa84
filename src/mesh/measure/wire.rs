//! The bytes of a measuring stream. Layout and golden bytes: `schema/wire.md`.

use std::time::Duration;

use super::{Counter, Limits};

/// Bytes of an encoded [`Request`] behind kind, flags and length.
pub const REQUEST_BYTES: usize = 13;
/// Bytes of an encoded [`Report`].
pub const REPORT_BYTES: usize = 16;

const AT_WAY: usize = 0;
const AT_BYTES: usize = 1;
const AT_TIME: usize = 9;

/// Which way the bytes go, as the asking node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The answering node sends, the asking one counts.
    Download,
    /// The asking node sends; the answering one counts, and says so in a [`Report`].
    Upload,
}

/// What a measuring stream asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which way.
    pub way: Way,
    /// Where it ends. Time is in whole milliseconds. The answering node has its own limits too.
    pub limits: Limits,
}

/// Why bytes are no [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not [`REQUEST_BYTES`] long.
    #[error("a measuring request of {0} bytes, it has {REQUEST_BYTES}")]
    Length(usize),
    /// A way that this version does not know.
    #[error("way {0} of a measurement is unknown to this version")]
    Way(u8),
}

impl Request {
    /// Its bytes.
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[AT_WAY] = match self.way {
            Way::Download => 1,
            Way::Upload => 2,
        };
        let time = u32::try_from(self.limits.time.as_millis()).unwrap_or(u32::MAX);
        bytes[AT_BYTES..AT_TIME].copy_from_slice(&self.limits.bytes.to_be_bytes());
        bytes[AT_TIME..].copy_from_slice(&time.to_be_bytes());
        bytes
    }

    /// Reads what [`Request::encode`] wrote.
    ///
    /// # Errors
    /// Another length, or an unknown way.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let whole = <[u8; REQUEST_BYTES]>::try_from(bytes);
        let whole = whole.map_err(|_| RequestError::Length(bytes.len()))?;
        let [way, b0, b1, b2, b3, b4, b5, b6, b7, t0, t1, t2, t3] = whole;
        let way = match way {
            1 => Way::Download,
            2 => Way::Upload,
            other => return Err(RequestError::Way(other)),
        };
        let time = u32::from_be_bytes([t0, t1, t2, t3]);
        let limits = Limits {
            bytes: u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            time: Duration::from_millis(time.into()),
        };
        Ok(Self { way, limits })
    }
}

/// What the receiver of an upload counted: bytes after its first piece, and the time in which
/// they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes.
    pub bytes: u64,
    /// Time, in whole microseconds.
    pub elapsed: Duration,
}

impl Report {
    /// Of a transfer that has ended.
    pub fn of(counter: &Counter) -> Self {
        let (bytes, elapsed) = counter.counted();
        Self { bytes, elapsed }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; REPORT_BYTES] {
        let micros = u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX);
        let mut bytes = [0; REPORT_BYTES];
        bytes[..8].copy_from_slice(&self.bytes.to_be_bytes());
        bytes[8..].copy_from_slice(&micros.to_be_bytes());
        bytes
    }

    /// Reads what [`Report::encode`] wrote; every 16 bytes are a report.
    pub fn decode(bytes: [u8; REPORT_BYTES]) -> Self {
        let [
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
            e0,
            e1,
            e2,
            e3,
            e4,
            e5,
            e6,
            e7,
        ] = bytes;
        Self {
            bytes: u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            elapsed: Duration::from_micros(u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7])),
        }
    }
}
