//! Clients of a server for strangers, told apart by where they are, each with an allowance of its
//! own. Their number is bounded: those beyond it share one. Time is an argument.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Clients that are told apart; more share one allowance.
pub(super) const MAX_CLIENTS: usize = 4_096;

/// What a client has left.
pub(super) trait Allowance: Clone {
    /// Whether it is as good as a new one at `now`: its owner can be forgotten.
    fn is_whole(&self, now: Duration) -> bool;
}

/// Every client with less than everything left.
pub(super) struct Clients<A> {
    known: BTreeMap<Site, A>,
    others: A,
    new: A,
    v6: V6,
}

/// Which part of an IPv6 address tells clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum V6 {
    /// The /48 that a provider gives a customer.
    Customer,
    /// The /64 of one link.
    Link,
}

/// Where a client is: an IPv4 address, or the front of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Site {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Site {
    pub(super) fn of(ip: IpAddr, by: V6) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                match by {
                    V6::Customer => Self::V6([a, b, c, d, e, f, 0, 0]),
                    V6::Link => Self::V6([a, b, c, d, e, f, g, h]),
                }
            }
        }
    }
}

/// A client that is known; without a site, one of those that share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who(Option<Site>);

impl<A: Allowance> Clients<A> {
    /// None yet; each gets `new` when it comes.
    pub(super) fn new(new: A, v6: V6) -> Self {
        Self {
            known: BTreeMap::new(),
            others: new.clone(),
            new,
            v6,
        }
    }

    /// Which client has that address.
    pub(super) fn who(&mut self, ip: IpAddr, now: Duration) -> Who {
        let site = Site::of(ip, self.v6);
        if self.known.len() >= MAX_CLIENTS && !self.known.contains_key(&site) {
            self.known.retain(|_, client| !client.is_whole(now));
        }
        let is_known = self.known.contains_key(&site) || self.known.len() < MAX_CLIENTS;
        Who(is_known.then_some(site))
    }

    /// What it has left.
    pub(super) fn allowance(&mut self, who: Who) -> &mut A {
        match who.0 {
            Some(site) => self.known.entry(site).or_insert_with(|| self.new.clone()),
            None => &mut self.others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Spent(bool);

    impl Allowance for Spent {
        fn is_whole(&self, _now: Duration) -> bool {
            !self.0
        }
    }

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn many_clients_share_what_is_left_and_the_idle_are_forgotten() {
        let mut clients = Clients::new(Spent(false), V6::Link);
        let ip = |n: usize| IpAddr::from((0x0900_0000 + u32::try_from(n).unwrap()).to_be_bytes());
        for n in 0..MAX_CLIENTS {
            let who = clients.who(ip(n), NOW);
            assert_ne!(who, Who(None));
            *clients.allowance(who) = Spent(true);
        }
        for n in MAX_CLIENTS..MAX_CLIENTS + 50 {
            let who = clients.who(ip(n), NOW);
            assert_eq!(who, Who(None));
            assert!(!clients.allowance(who).0);
        }
        let first = clients.who(ip(0), NOW);
        *clients.allowance(first) = Spent(false);
        assert_ne!(clients.who(ip(MAX_CLIENTS), NOW), Who(None));
        assert_eq!(clients.known.len(), MAX_CLIENTS - 1);
    }

    #[test]
    fn addresses_of_one_customer_or_link_are_one_client() {
        let v6 =
            |third: u16, fourth: u16, last| IpAddr::from([0x2a00, 1, third, fourth, 0, 0, 0, last]);
        let same = |by, a, b| Site::of(a, by) == Site::of(b, by);
        assert!(same(V6::Link, v6(2, 3, 1), v6(2, 3, 9)));
        assert!(!same(V6::Link, v6(2, 3, 1), v6(2, 4, 1)));
        assert!(same(V6::Customer, v6(2, 3, 1), v6(2, 4, 9)));
        assert!(!same(V6::Customer, v6(2, 3, 1), v6(3, 3, 1)));
        let mapped = "::ffff:192.0.2.7".parse().unwrap();
        assert!(same(V6::Link, mapped, "192.0.2.7".parse().unwrap()));
    }
}
