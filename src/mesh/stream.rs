//! The bytes at the head of a stream of a link, both ways. Pure.
//!
//! The dialling side writes an [`Opening`] first: kind, flags, length, and what follows. Of a tunnel
//! or a flow that is a [`Header`]; the side next to the server answers with one [`Status`] byte
//! before the server's own bytes, and everything after that is opaque. Of a measurement it is a
//! [`measure::Request`](Request).
//! Layout, registries and golden bytes: `schema/wire.md`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::measure::wire::{Request, RequestError};
use super::name::{Bucket, MAX_BUCKET_BYTES, NameError};

/// [`Header`] kind of a tunnelled connection. The registry of kinds is `schema/wire.md`.
pub const KIND_TUNNEL: u8 = 1;
/// [`Header`] kind of a flow of datagrams.
pub const KIND_FLOW: u8 = 2;
/// [`Opening`] kind of a measurement.
pub const KIND_MEASURE: u8 = 3;
/// Flag of a tunnel's header: the client's addresses follow the bucket.
pub const FLAG_CLIENT: u8 = 1;
/// Bytes at the start of every opening: kind, flags, length of what follows.
pub const FIXED_BYTES: usize = 3;
/// Longest encoded [`Client`]: family, two IPv6 addresses with ports.
const MAX_CLIENT_BYTES: usize = 1 + 2 * (16 + 2);
/// Longest encoded [`Opening`].
pub const MAX_HEADER_BYTES: usize = FIXED_BYTES + MAX_BUCKET_BYTES + MAX_CLIENT_BYTES;

const AT_KIND: usize = 0;
const AT_FLAGS: usize = 1;
const AT_LEN: usize = 2;

/// What a peer opens a stream for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A connection to a service, or a flow of datagrams.
    Service(Header),
    /// A measurement.
    Measure(Request),
}

impl Opening {
    /// The opening's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Service(header) => header.encode(),
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
            return Ok(read.map(|(header, used)| (Self::Service(header), used)));
        }
        let Some(body) = body(bytes, 0)? else {
            return Ok(None);
        };
        let request = Request::decode(body)?;
        Ok(Some((Self::Measure(request), FIXED_BYTES + body.len())))
    }

    /// How many bytes of a stream that starts with `bytes` the opening takes at least: whoever
    /// reads no more than that leaves what follows it in the stream.
    pub fn wanted(bytes: &[u8]) -> usize {
        let (Some(&flags), Some(&len)) = (bytes.get(AT_FLAGS), bytes.get(AT_LEN)) else {
            return FIXED_BYTES;
        };
        let end = FIXED_BYTES + usize::from(len);
        match (flags & FLAG_CLIENT, bytes.get(end)) {
            (0, _) => end,
            (_, None) => end + 1,
            (_, Some(4)) => end + 1 + 2 * (4 + 2),
            (_, Some(_)) => end + MAX_CLIENT_BYTES,
        }
    }
}

/// What follows kind, flags and length; `None` while more is needed.
fn body(bytes: &[u8], known_flags: u8) -> Result<Option<&[u8]>, HeaderError> {
    let flags = bytes.get(AT_FLAGS).copied().unwrap_or(0);
    if flags & !known_flags != 0 {
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

/// What the stream of a [`Header`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bytes of one TCP connection.
    Tunnel,
    /// Nothing: it stands for a flow whose datagrams go beside it, and ends with it.
    Flow,
}

/// Where a connection came from, as the ingress saw it. The other side takes the ingress's word
/// for it: nothing proves that such a client exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    from: SocketAddr,
    to: SocketAddr,
}

/// What a stream asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it carries.
    pub kind: Kind,
    /// The service whose server should get it.
    pub bucket: Bucket,
    /// Whom it is for; only of a tunnel, and only where the service's record asks for it: older
    /// nodes refuse a header that says it.
    pub client: Option<Client>,
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
    #[error("stream header has flags {0:#04x}, unknown to this version")]
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
    /// The client's addresses are of no family, or IPv4 written as IPv6.
    #[error("stream header names a client of family {0}, which is none")]
    Family(u8),
    /// The request of a measurement is none.
    #[error("stream header: {0}")]
    Measure(#[from] RequestError),
}

impl Client {
    /// A client at `from` that connected to `to`; `None` if the two are of different families.
    /// IPv4 in its IPv6 form is IPv4; zones and flow labels are left out.
    pub fn new(from: SocketAddr, to: SocketAddr) -> Option<Self> {
        let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let (from, to) = (plain(from), plain(to));
        (from.is_ipv4() == to.is_ipv4()).then_some(Self { from, to })
    }

    /// The client's address.
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// The address it connected to, of the same family.
    pub fn to(&self) -> SocketAddr {
        self.to
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(if self.from.is_ipv4() { 4 } else { 6 });
        for addr in [self.from, self.to] {
            match addr.ip() {
                IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
            }
            bytes.extend_from_slice(&addr.port().to_be_bytes());
        }
    }

    /// Reads what starts with a family; `None` while more is needed.
    fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let (family, size) = match bytes.first() {
            None => return Ok(None),
            Some(&family @ 4) => (family, 4),
            Some(&family @ 6) => (family, 16),
            Some(&family) => return Err(HeaderError::Family(family)),
        };
        let end = 1 + 2 * (size + 2);
        let Some((from, to)) = bytes.get(1..end).map(|both| both.split_at(size + 2)) else {
            return Ok(None);
        };
        let client = address(from).zip(address(to));
        let client = client.and_then(|(from, to)| {
            let kept = Self::new(from, to)?;
            // One form of each address: an IPv4 one in IPv6 form would have two.
            (kept == Self { from, to }).then_some(kept)
        });
        Ok(Some((client.ok_or(HeaderError::Family(family))?, end)))
    }
}

fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

impl Header {
    /// A tunnel to `bucket`, with its client where the other side wants to know it.
    pub fn tunnel(bucket: Bucket, client: Option<Client>) -> Self {
        Self {
            kind: Kind::Tunnel,
            bucket,
            client,
        }
    }

    /// A flow of datagrams to `bucket`.
    pub fn flow(bucket: Bucket) -> Self {
        Self {
            kind: Kind::Flow,
            bucket,
            client: None,
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let bucket = self.bucket.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(MAX_HEADER_BYTES);
        // A `Bucket` is at most MAX_BUCKET_BYTES (127) long by construction.
        let len = u8::try_from(bucket.len()).unwrap_or(u8::MAX);
        let (kind, client) = match self.kind {
            Kind::Tunnel => (KIND_TUNNEL, self.client.as_ref()),
            Kind::Flow => (KIND_FLOW, None),
        };
        let flags = client.map_or(0, |_| FLAG_CLIENT);
        bytes.extend_from_slice(&[kind, flags, len]);
        bytes.extend_from_slice(bucket);
        if let Some(client) = client {
            client.encode(&mut bytes);
        }
        bytes
    }

    /// Reads a header from the start of `bytes`: `None` while more is needed, else the header
    /// and how many bytes it took. Never needs more than [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    /// As soon as the bytes cannot become a header, however many are still missing.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let (kind, known) = match bytes.get(AT_KIND) {
            Some(&KIND_TUNNEL) => (Kind::Tunnel, FLAG_CLIENT),
            Some(&KIND_FLOW) => (Kind::Flow, 0),
            Some(&kind) => return Err(HeaderError::Kind(kind)),
            None => return Ok(None),
        };
        let Some(bucket) = body(bytes, known)? else {
            return Ok(None);
        };
        let mut end = FIXED_BYTES + bucket.len();
        let bucket = std::str::from_utf8(bucket).map_err(|_| HeaderError::NotText)?;
        let bucket = bucket.parse()?;
        let mut client = None;
        if bytes
            .get(AT_FLAGS)
            .is_some_and(|flags| flags & FLAG_CLIENT != 0)
        {
            let Some((found, used)) = Client::decode(&bytes[end..])? else {
                return Ok(None);
            };
            client = Some(found);
            end += used;
        }
        let header = Self {
            kind,
            bucket,
            client,
        };
        Ok(Some((header, end)))
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
mod tests;
