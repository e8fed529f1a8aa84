//! Where a machine is reached, in the one form that equal addresses share.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::mesh::addr::{HostPort, is_host};

/// Longest zone of an IPv6 address, in bytes: Linux's `IFNAMSIZ` without its end.
const MAX_ZONE_BYTES: usize = 15;

/// Why text is not a host or place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Neither an IP address nor a host name.
    #[error("neither an IP address nor a host name")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("not a port; ports are numbers from 1 to 65535")]
    Port,
    /// An IPv6 address with a port needs brackets.
    #[error("an IPv6 address with a port is written [ADDRESS]:PORT")]
    Brackets,
}

/// An address or host name in canonical form: an IPv4-mapped address is the IPv4 address, zones
/// stay only where they mean something (link-local addresses), names are in lower case and
/// without the root's dot. Names are resolved when they are used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// A host name.
    Name(String),
    /// An IPv6 address.
    V6 {
        /// The address; never IPv4-mapped.
        ip: Ipv6Addr,
        /// The interface of a link-local address; else empty.
        zone: String,
    },
}

impl Host {
    /// The address, unless it is a name or needs a zone.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::V4(ip) => Some((*ip).into()),
            Self::V6 { ip, zone } if zone.is_empty() => Some((*ip).into()),
            Self::V6 { .. } | Self::Name(_) => None,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6 {
                ip,
                zone: String::new(),
            },
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if text.contains(':') {
            return v6(inner.unwrap_or(text));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::V4(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        match is_host(name) && name.parse::<Ipv4Addr>().is_err() {
            true => Ok(Self::Name(name.to_ascii_lowercase())),
            false => Err(HostError::Host),
        }
    }
}

fn v6(text: &str) -> Result<Host, HostError> {
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (text, None),
    };
    let zone_fits = zone.is_none_or(|zone| {
        (1..=MAX_ZONE_BYTES).contains(&zone.len())
            && zone
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    });
    let ip: Ipv6Addr = ip.parse().map_err(|_| HostError::Host)?;
    match zone_fits {
        false => Err(HostError::Host),
        true if ip.is_unicast_link_local() => Ok(Host::V6 {
            ip,
            zone: zone.unwrap_or_default().to_owned(),
        }),
        true => Ok(IpAddr::from(ip).into()),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::V6 { ip, zone } if zone.is_empty() => ip.fmt(f),
            Self::V6 { ip, zone } => write!(f, "{ip}%{zone}"),
        }
    }
}

/// A host and a port, which is never 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    host: Host,
    port: NonZeroU16,
}

impl Place {
    /// The place of `host` and `port`.
    pub fn new(host: Host, port: NonZeroU16) -> Self {
        Self { host, port }
    }

    /// Address or name.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// The socket address, unless the host has to be resolved first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.ip()?, self.port.get()))
    }
}

impl From<&Place> for HostPort {
    /// With the zone, which the system's resolver takes.
    fn from(place: &Place) -> Self {
        Self::new(place.host.to_string(), place.port.get())
    }
}

/// Reads a port: decimal digits, 1 to 65535.
///
/// # Errors
/// [`HostError::Port`].
pub fn parse_port(text: &str) -> Result<NonZeroU16, HostError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|_| digits);
    port.ok_or(HostError::Port)
}

impl FromStr for Place {
    type Err = HostError;

    /// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`; the port is [`super::DEFAULT_PORT`] where none
    /// is given.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let (host, given) = match text.rsplit_once(':') {
            Some((host, given)) if host.ends_with(']') || !host.contains(':') => {
                (host, Some(given))
            }
            // `[::1]`, or a bare `::1`, where the last group could be meant as a port.
            Some(_) if !text.starts_with('[') => return Err(HostError::Brackets),
            _ => (text, None),
        };
        let default = NonZeroU16::new(super::DEFAULT_PORT).ok_or(HostError::Port)?;
        Ok(Self {
            host: host.parse()?,
            port: given.map_or(Ok(default), parse_port)?,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V6 { .. } => write!(f, "[{}]:{}", self.host, self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<String, HostError> {
        text.parse::<Host>().map(|host| host.to_string())
    }

    #[test]
    fn equal_addresses_have_one_form() {
        for (written, meant) in [
            ("2001:db8::1", "2001:db8::1"),
            ("2001:0DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("::FFFF:cb00:7107", "203.0.113.7"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("fe80:0::1%eth0", "fe80::1%eth0"),
            ("2001:db8::1%eth0", "2001:db8::1"),
            ("LocalHost", "localhost"),
            ("Node.Example.ORG.", "node.example.org"),
        ] {
            assert_eq!(host(written).as_deref(), Ok(meant));
            assert_eq!(host(meant).as_deref(), Ok(meant));
        }
    }

    #[test]
    fn what_only_looks_like_an_address_is_refused() {
        for bad in [
            "010.0.0.1",
            "256.1.1.1",
            "1.2.3",
            "host.7",
            "1.2.3.4.",
            "[1.2.3.4]",
            "",
            ".",
            "a b",
            "::1::",
            "fe80::1%",
            "fe80::1%a b",
            "fe80::1%\u{1b}[31m",
            "<ipv4 address>",
        ] {
            assert_eq!(host(bad), Err(HostError::Host), "{bad:?}");
        }
    }

    #[test]
    fn places_take_their_port_from_the_text_or_the_default() {
        for (written, meant) in [
            ("192.0.2.1", "192.0.2.1:8088"),
            ("[2001:db8::1]:9000", "[2001:db8::1]:9000"),
            ("[::1]", "[::1]:8088"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1:1"),
            ("localhost", "localhost:8088"),
            ("host.example:9000", "host.example:9000"),
        ] {
            let place: Place = written.parse().unwrap();
            assert_eq!(place.to_string(), meant);
            assert_eq!(meant.parse::<Place>().unwrap(), place);
        }
        for bad in [
            "",
            "1.2.3.4:99999",
            "1.2.3.4:0",
            "h:",
            "h:+1",
            "::1",
            "[::1",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }
}
