//! Addresses as users write them: `HOST:PORT`, `[V6]:PORT`, `ID@HOST:PORT`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::{IdError, NodeId};

/// Longest host name (RFC 1035 §2.3.4, without the root dot).
pub const MAX_HOST_BYTES: usize = 253;

/// Why text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddrError {
    /// No `:PORT` at the end.
    #[error("{0:?} has no port; write HOST:PORT, or [ADDRESS]:PORT for IPv6")]
    NoPort(String),
    /// The port is not a number from 0 to 65535.
    #[error("{0:?} is not a port; ports are numbers from 0 to 65535")]
    Port(String),
    /// The host is neither an IP address nor a host name.
    #[error("{0:?} is neither an IP address nor a host name")]
    Host(String),
    /// The part before `@` is not a node id.
    #[error("before the @: {0}")]
    Id(#[from] IdError),
}

/// A host, as name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Of a host in the form that [`HostPort::host`] has.
    pub(crate) fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }

    /// Host name or IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, if the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        Self {
            host: addr.ip().to_canonical().to_string(),
            port: addr.port(),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let no_port = || AddrError::NoPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let bad_host = || AddrError::Host(host.to_owned());
        let host = match bracketed {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| bad_host())?.to_string(),
            None if host.contains(':') => return Err(no_port()),
            None if is_host(host) => host.to_ascii_lowercase(),
            None => return Err(bad_host()),
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| AddrError::Port(port.to_owned()))?;
        Ok(Self { host, port })
    }
}

/// An IPv4 address, or a host name (RFC 1123 §2.1, with `_`) whose last label is not a number.
pub(crate) fn is_host(host: &str) -> bool {
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let labels_fit = host.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    let last_is_number = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    labels_fit && !last_is_number && host.len() <= MAX_HOST_BYTES
}

impl TryFrom<String> for HostPort {
    type Error = AddrError;
    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(at: HostPort) -> String {
        at.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A node to dial: where, and, if known, who. With an id the dial is pinned to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddr {
    /// Who must answer; `None` learns it once (security amendment A3).
    pub id: Option<NodeId>,
    /// Where.
    pub at: HostPort,
}

impl FromStr for PeerAddr {
    type Err = AddrError;
    fn from_str(text: &str) -> Result<Self, AddrError> {
        match text.split_once('@') {
            Some((id, at)) => Ok(Self {
                id: Some(id.parse()?),
                at: at.parse()?,
            }),
            None => Ok(Self {
                id: None,
                at: text.parse()?,
            }),
        }
    }
}

impl TryFrom<String> for PeerAddr {
    type Error = AddrError;
    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl From<PeerAddr> for String {
    fn from(peer: PeerAddr) -> String {
        peer.to_string()
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{id}@{}", self.at),
            None => self.at.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in [
            "127.0.0.1:1",
            "[::1]:65535",
            "node_1.local:7717",
            "localhost:0",
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        let pinned = format!(
            "{}@a:1",
            crate::mesh::id::Identity::from_seed(&[3; 32]).id()
        );
        assert_eq!(pinned.parse::<PeerAddr>().unwrap().to_string(), pinned);
    }

    #[test]
    fn what_is_no_address_says_why() {
        assert!(matches!(
            "host".parse::<HostPort>(),
            Err(AddrError::NoPort(_))
        ));
        assert!(matches!(
            "::1:80".parse::<HostPort>(),
            Err(AddrError::NoPort(_))
        ));
        assert!(matches!(
            "h:99999".parse::<HostPort>(),
            Err(AddrError::Port(_))
        ));
        assert!(matches!(
            "h:+1".parse::<HostPort>(),
            Err(AddrError::Port(_))
        ));
        assert!(matches!(
            "256.1.1.1:80".parse::<HostPort>(),
            Err(AddrError::Host(_))
        ));
        assert!(matches!(":80".parse::<HostPort>(), Err(AddrError::Host(_))));
        assert!(matches!("x@h:1".parse::<PeerAddr>(), Err(AddrError::Id(_))));
    }
}
