//! Who may open a connection: the ring of accepted epochs, what is remembered of a knock, and
//! which nonces were used (security.md §3.2, §3.6; amendments A1, A2, A5–A8).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::id::NodeId;
use super::keys::{
    DCID_BYTES, EpochKeys, NONCE_BYTES, NetworkKeys, Target, accepted_epochs, epoch_of,
};
use super::rate::Rate;
use super::time::Now;

/// Nonces kept per epoch.
pub const MAX_NONCES: usize = 65_536;
/// Knocks whose keys are remembered between first packet and accept.
pub const MAX_REMEMBERED: usize = 4_096;
/// Own addresses a knock may be bound to, besides the one the datagram really came to.
pub const MAX_OWN_ADDRESSES: usize = 4;
/// Address-bound knocks that are tried, a second: an outsider's flood costs no more (A5).
const ADDRESS_KNOCKS_PER_SECOND: f64 = 5_000.0;

/// A first destination connection id.
pub type Dcid = [u8; DCID_BYTES];

/// What a knock was made for and with: enough to derive its Initial keys and to check its Hello,
/// whatever happens to the ring in the meantime.
#[derive(Clone, Debug)]
pub struct Knock {
    /// The connection id itself.
    pub dcid: Dcid,
    /// Keys of its epoch.
    pub keys: EpochKeys,
    /// What stands in for the connection id in the derivation of Initial keys.
    pub initial_input: Dcid,
}

impl Knock {
    /// A knock for a dial: fixed now, for the whole dial (A2).
    pub fn make(keys: EpochKeys, nonce: &[u8; NONCE_BYTES], target: &Target) -> Self {
        let dcid = keys.knock(nonce, target);
        let initial_input = keys.initial_input(&dcid, target);
        Self {
            dcid,
            keys,
            initial_input,
        }
    }

    /// The nonce in front of the MAC.
    pub fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.dcid[..NONCE_BYTES]);
        nonce
    }
}

/// Decides which datagrams may open a connection.
pub struct Gate {
    network: NetworkKeys,
    me: NodeId,
    ring: Vec<EpochKeys>,
    own: Vec<SocketAddr>,
    remembered: HashMap<Dcid, Knock>,
    order: VecDeque<Dcid>,
    address_rate: Rate,
    used: Used,
    open: bool,
}

impl Gate {
    /// A gate for `me`. A closed gate (`open == false`) lets nobody in: an observer only dials.
    pub fn new(now: Now, network: NetworkKeys, me: NodeId, open: bool) -> Self {
        let mut gate = Self {
            network,
            me,
            ring: Vec::new(),
            own: Vec::new(),
            remembered: HashMap::new(),
            order: VecDeque::new(),
            address_rate: Rate::new(ADDRESS_KNOCKS_PER_SECOND, ADDRESS_KNOCKS_PER_SECOND / 5.0),
            used: Used::default(),
            open,
        };
        gate.turn(now);
        gate
    }

    /// Sets the ring to the epochs accepted at `now`. Cheap when nothing changed; call it every
    /// second and before a dial, because the wall clock may jump.
    pub fn turn(&mut self, now: Now) {
        let epochs: Vec<u64> =
            accepted_epochs(now.unix_s(), self.network.crypto_interval()).collect();
        let same = self
            .ring
            .iter()
            .map(EpochKeys::epoch)
            .eq(epochs.iter().copied());
        if !same {
            self.ring = epochs
                .iter()
                .map(|epoch| self.network.epoch(*epoch))
                .collect();
            let interval = self.network.crypto_interval().seconds();
            let keep = 3 * Duration::from_secs(u64::from(interval));
            self.used.forget(now.mono, keep, &epochs);
        }
    }

    /// Keys of the epoch `offset` epochs from `now`; 0 for an ordinary dial.
    pub fn dial_keys(&self, now: Now, offset: i64) -> EpochKeys {
        let epoch = epoch_of(now.unix_s(), self.network.crypto_interval());
        let epoch = epoch.saturating_add_signed(offset);
        let ready = self.ring.iter().find(|keys| keys.epoch() == epoch).cloned();
        ready.unwrap_or_else(|| self.network.epoch(epoch))
    }

    /// Keys and name of the network.
    pub fn network(&self) -> &NetworkKeys {
        &self.network
    }

    /// Lets nobody in from now on: what leaves or stops answers no new dial.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Says at which other addresses this node may be dialled (A4).
    pub fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.own = own;
        self.own.truncate(MAX_OWN_ADDRESSES);
    }

    /// Whether `dcid`, on a datagram that came to `to`, is a knock; if so it is remembered.
    pub fn admit(&mut self, now: Duration, dcid: &Dcid, to: Option<SocketAddr>) -> bool {
        if !self.open {
            return false;
        }
        // Remembered knocks keep their keys beyond their epoch, their right to enter they do not:
        // the nonces of an epoch that ended are forgotten some time later.
        if let Some(knock) = self.remembered.get(dcid) {
            return self.is_accepted(knock.keys.epoch());
        }
        let Some((keys, target)) = self.find(now, dcid, to) else {
            return false;
        };
        let initial_input = keys.initial_input(dcid, &target);
        let knock = Knock {
            dcid: *dcid,
            keys,
            initial_input,
        };
        self.remember(knock);
        true
    }

    fn is_accepted(&self, epoch: u64) -> bool {
        self.ring.iter().any(|keys| keys.epoch() == epoch)
    }

    fn find(
        &mut self,
        now: Duration,
        dcid: &Dcid,
        to: Option<SocketAddr>,
    ) -> Option<(EpochKeys, Target)> {
        let me = Target::Node(self.me);
        if let Some(keys) = self.ring.iter().find(|keys| keys.is_knock(dcid, &me)) {
            return Some((keys.clone(), me));
        }
        if !self.address_rate.take(now, 1.0) {
            return None;
        }
        // Where the datagram really came to needs no proof that it is ours. The others came from
        // an interface, a flag, a port mapping or two independent peers.
        let targets = to
            .into_iter()
            .chain(self.own.iter().copied())
            .map(Target::Address);
        let pairs = targets.flat_map(|target| self.ring.iter().map(move |keys| (keys, target)));
        let mut pairs = pairs.filter(|(keys, target)| keys.is_knock(dcid, target));
        pairs.next().map(|(keys, target)| (keys.clone(), target))
    }

    fn remember(&mut self, knock: Knock) {
        if self.order.len() >= MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        self.order.push_back(knock.dcid);
        self.remembered.insert(knock.dcid, knock);
    }

    /// What is remembered of a knock. `None` means: derive nothing that anyone could know (A2).
    pub fn recall(&self, dcid: &[u8]) -> Option<&Knock> {
        let dcid: &Dcid = dcid.try_into().ok()?;
        self.remembered.get(dcid)
    }

    /// What a first packet's keys come from: `None` also for a knock that was used before, so
    /// that QUIC drops a replay before it makes any state, even while its endpoint closes.
    pub fn recall_unused(&self, dcid: &[u8]) -> Option<&Knock> {
        self.recall(dcid)
            .filter(|knock| !self.used.contains(knock.keys.epoch(), &knock.nonce()))
    }

    /// Takes a knock's nonce before its handshake starts; false if it was taken before (A8), or
    /// if its epoch has ended: whether it was taken may be forgotten by then.
    pub fn reserve(&mut self, now: Duration, knock: &Knock) -> bool {
        let epoch = knock.keys.epoch();
        self.is_accepted(epoch) && self.used.insert(now, epoch, knock.nonce())
    }

    /// Gives a nonce back: the packet behind the knock was not authentic, so its maker is someone
    /// who only saw the knock, and must not be able to burn it.
    pub fn release(&mut self, knock: &Knock) {
        self.used.remove(knock.keys.epoch(), knock.nonce());
    }

    /// Loads nonces used before a restart.
    pub fn load_used(
        &mut self,
        now: Duration,
        used: impl IntoIterator<Item = (u64, [u8; NONCE_BYTES])>,
    ) {
        for (epoch, nonce) in used {
            self.used.insert(now, epoch, nonce);
        }
    }

    /// The lowest epoch whose nonces still matter; rows below it can go from the disk.
    pub fn oldest_epoch(&self) -> u64 {
        self.ring.iter().map(EpochKeys::epoch).min().unwrap_or(0)
    }
}

/// Nonces used, by epoch. A full epoch forgets its oldest: only members can fill it, and locking
/// everybody else out would be worse than one possible replay of an old dial (A6).
#[derive(Default)]
struct Used {
    epochs: BTreeMap<u64, UsedEpoch>,
}

#[derive(Default)]
struct UsedEpoch {
    nonces: HashSet<[u8; NONCE_BYTES]>,
    order: VecDeque<[u8; NONCE_BYTES]>,
    last: Duration,
}

impl Used {
    fn insert(&mut self, now: Duration, epoch: u64, nonce: [u8; NONCE_BYTES]) -> bool {
        let set = self.epochs.entry(epoch).or_default();
        set.last = now;
        if !set.nonces.insert(nonce) {
            return false;
        }
        set.order.push_back(nonce);
        if set.order.len() > MAX_NONCES
            && let Some(oldest) = set.order.pop_front()
        {
            set.nonces.remove(&oldest);
        }
        true
    }

    fn contains(&self, epoch: u64, nonce: &[u8; NONCE_BYTES]) -> bool {
        let set = self.epochs.get(&epoch);
        set.is_some_and(|set| set.nonces.contains(nonce))
    }

    fn remove(&mut self, epoch: u64, nonce: [u8; NONCE_BYTES]) {
        if let Some(set) = self.epochs.get_mut(&epoch) {
            set.nonces.remove(&nonce);
            set.order.retain(|other| *other != nonce);
        }
    }

    /// Frees epochs that are neither accepted nor recent by the *monotonic* clock: a wall clock
    /// that jumps back must not open them again (A8).
    fn forget(&mut self, now: Duration, keep: Duration, accepted: &[u64]) {
        self.epochs
            .retain(|epoch, set| accepted.contains(epoch) || now.saturating_sub(set.last) < keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;
    use crate::mesh::keys::Secret;
    use crate::mesh::token::Token;

    const INTERVAL: u64 = 9_000;

    fn network() -> NetworkKeys {
        NetworkKeys::new(&Token::new(Secret::new([7; 32]), 9_000, 360).unwrap())
    }

    fn at(epoch: u64) -> Now {
        Now {
            mono: Duration::from_secs(1),
            unix_ms: (epoch * INTERVAL + INTERVAL / 2) * 1000,
        }
    }

    fn me() -> NodeId {
        Identity::from_seed(&[1; 32]).id()
    }

    fn gate(epoch: u64) -> Gate {
        Gate::new(at(epoch), network(), me(), true)
    }

    fn knock(epoch: u64, nonce: u8, target: &Target) -> Knock {
        Knock::make(network().epoch(epoch), &[nonce; NONCE_BYTES], target)
    }

    #[test]
    fn one_epoch_of_skew_is_accepted_and_two_are_not() {
        let mut gate = gate(100);
        for (epoch, want) in [
            (98, false),
            (99, true),
            (100, true),
            (101, true),
            (102, false),
        ] {
            let knock = knock(epoch, 1, &Target::Node(me()));
            assert_eq!(
                gate.admit(Duration::ZERO, &knock.dcid, None),
                want,
                "{epoch}"
            );
        }
    }

    #[test]
    fn a_knock_for_another_node_or_address_is_nothing() {
        let mut gate = gate(100);
        let other = Identity::from_seed(&[2; 32]).id();
        let here: SocketAddr = "192.0.2.1:7717".parse().unwrap();
        let there: SocketAddr = "192.0.2.2:7717".parse().unwrap();
        let t0 = Duration::ZERO;
        assert!(!gate.admit(t0, &knock(100, 1, &Target::Node(other)).dcid, Some(here)));
        assert!(!gate.admit(t0, &knock(100, 2, &Target::Address(there)).dcid, Some(here)));
        assert!(gate.admit(t0, &knock(100, 3, &Target::Address(here)).dcid, Some(here)));
        // Two LANs with the same addressing: the knock for one opens nothing in the other,
        // because ids are pinned; bound to an address it must be the real destination.
        gate.set_own(vec![there]);
        assert!(gate.admit(t0, &knock(100, 2, &Target::Address(there)).dcid, Some(here)));
    }

    /// A2: what was matched is remembered, so a ring that turns in between changes nothing, and
    /// what was never matched yields nothing to derive keys from.
    #[test]
    fn the_ring_may_turn_between_first_packet_and_accept() {
        let mut gate = gate(100);
        let knock = knock(100, 1, &Target::Node(me()));
        assert!(gate.admit(Duration::ZERO, &knock.dcid, None));
        gate.turn(at(103));
        assert_eq!(
            gate.recall(&knock.dcid).unwrap().initial_input,
            knock.initial_input
        );
        assert!(gate.recall(&[0; DCID_BYTES]).is_none());
        assert!(gate.recall(&[0; 8]).is_none());
    }

    /// What was captured and is played back when its epoch has ended, and its nonce is forgotten,
    /// was let in again: the gate remembered the knock, and nothing else.
    #[test]
    fn a_remembered_knock_opens_nothing_when_its_epoch_has_ended() {
        let mut gate = gate(100);
        let knock = knock(100, 1, &Target::Node(me()));
        assert!(gate.admit(Duration::ZERO, &knock.dcid, None));
        assert!(gate.reserve(Duration::ZERO, &knock));
        let later = Duration::from_secs(4 * INTERVAL);
        gate.turn(Now {
            mono: later,
            ..at(104)
        });
        assert!(!gate.admit(later, &knock.dcid, None));
        assert!(!gate.reserve(later, &knock));
    }

    #[test]
    fn a_used_knock_yields_no_keys_and_a_closed_gate_lets_nobody_in() {
        let mut gate = gate(100);
        let knock = knock(100, 1, &Target::Node(me()));
        assert!(gate.admit(Duration::ZERO, &knock.dcid, None));
        assert!(gate.recall_unused(&knock.dcid).is_some());
        assert!(gate.reserve(Duration::ZERO, &knock));
        assert!(gate.recall_unused(&knock.dcid).is_none());
        assert!(gate.recall(&knock.dcid).is_some(), "its session needs them");
        gate.close();
        assert!(!gate.admit(Duration::ZERO, &knock.dcid, None));
    }

    #[test]
    fn a_nonce_works_once_unless_its_packet_was_forged() {
        let mut gate = gate(100);
        let knock = knock(100, 1, &Target::Node(me()));
        assert!(gate.reserve(Duration::ZERO, &knock));
        assert!(!gate.reserve(Duration::ZERO, &knock));
        gate.release(&knock);
        assert!(gate.reserve(Duration::ZERO, &knock));
    }

    /// A8: the wall clock jumps back two epochs after they ended; used nonces stay used.
    #[test]
    fn a_clock_that_jumps_back_does_not_open_used_nonces() {
        let mut gate = gate(100);
        let knock = knock(100, 1, &Target::Node(me()));
        assert!(gate.reserve(Duration::from_secs(1), &knock));
        gate.turn(at(105));
        gate.turn(at(100));
        assert!(!gate.reserve(Duration::from_secs(2), &knock));
    }

    /// A6: a member that makes 70,000 dials does not keep an honest newcomer out.
    #[test]
    fn a_full_cache_forgets_its_oldest() {
        let mut used = Used::default();
        for n in 0..70_000u32 {
            let mut nonce = [0; NONCE_BYTES];
            nonce[..4].copy_from_slice(&n.to_be_bytes());
            assert!(used.insert(Duration::ZERO, 1, nonce));
        }
        assert!(used.insert(Duration::ZERO, 1, [0xff; NONCE_BYTES]));
        assert_eq!(used.epochs[&1].nonces.len(), MAX_NONCES);
    }

    /// A5: outsiders can make the address kind unavailable, never the id kind.
    #[test]
    fn a_flood_of_wrong_knocks_does_not_stop_dials_by_id() {
        let mut gate = gate(100);
        let here: SocketAddr = "192.0.2.1:7717".parse().unwrap();
        for n in 0..10_000u32 {
            let mut dcid = [0xee; DCID_BYTES];
            dcid[..4].copy_from_slice(&n.to_be_bytes());
            assert!(!gate.admit(Duration::ZERO, &dcid, Some(here)));
        }
        let by_address = knock(100, 1, &Target::Address(here));
        assert!(
            !gate.admit(Duration::ZERO, &by_address.dcid, Some(here)),
            "rate had no effect"
        );
        assert!(gate.admit(
            Duration::ZERO,
            &knock(100, 2, &Target::Node(me())).dcid,
            Some(here)
        ));
        assert!(gate.admit(Duration::from_secs(1), &by_address.dcid, Some(here)));
    }

    #[test]
    fn an_observer_lets_nobody_in() {
        let mut gate = Gate::new(at(100), network(), me(), false);
        let knock = knock(100, 1, &Target::Node(me()));
        assert!(!gate.admit(Duration::ZERO, &knock.dcid, None));
    }
}
