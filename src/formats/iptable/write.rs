//! Tables out: the same rows always give the same bytes.

use std::borrow::Borrow;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::quoted;
use crate::mesh::ip_table::{Host, Latency, Row};

/// For whom a table is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// P2PRC since 2026-01: all fields, booleans, latencies in whole nanoseconds.
    #[default]
    Current,
    /// P2PRC up to v3.0.0: `NAT` and `ProxyServer` are text.
    Legacy,
    /// P2PRC's documents: the first address, the figures in quotes and milliseconds, `port no`.
    /// Has no place for anything else but unknown fields.
    Documented,
}

/// Not the name of a [`Profile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is one of current, legacy, documented")]
pub struct ProfileError;

impl FromStr for Profile {
    type Err = ProfileError;
    fn from_str(text: &str) -> Result<Self, ProfileError> {
        match text {
            "current" => Ok(Self::Current),
            "legacy" => Ok(Self::Legacy),
            "documented" => Ok(Self::Documented),
            _ => Err(ProfileError),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Legacy => "legacy",
            Self::Documented => "documented",
        })
    }
}

/// Writes `rows` in their order. An unknown latency is written as [`Latency::UNKNOWN_NS`], which
/// nobody prefers and which is read as unknown again; an unknown speed as 0, as P2PRC does.
///
/// # Errors
/// Those of `out`.
pub fn write<R: Borrow<Row>>(
    out: &mut impl Write,
    rows: impl IntoIterator<Item = R>,
    profile: Profile,
) -> io::Result<()> {
    out.write_all(b"{\n \"ip_address\": [")?;
    let mut separator = "\n";
    for row in rows {
        let row = row.borrow();
        write!(out, "{separator}  {{")?;
        separator = ",\n";
        let fields = match profile {
            Profile::Documented => documented(row),
            Profile::Current => as_p2prc(row, false),
            Profile::Legacy => as_p2prc(row, true),
        };
        let kept = row.carried.kept.iter();
        let kept = kept.map(|(key, json)| (quoted(key), json.clone()));
        let known = fields.into_iter().map(|(key, json)| (quoted(key), json));
        for (nth, (key, json)) in known.chain(kept).enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(out, "{comma}\n   {key}: {json}")?;
        }
        out.write_all(b"\n  }")?;
    }
    let end: &[u8] = if separator == "\n" {
        b"]\n}\n"
    } else {
        b"\n ]\n}\n"
    };
    out.write_all(end)
}

fn documented(row: &Row) -> Vec<(&'static str, String)> {
    let unknown = || "10000000".to_owned();
    let latency = row.one_way().map(|latency| latency.as_ms().to_string());
    vec![
        ("ipv4", quoted(&row.place.host().to_string())),
        ("latency", quoted(&latency.unwrap_or_else(unknown))),
        ("download", quoted(&mbps(row.download_mbps()))),
        ("upload", quoted(&mbps(row.upload_mbps()))),
        ("port no", quoted(&row.place.port().to_string())),
    ]
}

fn as_p2prc(row: &Row, legacy: bool) -> Vec<(&'static str, String)> {
    let carried = &row.carried;
    let (ipv4, ipv6) = addresses(row);
    let latency = row.one_way().map_or(Latency::UNKNOWN_NS, Latency::as_ns);
    let flag = |flag: bool| match (legacy, flag) {
        (true, true) => quoted("True"),
        (true, false) => quoted("False"),
        (false, flag) => flag.to_string(),
    };
    let mut fields = vec![
        ("Name", quoted(&row.name)),
        ("MachineUsername", quoted(&carried.machine_username)),
        ("IPV4", quoted(&ipv4)),
        ("IPV6", quoted(&ipv6)),
        ("Latency", latency.to_string()),
        ("Download", mbps(row.download_mbps())),
        ("Upload", mbps(row.upload_mbps())),
        ("ServerPort", quoted(&row.place.port().to_string())),
    ];
    // Before there was such a field it is written only where leaving it out would lose it.
    if !legacy || !carried.udp_server_port.is_empty() {
        fields.push(("UDPServerPort", quoted(&carried.udp_server_port)));
    }
    fields.extend([
        ("BareMetalSSHPort", quoted(&carried.bare_metal_ssh_port)),
        ("NAT", flag(row.flags.nat)),
        (
            "EscapeImplementation",
            quoted(&carried.escape_implementation),
        ),
        ("ProxyServer", flag(row.flags.proxy_server)),
        ("UnSafeMode", row.flags.unsafe_mode.to_string()),
        ("PublicKey", quoted(&carried.public_key)),
        ("CustomInformation", quoted(&carried.custom_information)),
    ]);
    fields
}

/// `IPV4` and `IPV6` of a row. P2PRC reaches a machine with both by IPv6 only, and a name or an
/// IPv4 address by `IPV4` only.
fn addresses(row: &Row) -> (String, String) {
    let first = row.place.host().to_string();
    match (row.place.host(), &row.other) {
        (Host::V6 { .. }, None) => (String::new(), first),
        (_, None) => (first, String::new()),
        // A second IPv4 address has its place too, in the form that belongs there.
        (_, Some(Host::V4(ip))) => (first, ip.to_ipv6_mapped().to_string()),
        (_, Some(second)) => (first, second.to_string()),
    }
}

fn mbps(speed: Option<f64>) -> String {
    speed.map_or_else(|| "0".to_owned(), |mbps| mbps.to_string())
}
