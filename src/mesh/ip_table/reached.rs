//! Where members were reached, and so what another's word about such an address is worth.
//!
//! Whoever answers at the other end of a link has proven who it is, so the address that the link
//! leads to is its own, whatever the ledger says. Several members may share an IP address behind
//! a NAT, so that without the port it only tells who else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::table::author;
use super::{Host, Place, Told};
use crate::mesh::id::NodeId;

/// Most addresses that are remembered.
const MAX_ADDRESSES: usize = 4_096;

/// Addresses at which members were reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached(BTreeMap<SocketAddr, NodeId>);

impl Reached {
    /// These members are reached there now. Others that are online stay where they were last,
    /// unless it is the place of one of these now; who is not online may be anywhere, and its
    /// address another's. Returns whether something is new.
    pub fn note(
        &mut self,
        now: &[(NodeId, SocketAddr)],
        is_online: impl Fn(&NodeId) -> bool,
    ) -> bool {
        let here: BTreeSet<NodeId> = now.iter().map(|(node, _)| *node).collect();
        let mut all = self.0.clone();
        all.retain(|_, node| !here.contains(node) && is_online(node));
        // It only has to forget some; which ones it are is no matter.
        while all.len() + now.len() > MAX_ADDRESSES && all.pop_first().is_some() {}
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        all.extend(now.iter().map(|(node, at)| (canonical(*at), *node)));
        let news = all != self.0;
        self.0 = all;
        news
    }

    /// What is left of what a member tells. One that speaks of itself at an address where another
    /// is reached tells nothing; where only others are, it speaks of somebody else.
    pub fn judge(&self, mut told: Told) -> Option<Told> {
        let Some(author) = author(&told.row).filter(|_| told.own) else {
            return Some(told);
        };
        if self.is_anothers(&told.row.place, author) {
            return None;
        }
        let port = told.row.place.port();
        let is_theirs = |host: &Host| {
            let place = Place::new(host.clone(), port);
            !self.is_anothers(&place, author) && !self.are_others(host, author)
        };
        told.own = !self.are_others(told.row.place.host(), author);
        if told.row.other.as_ref().is_some_and(|host| !is_theirs(host)) {
            Arc::make_mut(&mut told.row).other = None;
        }
        Some(told)
    }

    fn is_anothers(&self, place: &Place, author: NodeId) -> bool {
        let at = place.host().ip();
        let at = at.map(|ip| SocketAddr::new(ip, place.port().get()));
        let there = at.and_then(|at| self.0.get(&at));
        there.is_some_and(|node| *node != author)
    }

    /// Whether members were reached at that address, on whatever port, and `author` was not.
    fn are_others(&self, host: &Host, author: NodeId) -> bool {
        let Some(ip) = host.ip() else { return false };
        let mut there = self.at(ip).peekable();
        there.peek().is_some() && there.all(|node| node != author)
    }

    fn at(&self, ip: IpAddr) -> impl Iterator<Item = NodeId> {
        let ports = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        self.0.range(ports).map(|(_, node)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;
    use crate::mesh::ip_table::{Row, Source, Table};

    fn node(n: u16) -> NodeId {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        Identity::from_seed(&seed).id()
    }

    fn told(author: u16, at: &str, own: bool) -> Told {
        let mut row = Row::new(at.parse().unwrap(), Source::Learnt(node(author)));
        row.name = author.to_string();
        Told {
            row: row.into(),
            own,
        }
    }

    fn reached(nodes: &[(u16, &str)]) -> Reached {
        let nodes = nodes.iter().map(|(n, at)| (node(*n), at.parse().unwrap()));
        let mut reached = Reached::default();
        assert!(reached.note(&nodes.collect::<Vec<_>>(), |_| true));
        reached
    }

    #[test]
    fn an_address_at_which_a_member_is_reached_is_claimed_by_nobody_else() {
        let reached = reached(&[(5, "192.0.2.5:7717"), (1, "192.0.2.1:7717")]);
        let judged = |author, at: &str| reached.judge(told(author, at, true));
        // Whatever the order of their ids.
        for liar in [1, 9] {
            assert_eq!(judged(liar, "192.0.2.5:7717"), None);
            assert_eq!(judged(liar, "[::ffff:192.0.2.5]:7717"), None);
            let other_port = judged(liar, "192.0.2.5:8088").unwrap();
            assert!(!other_port.own);
        }
        for itself in [
            "192.0.2.5:7717",
            "192.0.2.5:8088",
            "198.51.100.1:8088",
            "host:1",
        ] {
            assert_eq!(judged(5, itself), Some(told(5, itself, true)));
        }
        let hearsay = told(1, "192.0.2.5:7717", false);
        assert_eq!(reached.judge(hearsay.clone()), Some(hearsay));

        let mut both = told(1, "192.0.2.1:7717", true);
        Arc::make_mut(&mut both.row).other = Some("192.0.2.5".parse().unwrap());
        assert_eq!(reached.judge(both), Some(told(1, "192.0.2.1:7717", true)));
    }

    #[test]
    fn members_behind_one_address_speak_for_themselves() {
        let reached = reached(&[(1, "192.0.2.5:1001"), (2, "192.0.2.5:1002")]);
        for (author, at) in [(1, "192.0.2.5:8088"), (2, "192.0.2.5:8089")] {
            let own = told(author, at, true);
            assert_eq!(reached.judge(own.clone()), Some(own));
        }
        assert_eq!(reached.judge(told(1, "192.0.2.5:1002", true)), None);
    }

    #[test]
    fn who_is_there_itself_is_shown_and_not_who_says_so() {
        let reached = reached(&[(5, "192.0.2.5:7717"), (1, "192.0.2.1:7717")]);
        let mut table = Table::default();
        let rows = [
            told(1, "192.0.2.5:8088", true),
            told(5, "192.0.2.5:8088", true),
        ];
        table.set_told(rows.clone());
        let shown = |table: &Table| table.list()[0].name.clone();
        assert_eq!(shown(&table), "1");
        table.set_told(rows.into_iter().filter_map(|told| reached.judge(told)));
        assert_eq!(shown(&table), "5");
        assert_eq!(table.speaker(&table.list()[0]), Some(node(5)));
    }

    #[test]
    fn a_member_leaves_its_address_when_it_moves_or_goes_and_not_with_its_link() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (a, b) = (at("192.0.2.5:1"), at("[2001:db8::1]:1"));
        let mut reached = reached(&[(5, "192.0.2.5:1")]);
        let claim = told(1, "192.0.2.5:1", true);
        let everybody = |_: &NodeId| true;
        for (now, is_news, is_claimed) in [
            (vec![], false, false),
            (vec![(node(5), a)], false, false),
            (vec![(node(5), b)], true, true),
            (vec![(node(5), a)], true, false),
            (vec![(node(1), a)], true, true),
            (vec![(node(5), a)], true, false),
        ] {
            assert_eq!(reached.note(&now, everybody), is_news, "{now:?}");
            assert_eq!(
                reached.judge(claim.clone()).is_some(),
                is_claimed,
                "{now:?}"
            );
        }
        assert!(reached.note(&[], |id| *id != node(5)));
        assert_eq!(reached.judge(claim.clone()), Some(claim));
        for port in 1..=5_000 {
            reached.note(&[(node(port), SocketAddr::new(a.ip(), port))], everybody);
        }
        assert_eq!(reached.0.len(), MAX_ADDRESSES);
    }
}
