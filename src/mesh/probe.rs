//! What the probe of one server says: that it answers, that it missed a probe, or nothing,
//! because this machine itself was cut off. Values and one decision; who asks is
//! `service::probe`.
//!
//! # How it is known that this machine is offline
//!
//! A word from the server (an answer, even a wrong one, or a refused connection) speaks for
//! itself. Silence speaks against the server only with a witness: while it was silent, somebody
//! else who is as far away did say something. As far away: for an address of the internet a
//! witness on the internet, for one of the LAN a witness outside this machine; addresses of this
//! machine need none. A witness is another server of the same probe that answered or refused, asked
//! again if that was more than a second ago, or whoever the caller names (a node that has a
//! link to us). Without one, silence is [`Undecided::Offline`]. Where the system has no route, no
//! address or no descriptor for a connection, nothing was asked at all: [`Undecided::NoWay`].

use std::net::IpAddr;

use super::measure::{Measurement, RoundTrip, Throughput};
use super::observed::is_global;

/// How far away an address is. The farther, the more must work to reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This machine.
    Own,
    /// Not routed on the internet: the LAN, a tunnel.
    Near,
    /// The internet.
    Far,
}

impl Reach {
    /// Of `ip`, on a machine that has the addresses `own`.
    pub fn of(ip: IpAddr, own: &[IpAddr]) -> Self {
        let ip = ip.to_canonical();
        if ip.is_loopback() || ip.is_unspecified() || own.contains(&ip) {
            Self::Own
        } else if is_global(ip) {
            Self::Far
        } else {
            Self::Near
        }
    }
}

/// What the probe of one server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It answered, and this was measured.
    Answered(Found),
    /// It did not answer as it should, and this machine was online.
    Missed(Miss),
    /// Nothing is known: what was known of the server holds.
    Undecided(Undecided),
}

/// Why a server missed a probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Miss {
    /// Nothing listens there.
    #[error("the connection was refused")]
    Refused,
    /// No connection, or no whole answer, in time.
    #[error("no answer in time")]
    Silent,
    /// A router says that the machine is not there.
    #[error("the machine is not reachable")]
    Unreachable,
    /// Its name leads nowhere.
    #[error("the name has no address")]
    Unresolved,
    /// It answered with another status than 200. Redirects are not followed.
    #[error("it answered with status {0}")]
    Status(u16),
    /// What came is no answer of such a server.
    #[error("it does not answer as P2PRC does: {0}")]
    Wrong(String),
}

impl Miss {
    /// Whether it takes a machine that is online to find this.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent | Self::Unreachable | Self::Unresolved)
    }
}

/// Why a probe says nothing of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecided {
    /// It was silent, and so was everybody else as far away.
    #[error("nobody out there answered; this machine may be offline")]
    Offline,
    /// The system did not even try.
    #[error("this machine has no way there: {0}")]
    NoWay(String),
    /// The time for all was over before its turn.
    #[error("there was no time for it")]
    OutOfTime,
    /// The caller's policy forbids its address.
    #[error("its address is not to be probed")]
    Forbidden,
    /// It is a node of the mesh, and no daemon runs that could ask it.
    #[error("a node of the mesh is measured over its link, by a running daemon")]
    NoLink,
}

/// Why something was not measured at a server that answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unmeasured {
    /// Nobody asked for it.
    #[error("not asked for")]
    NotAsked,
    /// The server does not offer it: the status that it answered with.
    #[error("not offered (status {0})")]
    NotOffered(u16),
    /// Too few bytes to tell.
    #[error("too little to tell")]
    TooLittle,
    /// No time was left.
    #[error("no time was left")]
    OutOfTime,
    /// It broke off.
    #[error("broke off: {0}")]
    Broken(String),
}

/// What was measured at a server that answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// There and back, over an open connection.
    pub round_trip: Option<RoundTrip>,
    /// From there to here.
    pub download: Result<Throughput, Unmeasured>,
    /// From here to there.
    pub upload: Result<Throughput, Unmeasured>,
}

impl Found {
    /// The same without reasons, as it is kept.
    pub fn measurement(&self) -> Measurement {
        Measurement {
            round_trip: self.round_trip,
            download: self.download.clone().ok(),
            upload: self.upload.clone().ok(),
        }
    }
}

/// What to make of `miss` by a server so far away. `online` tells whether there was a witness at
/// least as far away.
pub fn judge(miss: Miss, reach: Reach, online: bool) -> Verdict {
    if miss.is_silence() && reach != Reach::Own && !online {
        return Verdict::Undecided(Undecided::Offline);
    }
    Verdict::Missed(miss)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_of_this_machine_is_near_only_for_others() {
        let own = [ip("192.168.1.5")];
        assert_eq!(Reach::of(ip("192.168.1.5"), &own), Reach::Own);
        assert_eq!(Reach::of(ip("::ffff:192.168.1.5"), &own), Reach::Own);
        assert_eq!(Reach::of(ip("192.168.1.5"), &[]), Reach::Near);
        assert_eq!(Reach::of(ip("127.3.2.1"), &[]), Reach::Own);
        assert_eq!(Reach::of(ip("::1"), &[]), Reach::Own);
        assert_eq!(Reach::of(ip("fe80::1"), &[]), Reach::Near);
        assert_eq!(Reach::of(ip("1.1.1.1"), &own), Reach::Far);
        assert_eq!(Reach::of(ip("2606:4700::1"), &own), Reach::Far);
    }

    #[test]
    fn silence_is_a_miss_only_with_a_witness_and_a_word_always() {
        let offline = Verdict::Undecided(Undecided::Offline);
        for miss in [Miss::Silent, Miss::Unreachable, Miss::Unresolved] {
            for reach in [Reach::Near, Reach::Far] {
                assert_eq!(judge(miss.clone(), reach, false), offline);
                let missed = Verdict::Missed(miss.clone());
                assert_eq!(judge(miss.clone(), reach, true), missed);
            }
            let missed = Verdict::Missed(miss.clone());
            assert_eq!(judge(miss, Reach::Own, false), missed);
        }
        for miss in [Miss::Refused, Miss::Status(500), Miss::Wrong("x".into())] {
            let missed = Verdict::Missed(miss.clone());
            assert_eq!(judge(miss, Reach::Far, false), missed);
        }
    }
}
