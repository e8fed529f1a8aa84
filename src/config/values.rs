//! Values as people write them in flags, variables and the config file, each parsed into a type
//! that cannot be wrong. Every refusal says what is expected.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use warren::mesh::addr::{HostPort, PeerAddr};
use warren::mesh::name::Name;
use warren::mesh::records::Protocol;
use zeroize::Zeroizing;

/// A listen address: `IP:PORT`, `[V6]:PORT`, `localhost:PORT`, or `:PORT` for every address,
/// IPv4 and IPv6. Port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_port(text)?;
        let ip = match host {
            "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .map_err(|_| {
                    format!(
                        "{host:?} is not an IP address of this machine; \
                         write IP:PORT, or :{port} for all addresses"
                    )
                })?,
        };
        if ip.is_ipv6() && !host.is_empty() && !host.starts_with('[') {
            return Err(format!("write IPv6 addresses in brackets: [{host}]:{port}"));
        }
        Ok(Self(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn split_port(text: &str) -> Result<(&str, u16), String> {
    if text.contains("://") {
        return Err("write the address without http://".to_owned());
    }
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("{text:?} has no port; write IP:PORT, or :PORT"))?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("{port:?} is not a port; ports are numbers from 0 to 65535"))?;
    Ok((host, port))
}

/// Where HTTP listens; `off` switches it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http(pub(crate) Option<SocketAddr>);

impl FromStr for Http {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        Ok(Self(Some(text.parse::<Listen>()?.0)))
    }
}

/// A real server or a peer: `HOST:PORT`, where the port is not 0, because it is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target(pub(crate) HostPort);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("write HOST:PORT, without http://".to_owned());
        }
        let at: HostPort = text.parse().map_err(|e| format!("{e}"))?;
        refuse_port_zero(&at)?;
        Ok(Self(at))
    }
}

/// Takes `tcp:` or `udp:` off an address. `udp:53` has no second colon: a host called udp.
fn split_protocol(text: &str) -> (Protocol, &str) {
    let known = [("tcp:", Protocol::Tcp), ("udp:", Protocol::Udp)];
    let mut found = known.iter().filter_map(|(word, protocol)| {
        let rest = text.strip_prefix(word)?;
        rest.contains(':').then_some((*protocol, rest))
    });
    found.next().unwrap_or((Protocol::Tcp, text))
}

/// A real server and what it speaks: `HOST:PORT` or `udp:HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) protocol: Protocol,
    pub(crate) at: HostPort,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = split_protocol(text);
        Ok(Self {
            protocol,
            at: rest.parse::<Target>()?.0,
        })
    }
}

/// Where an ingress listens, and for what: `IP:PORT` or `udp:IP:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenFor {
    pub(crate) protocol: Protocol,
    pub(crate) at: SocketAddr,
}

impl FromStr for ListenFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = split_protocol(text);
        Ok(Self {
            protocol,
            at: rest.parse::<Listen>()?.0,
        })
    }
}

fn refuse_port_zero(at: &HostPort) -> Result<(), String> {
    match at.port() {
        0 => Err(format!("{at} cannot be dialled: port 0 is no port")),
        _ => Ok(()),
    }
}

/// A node to dial: `[ID@]HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) PeerAddr);

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let peer: PeerAddr = text.parse().map_err(|e| format!("{e}"))?;
        refuse_port_zero(&peer.at)?;
        Ok(Self(peer))
    }
}

/// `NAME=HOST:PORT`, `NAME=udp:HOST:PORT`: a service and the real server behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expose {
    pub(crate) service: Name,
    pub(crate) server: Server,
}

impl FromStr for Expose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, target) = split_name(text, "HOST:PORT")?;
        Ok(Self {
            service,
            server: target.parse()?,
        })
    }
}

/// `NAME=LISTEN`, `NAME=udp:LISTEN`: a service and where clients reach it on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ingress {
    pub(crate) service: Name,
    pub(crate) listen: ListenFor,
}

impl FromStr for Ingress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, listen) = split_name(text, "IP:PORT")?;
        Ok(Self {
            service,
            listen: listen.parse()?,
        })
    }
}

fn split_name<'a>(text: &'a str, right: &str) -> Result<(Name, &'a str), String> {
    let (name, rest) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} has no =; write NAME={right}"))?;
    let name = name.parse().map_err(|e| format!("{name:?}: {e}"))?;
    Ok((name, rest))
}

/// A network's token as text, not parsed yet. It is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretText {
    type Err = String;

    /// White space around the token is not part of it: tokens come out of files and clipboards.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Err("the token is empty; leave the setting out to use the stored one".to_owned()),
            token => Ok(Self(Zeroizing::new(token.to_owned()))),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(hidden)")
    }
}

/// Which log lines are written: a level (`off` to `trace`) for warren's own lines, or tracing
/// directives such as `warn,warren::net=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFilter(pub(crate) String);

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no level; write off, error, warn, info, debug or trace, \
                 or directives such as warn,warren::net=debug"
            )
        };
        // A single unknown word would be taken for a module's name, and switch everything else off.
        let level = match text.trim().to_ascii_lowercase().as_str() {
            "fatal" => "error".to_owned(),
            "warning" => "warn".to_owned(),
            level @ ("off" | "error" | "warn" | "info" | "debug" | "trace") => level.to_owned(),
            other if other.contains('=') => {
                tracing_subscriber::EnvFilter::try_new(text).map_err(|_| wrong())?;
                return Ok(Self(text.to_owned()));
            }
            _ => return Err(wrong()),
        };
        Ok(Self(match level.as_str() {
            "off" | "error" => level,
            _ => format!("warn,warren={level}"),
        }))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What an ingress understands of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ModeArg {
    /// Opaque bytes; each connection is balanced.
    #[default]
    Tcp,
    /// Each request is balanced.
    Http,
    /// By content.
    Auto,
}

/// How a server is told of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProxyArg {
    /// A binary header in front of each connection.
    V2,
}

/// When a connection may move to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FailoverArg {
    /// Only while nothing has reached a server.
    Connect,
    /// Also repeats what the client has sent, until the first byte of an answer.
    Replay,
    /// Never.
    Off,
}

macro_rules! from_str_by_value_enum {
    ($($type:ty),*) => {$(
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                use clap::ValueEnum;
                let known = || Self::value_variants().iter().filter_map(|v| v.to_possible_value());
                <Self as ValueEnum>::from_str(text, false).map_err(|_| {
                    let names: Vec<_> = known().map(|v| v.get_name().to_owned()).collect();
                    format!("{text:?} is not one of {}", names.join(", "))
                })
            }
        }
    )*};
}
from_str_by_value_enum!(LogFormat, ModeArg, FailoverArg, ProxyArg);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_listens_on_every_address_of_both_families() {
        let all: Listen = ":8080".parse().unwrap();
        assert_eq!(all.0.to_string(), "[::]:8080");
        assert_eq!("127.0.0.1:0".parse::<Listen>().unwrap().0.port(), 0);
        assert_eq!(
            "[::1]:1".parse::<Listen>().unwrap().0.to_string(),
            "[::1]:1"
        );
    }

    #[test]
    fn a_refused_address_says_what_to_write() {
        let reason = |text: &str| text.parse::<Listen>().unwrap_err();
        assert!(reason("8080").contains(":PORT"), "{}", reason("8080"));
        assert!(reason("example.org:80").contains("IP address"));
        assert!(reason("127.0.0.1:70000").contains("65535"));
        assert!(reason("::1:80").contains("brackets"));
        assert!(reason("http://127.0.0.1:80").contains("http://"));
        assert!("x=a:0".parse::<Expose>().unwrap_err().contains("port 0"));
        assert!("xa:0".parse::<Expose>().unwrap_err().contains("NAME="));
        assert!(
            "a b=h:1"
                .parse::<Expose>()
                .unwrap_err()
                .contains("position 1")
        );
    }

    #[test]
    fn an_address_may_say_what_is_spoken_there() {
        let server = |text: &str| {
            text.parse::<Server>()
                .map(|s| (s.protocol, s.at.to_string()))
        };
        let is = |protocol, at: &str| Ok((protocol, at.to_owned()));
        assert_eq!(
            server("udp:127.0.0.1:53"),
            is(Protocol::Udp, "127.0.0.1:53")
        );
        assert_eq!(server("udp:[::1]:53"), is(Protocol::Udp, "[::1]:53"));
        assert_eq!(server("tcp:host:80"), is(Protocol::Tcp, "host:80"));
        assert_eq!(server("udp:53"), is(Protocol::Tcp, "udp:53"));
        assert!(server("udp:host:0").unwrap_err().contains("port 0"));
        let all: ListenFor = "udp::53".parse().unwrap();
        assert_eq!(
            (all.protocol, all.at.to_string()),
            (Protocol::Udp, "[::]:53".into())
        );
        let dns: Expose = "dns=udp:127.0.0.1:53".parse().unwrap();
        assert_eq!(dns.server.protocol, Protocol::Udp);
    }

    #[test]
    fn a_log_level_is_for_our_own_lines() {
        let filter = |text: &str| text.parse::<LogFilter>().map(|f| f.0);
        assert_eq!(filter("debug"), Ok("warn,warren=debug".into()));
        assert_eq!(filter("error"), Ok("error".into()));
        assert_eq!(filter("warren=trace"), Ok("warren=trace".into()));
        assert!(filter("verbose").is_err() && filter("warren=loud").is_err());
    }

    #[test]
    fn a_secret_cannot_be_printed_or_empty() {
        let secret: SecretText = " warren1abc\n".parse().unwrap();
        assert_eq!(secret.expose(), "warren1abc");
        assert!(!format!("{secret:?}").contains("abc"));
        assert!(" \n".parse::<SecretText>().is_err());
    }
}
