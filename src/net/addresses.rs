//! Where this machine can be reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::mesh::observed::is_global;
use crate::mesh::records::MAX_ADDRESSES;

/// Addresses others may dial for sockets bound to `bound`, best first: public, then LAN, then
/// loopback where there is nothing else. A wildcard stands for every interface.
pub fn dialable(bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let interfaces: Vec<IpAddr> = match if_addrs::get_if_addrs() {
        Ok(all) => all.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "interface addresses are unknown; use --advertise");
            Vec::new()
        }
    };
    let mut found: Vec<SocketAddr> = Vec::new();
    for socket in bound {
        let fits = |ip: &IpAddr| socket.is_ipv6() || ip.is_ipv4();
        let ips: Vec<IpAddr> = if socket.ip().is_unspecified() {
            interfaces.iter().copied().filter(fits).collect()
        } else {
            vec![socket.ip()]
        };
        for ip in ips.into_iter().filter(|ip| is_usable(*ip)) {
            let addr = SocketAddr::new(ip, socket.port());
            if !found.contains(&addr) {
                found.push(addr);
            }
        }
    }
    let only_loopback = found.iter().all(|addr| addr.ip().is_loopback());
    let explicit = |addr: &SocketAddr| bound.iter().any(|socket| socket.ip() == addr.ip());
    found.retain(|addr| !addr.ip().is_loopback() || only_loopback || explicit(addr));
    if found.is_empty()
        && let Some(first) = bound.first()
    {
        found.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), first.port()));
    }
    found.sort_by_key(|addr| (rank(addr.ip()), addr.is_ipv6()));
    found.truncate(MAX_ADDRESSES);
    found
}

fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
        // A link-local IPv6 address means nothing without the interface of the reader.
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

fn rank(ip: IpAddr) -> u8 {
    if ip.is_loopback() {
        2
    } else {
        u8::from(!is_global(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_address_is_itself_and_a_wildcard_is_every_interface() {
        let one: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert_eq!(dialable(&[one]), [one]);
        let any = dialable(&["[::]:9".parse().unwrap()]);
        assert!(!any.is_empty() && any.iter().all(|addr| addr.port() == 9));
        assert!(any.iter().all(|addr| !addr.ip().is_unspecified()));
    }
}
