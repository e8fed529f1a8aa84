//! What a node knows of machines that are reached by address: the rows of the IP table. They
//! come from P2PRC's files, from the user, and from other nodes, and serve to find and to choose
//! machines; a row proves nothing about who answers there.
//!
//! What can be serialised here is stored as it is, by position: another layout is another version
//! of the row in `schema/tables.md`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::measure::{Measurement, Throughput};

mod host;
mod order;
mod reached;
mod refresh;
mod scope;
pub mod shared;
mod table;

pub use host::{Host, HostError, Place, parse_port};
pub use order::{Sort, SortError};
pub use reached::Reached;
pub use refresh::{MAX_EVERY, MAX_PRUNE_AFTER, MIN_EVERY, RefreshError, RefreshPolicy, Silences};
pub use scope::Scope;
pub use table::{
    Edits, MAX_POSTED, MAX_POSTED_BYTES, MAX_TOLD_ROWS, Merged, Posted, Probe, Recorded, Refused,
    Round, Stranger, Table, Told,
};

/// Most rows of a table.
pub const MAX_ROWS: usize = 200_000;
/// Longest text of one field, in bytes. A public key of 16,384 bits has 2,800.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Longest name of an unknown field, in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest content of one row, all texts and unknown fields together, in bytes.
pub const MAX_CONTENT_BYTES: usize = 60 * 1024;
/// Most unknown fields kept of one row.
pub const MAX_KEPT: usize = 64;
/// From so many misses in a row on, a machine counts as unreachable.
pub const MISSES_UNREACHABLE: u32 = 3;
/// The port of a machine that names none (P2PRC's `ServerPort`).
pub const DEFAULT_PORT: u16 = 8088;

/// One machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it is reached: the key of the row.
    pub place: Place,
    /// A second address, with the same port.
    pub other: Option<Host>,
    /// What the machine is called; empty where nobody said.
    pub name: String,
    /// Where the row is from.
    pub source: Source,
    /// What a document said of the way to it.
    pub stated: Figures,
    /// What this node measured itself.
    pub measured: Option<Measured>,
    /// Tries that failed since it last answered.
    pub misses: Misses,
    /// It was removed, by the user or, if it is unreachable, because nobody answered; kept only so
    /// that what another node tells does not bring it back.
    pub hidden: bool,
    /// What the machine is.
    pub flags: Flags,
    /// What is only kept for those who gave it.
    pub carried: Carried,
}

impl Row {
    /// A row of which nothing is known but the place.
    pub fn new(place: Place, source: Source) -> Self {
        Self {
            place,
            other: None,
            name: String::new(),
            source,
            stated: Figures::default(),
            measured: None,
            misses: Misses::default(),
            hidden: false,
            flags: Flags::default(),
            carried: Carried::default(),
        }
    }

    /// Whether it answered when it was last asked.
    pub fn state(&self) -> State {
        match self.misses.count {
            0 if self.measured.is_none() => State::Unknown,
            0 => State::Reachable,
            1..MISSES_UNREACHABLE => State::Suspect,
            _ => State::Unreachable,
        }
    }

    /// Its addresses with its port, the key of the row first.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let port = self.place.port();
        self.hosts().map(move |host| Place::new(host.clone(), port))
    }

    /// Its addresses, the one of its key first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(self.place.host()).chain(&self.other)
    }

    /// Adds a second address. Of two, the one that more machines can reach is the key: IPv4, then
    /// a name, then IPv6; equal kinds stay in order. Replaces a second address that was there.
    pub fn add_host(&mut self, host: Host) {
        let rank = |host: &Host| match host {
            Host::V4(_) => 0,
            Host::Name(_) => 1,
            Host::V6 { .. } => 2,
        };
        if rank(&host) < rank(self.place.host()) {
            let place = Place::new(host, self.place.port());
            let first = std::mem::replace(&mut self.place, place);
            self.other = Some(first.host().clone());
        } else if host != *self.place.host() {
            self.other = Some(host);
        }
    }

    /// Bytes of its texts and unknown fields; at most [`MAX_CONTENT_BYTES`] are stored.
    pub fn content_bytes(&self) -> usize {
        let kept = self.carried.kept.iter();
        let texts = self.carried.texts().map(str::len).iter().sum::<usize>();
        self.name.len()
            + texts
            + kept
                .map(|(key, json)| key.len() + json.len())
                .sum::<usize>()
    }

    /// Half of the least round trip: what P2PRC calls latency. Own measurements go before what
    /// others say.
    pub fn one_way(&self) -> Option<Latency> {
        let round_trip = self.measured.as_ref().and_then(|own| own.least);
        let half = round_trip.and_then(|rtt| Latency::from_ns(rtt.as_ns() / 2));
        half.or(self.stated.latency)
    }

    /// Mbit/s from there, measured or else stated.
    pub fn download_mbps(&self) -> Option<f64> {
        let own = self.measured.as_ref().and_then(|own| own.download);
        own.or(self.stated.download).map(Speed::as_mbps)
    }

    /// Mbit/s to there, measured or else stated.
    pub fn upload_mbps(&self) -> Option<f64> {
        let own = self.measured.as_ref().and_then(|own| own.upload);
        own.or(self.stated.upload).map(Speed::as_mbps)
    }

    /// Takes from `later`, another row of the same machine, what this one does not say.
    pub fn fill(&mut self, later: Row) {
        if self.name.is_empty() {
            self.name = later.name;
        }
        self.stated.latency = self.stated.latency.or(later.stated.latency);
        self.stated.download = self.stated.download.or(later.stated.download);
        self.stated.upload = self.stated.upload.or(later.stated.upload);
        self.measured = self.measured.take().or(later.measured);
        let [user, escape, udp, ssh, key, custom] = later.carried.into_texts();
        let Carried {
            machine_username,
            escape_implementation,
            udp_server_port,
            bare_metal_ssh_port,
            public_key,
            custom_information,
            kept: _,
        } = &mut self.carried;
        for (mine, theirs) in [
            (machine_username, user),
            (escape_implementation, escape),
            (udp_server_port, udp),
            (bare_metal_ssh_port, ssh),
            (public_key, key),
            (custom_information, custom),
        ] {
            if mine.is_empty() {
                *mine = theirs;
            }
        }
    }
}

/// Where a row is from. Stored by number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Given by the user: flags, configuration, `iptable add`.
    Configured,
    /// Read from a document.
    Imported,
    /// Told by another node.
    Learnt(NodeId),
    /// This node.
    Own,
    /// Sent over P2PRC's HTTP by somebody who has proven nothing. No other node is told of it.
    Posted,
}

impl Source {
    /// Whether the row may go when nobody answers there. What a user gave stays: an outage of
    /// this node's own network must not cost it the way back.
    pub fn may_expire(self) -> bool {
        matches!(self, Self::Learnt(_) | Self::Posted)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("configured"),
            Self::Imported => f.write_str("imported"),
            Self::Learnt(node) => write!(f, "learnt from {}", node.short()),
            Self::Own => f.write_str("self"),
            Self::Posted => f.write_str("posted"),
        }
    }
}

/// A time on the way, in whole nanoseconds. Never 0: what is not known is no latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Latency(u64);

impl Latency {
    /// From here on it means "unknown": P2PRC never chooses a machine this far away.
    pub const UNKNOWN_NS: u64 = 10_000_000_000_000;

    /// `None` for 0, and from [`Latency::UNKNOWN_NS`] on.
    pub fn from_ns(ns: u64) -> Option<Self> {
        (1..Self::UNKNOWN_NS).contains(&ns).then_some(Self(ns))
    }

    /// Rounded to nanoseconds; as [`Latency::from_ns`], and `None` for what is no duration.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and from_ns refuses what it saturates to"
    )]
    pub fn from_ms(ms: f64) -> Option<Self> {
        Self::from_ns((ms * 1e6).round() as u64)
    }

    /// Nanoseconds.
    pub fn as_ns(self) -> u64 {
        self.0
    }

    /// Milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "it is far below 2^53")]
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl TryFrom<u64> for Latency {
    type Error = &'static str;
    fn try_from(ns: u64) -> Result<Self, Self::Error> {
        Self::from_ns(ns).ok_or("no latency")
    }
}

impl From<Latency> for u64 {
    fn from(latency: Latency) -> u64 {
        latency.0
    }
}

/// A speed in Mbit/s (10⁶ bits). Never 0: what is not known is no speed.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Speed(f64);

impl Speed {
    /// No link is faster.
    const MAX_MBPS: f64 = 1e9;

    /// `None` for 0, and for what is no speed.
    pub fn from_mbps(mbps: f64) -> Option<Self> {
        (mbps > 0.0 && mbps <= Self::MAX_MBPS).then_some(Self(mbps))
    }

    /// Mbit/s.
    pub fn as_mbps(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Speed {
    type Error = &'static str;
    fn try_from(mbps: f64) -> Result<Self, Self::Error> {
        Self::from_mbps(mbps).ok_or("no speed")
    }
}

impl From<Speed> for f64 {
    fn from(speed: Speed) -> f64 {
        speed.0
    }
}

/// What is said of the way to a machine, as its source meant it: P2PRC's latency is half of the
/// best round trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Time on the way.
    pub latency: Option<Latency>,
    /// From there.
    pub download: Option<Speed>,
    /// To there.
    pub upload: Option<Speed>,
}

/// What this node measured. A figure that was not measured is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How.
    pub method: Method,
    /// Least round trip.
    pub least: Option<Latency>,
    /// Median round trip.
    pub median: Option<Latency>,
    /// From there.
    pub download: Option<Speed>,
    /// To there.
    pub upload: Option<Speed>,
}

impl Measured {
    /// Of what was found at `at_ms`, milliseconds since the Unix epoch.
    pub fn of(found: &Measurement, method: Method, at_ms: u64) -> Self {
        let latency = |time: Duration| Latency::from_ns(u64::try_from(time.as_nanos()).ok()?);
        let speed = |throughput: Throughput| Speed::from_mbps(throughput.mbps());
        Self {
            at_ms,
            method,
            least: found.round_trip.and_then(|trip| latency(trip.min)),
            median: found.round_trip.and_then(|trip| latency(trip.median)),
            download: found.download.and_then(speed),
            upload: found.upload.and_then(speed),
        }
    }
}

/// Tries to reach a machine that failed, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misses {
    /// How many.
    pub count: u32,
    /// When the last was, in milliseconds since the Unix epoch; 0 without any.
    pub last_ms: u64,
}

/// Whether a machine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answered the last time.
    Reachable,
    /// It did not, once or twice.
    Suspect,
    /// It did not, [`MISSES_UNREACHABLE`] times or more.
    Unreachable,
    /// It was never asked.
    Unknown,
}

/// How a figure was measured. Stored by number: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Over a link of the mesh.
    Link,
    /// With requests to P2PRC's routes.
    P2prc,
}

/// What a machine is, as far as somebody said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// It is behind a NAT.
    pub nat: bool,
    /// It takes domains for others (P2PRC's `ProxyServer`).
    pub proxy_server: bool,
    /// It gives its keys' owners a shell (P2PRC's `UnSafeMode`). Nothing here acts on it.
    pub unsafe_mode: bool,
}

/// What P2PRC says of a machine and nothing here uses; written back as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// `MachineUsername`.
    pub machine_username: String,
    /// `EscapeImplementation`: how it escapes its NAT.
    pub escape_implementation: String,
    /// `UDPServerPort`.
    pub udp_server_port: String,
    /// `BareMetalSSHPort`.
    pub bare_metal_ssh_port: String,
    /// `PublicKey`: a line of an `authorized_keys` file. Bound to nothing.
    pub public_key: String,
    /// `CustomInformation`.
    pub custom_information: String,
    /// Fields that no version of P2PRC has: name, and value as JSON. Each name is there once.
    pub kept: Vec<(String, String)>,
}

impl Carried {
    /// All texts, in the order of the fields.
    pub fn texts(&self) -> [&str; 6] {
        [
            &self.machine_username,
            &self.escape_implementation,
            &self.udp_server_port,
            &self.bare_metal_ssh_port,
            &self.public_key,
            &self.custom_information,
        ]
    }

    fn into_texts(self) -> [String; 6] {
        [
            self.machine_username,
            self.escape_implementation,
            self.udp_server_port,
            self.bare_metal_ssh_port,
            self.public_key,
            self.custom_information,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ns: u64) -> Row {
        let place = "192.0.2.1:8088".parse().unwrap();
        let mut row = Row::new(place, Source::Imported);
        row.stated.latency = Latency::from_ns(ns);
        row
    }

    #[test]
    fn what_is_unknown_is_no_number() {
        for ns in [0, Latency::UNKNOWN_NS, u64::MAX] {
            assert_eq!(Latency::from_ns(ns), None);
        }
        for ms in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7] {
            assert_eq!(Latency::from_ms(ms), None, "{ms}");
        }
        for mbps in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Speed::from_mbps(mbps), None, "{mbps}");
        }
    }

    #[test]
    fn milliseconds_lose_no_nanosecond() {
        for ns in [1, 14_981_051, 999_999_999_999, Latency::UNKNOWN_NS - 1] {
            let latency = Latency::from_ns(ns).unwrap();
            assert_eq!(Latency::from_ms(latency.as_ms()), Some(latency));
        }
    }

    #[test]
    fn own_round_trips_are_halved_and_stated_latencies_are_not() {
        let mut row = row(3_000_000);
        assert_eq!(row.one_way(), Latency::from_ns(3_000_000));
        row.measured = Some(Measured {
            at_ms: 1,
            method: Method::P2prc,
            least: Latency::from_ns(40_000_000),
            median: None,
            download: None,
            upload: None,
        });
        assert_eq!(row.one_way(), Latency::from_ns(20_000_000));
    }

    #[test]
    fn only_what_others_told_may_expire() {
        let told = Source::Learnt(crate::mesh::id::Identity::from_seed(&[1; 32]).id());
        assert!(told.may_expire() && Source::Posted.may_expire());
        for kept in [Source::Configured, Source::Imported, Source::Own] {
            assert!(!kept.may_expire());
        }
    }
}
