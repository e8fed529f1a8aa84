//! Whom an observer may dial, and how often (amendment D28).
//!
//! Addresses that came with a posted token are chosen by strangers: an explorer that dialled them
//! all would be a cannon. So it dials only addresses of the internet, and each small part of the
//! internet a few times a minute, whichever networks its addresses came with. What the rule adds
//! up to: a stranger who posts any number of networks gets at most
//! [`DIALS_PER_MINUTE`] · [`MAX_INITIALS`] packets of 1,200 bytes a minute sent to a /24.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::ip_table::Scope;
use super::observed::network_of;

/// Dials of one /24, or /56 of IPv6, in any minute.
pub const DIALS_PER_MINUTE: usize = 10;
/// First packets that one look sends to one address until something comes back.
pub const MAX_INITIALS: u32 = 3;
/// The span of [`DIALS_PER_MINUTE`].
const SPAN: Duration = Duration::from_secs(60);
/// Networks remembered. With more, further ones wait.
const MAX_NETWORKS: usize = 65_536;

/// What is to be done with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Dial it; the dial has been counted.
    Dial,
    /// Not now, but from this moment on.
    Later(Duration),
    /// Never.
    Forbidden,
}

/// Remembers which parts of the internet were dialled in the last minute.
pub struct Restraint {
    allow_private: bool,
    dialled: HashMap<Vec<u8>, VecDeque<Duration>>,
}

impl Restraint {
    /// Nothing dialled yet. With `allow_private` the addresses of this machine and of its own
    /// networks are dialled as well, and as often as need be: they are the operator's.
    pub fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            dialled: HashMap::new(),
        }
    }

    /// Whether `addr`, which a name was resolved to or which was given, may be dialled at `now`,
    /// monotonic. Each yes counts.
    pub fn ask(&mut self, now: Duration, addr: SocketAddr) -> Verdict {
        match Scope::of(addr.ip()) {
            _ if addr.port() == 0 => Verdict::Forbidden,
            Some(Scope::Global) => self.count(now, addr),
            Some(_) if self.allow_private => Verdict::Dial,
            _ => Verdict::Forbidden,
        }
    }

    fn count(&mut self, now: Duration, addr: SocketAddr) -> Verdict {
        let network = network_of(addr.ip());
        if !self.dialled.contains_key(&network) && self.dialled.len() >= MAX_NETWORKS {
            self.dialled.retain(|_, dials| {
                dials
                    .back()
                    .is_some_and(|last| now.saturating_sub(*last) < SPAN)
            });
            if self.dialled.len() >= MAX_NETWORKS {
                return Verdict::Later(now + SPAN);
            }
        }
        let dials = self.dialled.entry(network).or_default();
        dials.retain(|at| now.saturating_sub(*at) < SPAN);
        match dials.front() {
            Some(first) if dials.len() >= DIALS_PER_MINUTE => Verdict::Later(*first + SPAN),
            _ => {
                dials.push_back(now);
                Verdict::Dial
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_of_the_internet_are_dialled_unless_others_are_allowed() {
        let private = [
            "127.0.0.1:7717",
            "[::1]:7717",
            "10.0.0.1:7717",
            "100.64.0.1:1",
            "169.254.169.254:80",
            "192.168.1.1:53",
            "[fe80::1]:1",
            "[fd00::1]:1",
            "[::ffff:127.0.0.1]:1",
            "192.0.2.1:1",
            "198.18.0.1:1",
            "[2001:db8::1]:1",
        ];
        let nobodys = [
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "[ff02::1]:1",
            "[2002:7f00:1::]:1",
            "[2001::1]:1",
            "8.8.8.8:0",
        ];
        let (mut strict, mut lan) = (Restraint::new(false), Restraint::new(true));
        for text in private {
            assert_eq!(strict.ask(SPAN, at(text)), Verdict::Forbidden, "{text}");
            assert_eq!(lan.ask(SPAN, at(text)), Verdict::Dial, "{text}");
        }
        for text in nobodys {
            assert_eq!(strict.ask(SPAN, at(text)), Verdict::Forbidden, "{text}");
            assert_eq!(lan.ask(SPAN, at(text)), Verdict::Forbidden, "{text}");
        }
        for text in ["8.8.8.8:7717", "[2606:4700::1]:7717"] {
            assert_eq!(strict.ask(SPAN, at(text)), Verdict::Dial);
        }
    }

    #[test]
    fn what_was_put_off_may_be_dialled_when_it_was_said() {
        let mut restraint = Restraint::new(false);
        let now = Duration::from_secs(5);
        for port in 1..=10 {
            assert_eq!(
                restraint.ask(now, ([8, 8, 8, port], 7717).into()),
                Verdict::Dial
            );
        }
        assert_eq!(restraint.ask(now, at("9.9.9.9:1")), Verdict::Dial);
        let later = now + SPAN;
        assert_eq!(restraint.ask(now, at("8.8.8.99:1")), Verdict::Later(later));
        assert_eq!(restraint.ask(later, at("8.8.8.99:1")), Verdict::Dial);
    }

    proptest! {
        #[test]
        fn no_part_of_the_internet_is_dialled_more_often_than_that(
            asks in proptest::collection::vec((0_u64..20_000, 0_u8..3), 0..400)
        ) {
            let mut restraint = Restraint::new(false);
            let mut now = Duration::ZERO;
            let mut dialled: Vec<(Duration, u8)> = Vec::new();
            for (pause, net) in asks {
                now += Duration::from_millis(pause / 4);
                let addr = SocketAddr::from(([8, 8, net, 1], 7717));
                let recent = dialled.iter().filter(|(at, of)| *of == net && now - *at < SPAN);
                let room = recent.count() < DIALS_PER_MINUTE;
                match restraint.ask(now, addr) {
                    Verdict::Dial => {
                        prop_assert!(room);
                        dialled.push((now, net));
                    }
                    Verdict::Later(at) => prop_assert!(!room && at > now && at <= now + SPAN),
                    Verdict::Forbidden => prop_assert!(false),
                }
            }
        }
    }
}
