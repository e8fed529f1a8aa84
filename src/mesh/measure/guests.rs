//! Whom a node measures with: a few at once, one measurement per peer at a time, and no peer all
//! the time. A measurement takes the line on purpose; what it may take is decided here.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::mesh::id::NodeId;
use crate::mesh::rate::Rate;
use crate::mesh::stream::Refusal;

/// Measurements served at once.
pub const MAX_AT_ONCE: usize = 4;
/// Measurements of one peer, a second and at once. One `bench` takes two.
const PER_SECOND: f64 = 0.5;
const BURST: f64 = 12.0;
/// Peers whose rate is remembered. More than links there can be, and bounded all the same.
const MAX_PEERS: usize = 8_192;

/// Who measures with this node now, and how often each did.
#[derive(Debug, Default)]
pub struct Guests {
    now: HashSet<NodeId>,
    rates: HashMap<NodeId, Rate>,
}

impl Guests {
    /// Takes `peer` in, until [`Guests::leave`].
    ///
    /// # Errors
    /// [`Refusal::TooMany`]: it measures already, others do, or it did too often.
    pub fn admit(&mut self, now: Duration, peer: NodeId) -> Result<(), Refusal> {
        if self.now.len() >= MAX_AT_ONCE || self.measures(&peer) {
            return Err(Refusal::TooMany);
        }
        if self.rates.len() >= MAX_PEERS {
            self.rates.retain(|_, rate| !rate.is_full(now));
        }
        if self.rates.len() >= MAX_PEERS && !self.rates.contains_key(&peer) {
            return Err(Refusal::TooMany);
        }
        let rate = self.rates.entry(peer);
        let rate = rate.or_insert_with(|| Rate::new(PER_SECOND, BURST));
        if !rate.take(now, 1.0) {
            return Err(Refusal::TooMany);
        }
        self.now.insert(peer);
        Ok(())
    }

    /// Whether `peer` measures now.
    pub fn measures(&self, peer: &NodeId) -> bool {
        self.now.contains(peer)
    }

    /// The measurement of `peer` has ended.
    pub fn leave(&mut self, peer: &NodeId) {
        self.now.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;

    fn peer(n: u8) -> NodeId {
        Identity::from_seed(&[n; 32]).id()
    }

    #[test]
    fn one_at_a_time_per_peer_and_a_few_in_all() {
        let mut guests = Guests::default();
        let now = Duration::ZERO;
        assert_eq!(guests.admit(now, peer(1)), Ok(()));
        assert_eq!(guests.admit(now, peer(1)), Err(Refusal::TooMany));
        for n in 2..=4 {
            assert_eq!(guests.admit(now, peer(n)), Ok(()));
        }
        assert_eq!(guests.admit(now, peer(5)), Err(Refusal::TooMany));
        assert!(guests.measures(&peer(1)) && !guests.measures(&peer(5)));
        guests.leave(&peer(1));
        assert_eq!(guests.admit(now, peer(5)), Ok(()));
    }

    #[test]
    fn a_peer_that_asks_all_the_time_waits_and_others_do_not() {
        let mut guests = Guests::default();
        let mut taken = 0;
        for _ in 0..100 {
            if guests.admit(Duration::ZERO, peer(1)).is_ok() {
                taken += 1;
                guests.leave(&peer(1));
            }
        }
        assert_eq!(taken, 12);
        assert_eq!(guests.admit(Duration::ZERO, peer(2)), Ok(()));
        assert_eq!(guests.admit(Duration::from_secs(2), peer(1)), Ok(()));
    }
}
