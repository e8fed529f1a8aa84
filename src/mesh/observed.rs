//! Where others see this node (security amendment A4).
//!
//! One peer may lie. An address counts only when two peers in different networks (/24, or /56 for
//! IPv6) name it; then this node accepts knocks made for it and advertises it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::id::NodeId;

/// Most addresses accepted this way.
pub const MAX_OBSERVED: usize = 4;

/// What peers said.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    said: BTreeMap<NodeId, (IpAddr, SocketAddr)>,
}

impl Observed {
    /// `peer`, itself at `from`, sees this node at `seen`.
    pub fn note(&mut self, peer: NodeId, from: IpAddr, seen: SocketAddr) {
        let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
        self.said.insert(peer, (from.to_canonical(), seen));
    }

    /// Forgets what a peer said that is gone.
    pub fn forget(&mut self, peer: &NodeId) {
        self.said.remove(peer);
    }

    /// Addresses two independent peers agree on, at most [`MAX_OBSERVED`]. Only global ones: a
    /// private address is recognised by the datagram's real destination instead.
    pub fn agreed(&self) -> Vec<SocketAddr> {
        let mut witnesses: BTreeMap<SocketAddr, Vec<Vec<u8>>> = BTreeMap::new();
        for (from, seen) in self.said.values() {
            if is_global(seen.ip()) {
                let networks = witnesses.entry(*seen).or_default();
                let network = network_of(*from);
                if !networks.contains(&network) {
                    networks.push(network);
                }
            }
        }
        let agreed = witnesses
            .into_iter()
            .filter(|(_, networks)| networks.len() >= 2);
        agreed.map(|(addr, _)| addr).take(MAX_OBSERVED).collect()
    }
}

/// The /24 or /56 an address is in.
pub fn network_of(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[..3].to_vec(),
        IpAddr::V6(ip) => ip.octets()[..7].to_vec(),
    }
}

/// Whether the internet routes to `ip` (RFC 6890, the common blocks).
pub fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocols = (a, b, c) == (192, 0, 0);
            let benchmarks = a == 198 && (b & 0xfe) == 18;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_documentation()
                || shared
                || protocols
                || benchmarks
                || a == 0
                || a >= 240)
        }
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            let documentation =
                (first, second) == (0x2001, 0x0db8) || first == 0x3fff && second & 0xf000 == 0;
            first & 0xe000 == 0x2000 && !documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;

    #[test]
    fn a_lying_observer_is_not_believed_and_two_neighbours_are_one_witness() {
        let id = |n| Identity::from_seed(&[n; 32]).id();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let seen = "8.8.8.8:7717".parse().unwrap();
        let mut observed = Observed::default();
        observed.note(id(1), ip("1.2.3.4"), seen);
        observed.note(id(2), ip("1.2.3.99"), seen);
        assert!(observed.agreed().is_empty());
        observed.note(id(3), ip("9.9.9.9"), seen);
        assert_eq!(observed.agreed(), [seen]);
        observed.forget(&id(3));
        assert!(observed.agreed().is_empty());
    }

    #[test]
    fn private_addresses_are_never_agreed_on() {
        let id = |n| Identity::from_seed(&[n; 32]).id();
        let seen = "192.168.1.5:7717".parse().unwrap();
        let mut observed = Observed::default();
        observed.note(id(1), "1.2.3.4".parse().unwrap(), seen);
        observed.note(id(2), "5.6.7.8".parse().unwrap(), seen);
        assert!(observed.agreed().is_empty());
    }
}
