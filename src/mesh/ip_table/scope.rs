//! How far an address reaches, and so who may speak of it: whoever asks from the internet must
//! neither put an address of the inside into a table, from where it would be probed, nor learn
//! one from it.

use std::net::IpAddr;

use super::Host;
use crate::mesh::observed::is_global;

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// One link; the address means another machine on each.
    LinkLocal,
    /// A site: private and shared ranges, and those that nothing routes to.
    Private,
    /// The internet.
    Global,
}

impl Scope {
    /// The scope of an address; `None` for what is no single machine's, and for IPv6 addresses
    /// that stand for an IPv4 address: the gateway behind them is none of ours.
    pub fn of(ip: IpAddr) -> Option<Self> {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Some(Self::Loopback);
        }
        let (nobodys, link_local, site) = match ip {
            IpAddr::V4(ip) => {
                let [first, ..] = ip.octets();
                (first == 0 || first >= 224, ip.is_link_local(), true)
            }
            IpAddr::V6(ip) => {
                let [first, second, ..] = ip.segments();
                let documentation = first == 0x2001 && second == 0x0db8;
                let tunnel = first == 0x2002 || (first == 0x2001 && second == 0);
                let site = ip.is_unique_local() || documentation;
                (tunnel, ip.is_unicast_link_local(), site)
            }
        };
        match () {
            () if nobodys => None,
            () if link_local => Some(Self::LinkLocal),
            () if is_global(ip) => Some(Self::Global),
            () => site.then_some(Self::Private),
        }
    }

    /// Whether a machine in this scope may put `host` into the table. A name is what whoever owns
    /// it says at the time, so only this machine gives names.
    pub fn may_give(self, host: &Host) -> bool {
        match host {
            Host::Name(_) => self == Self::Loopback,
            _ => self.reaches(host),
        }
    }

    /// Whether a machine in this scope may be told of `host`.
    pub fn may_learn(self, host: &Host) -> bool {
        match host {
            Host::Name(name) => match self {
                Self::Loopback => true,
                Self::LinkLocal | Self::Private => name != "localhost",
                Self::Global => false,
            },
            _ => self.reaches(host),
        }
    }

    fn reaches(self, host: &Host) -> bool {
        let ip = match host {
            Host::V4(ip) => IpAddr::from(*ip),
            Host::V6 { ip, .. } => IpAddr::from(*ip),
            Host::Name(_) => return false,
        };
        Self::of(ip).is_some_and(|of| match self {
            Self::Loopback => true,
            Self::LinkLocal | Self::Private => of >= Self::Private,
            Self::Global => of == Self::Global,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_their_range_does() {
        for (scope, ips) in [
            (
                Some(Scope::Loopback),
                ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"],
            ),
            (
                Some(Scope::LinkLocal),
                [
                    "169.254.169.254",
                    "fe80::1",
                    "::ffff:169.254.0.1",
                    "febf::1",
                ],
            ),
            (
                Some(Scope::Private),
                ["10.0.0.1", "100.64.0.1", "fd00::1", "192.168.1.1"],
            ),
            (
                Some(Scope::Global),
                ["1.1.1.1", "2a00::1", "100.128.0.1", "::ffff:9.9.9.9"],
            ),
            (None, ["0.0.0.0", "224.0.0.1", "::", "ff02::1"]),
            (
                None,
                [
                    "255.255.255.255",
                    "2002:7f00:1::",
                    "64:ff9b::7f00:1",
                    "::127.0.0.1",
                ],
            ),
        ] {
            for ip in ips {
                assert_eq!(Scope::of(ip.parse().unwrap()), scope, "{ip}");
            }
        }
    }

    #[test]
    fn the_outside_neither_gives_nor_learns_the_inside() {
        let inside = ["127.0.0.1", "fe80::1", "10.0.0.1", "localhost", "db.lan"];
        for text in inside {
            let host: Host = text.parse().unwrap();
            assert!(!Scope::Global.may_give(&host), "{text}");
            assert!(!Scope::Global.may_learn(&host), "{text}");
            assert!(Scope::Loopback.may_give(&host), "{text}");
            assert!(Scope::Loopback.may_learn(&host), "{text}");
        }
        let may = |host: &str| {
            let host = host.parse().unwrap();
            (
                Scope::Private.may_give(&host),
                Scope::Private.may_learn(&host),
            )
        };
        assert_eq!(may("10.0.0.1"), (true, true));
        assert_eq!(may("9.9.9.9"), (true, true));
        assert_eq!(may("127.0.0.1"), (false, false));
        assert_eq!(may("fe80::1"), (false, false));
        assert_eq!(may("db.lan"), (false, true));
    }
}
