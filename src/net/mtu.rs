//! How large datagrams to a peer may become: what the interface towards it carries.
//!
//! Larger probes cannot arrive. Each is tried three times, and until it counts as lost it is
//! under way: half of what the first window lets out.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// A burst of the largest ([`BURST`](super::batch::BURST)) stays below the 64 KiB that a UDP send
/// may have; jumbo LANs and loopback profit.
pub(super) const MAX: u16 = 16_250;
/// Where the system does not tell: Ethernet.
const COMMON: u32 = 1_500;
/// Headers of IP and UDP (RFC 791, RFC 8200, RFC 768).
const IPV4_HEADERS: u32 = 20 + 8;
const IPV6_HEADERS: u32 = 40 + 8;

/// Bytes of UDP payload that a datagram to `peer` may have, at most [`MAX`].
pub(super) fn towards(peer: SocketAddr) -> u16 {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let carried = interface(peer).unwrap_or(COMMON);
    let headers = if peer.is_ipv4() {
        IPV4_HEADERS
    } else {
        IPV6_HEADERS
    };
    let payload = carried.saturating_sub(headers);
    u16::try_from(payload).unwrap_or(MAX).min(MAX)
}

/// The MTU of the route to `peer`. Connecting a UDP socket sends nothing.
#[cfg(target_os = "linux")]
fn interface(peer: SocketAddr) -> io::Result<u32> {
    let (any, mtu): (SocketAddr, fn(UdpSocket) -> rustix::io::Result<u32>) = match peer {
        SocketAddr::V4(_) => (
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            rustix::net::sockopt::ip_mtu,
        ),
        SocketAddr::V6(_) => (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            rustix::net::sockopt::ipv6_mtu,
        ),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    Ok(mtu(socket)?)
}

#[cfg(not(target_os = "linux"))]
fn interface(_: SocketAddr) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_carries_the_largest_and_what_cannot_be_reached_the_common() {
        for loopback in ["127.0.0.1:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(towards(loopback.parse().unwrap()), MAX);
        }
        // Documentation addresses have a route by default or none; neither carries more.
        let far = towards("192.0.2.1:9".parse().unwrap());
        assert!((1_200..=9_000).contains(&far), "{far}");
    }
}
