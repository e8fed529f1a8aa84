//! Which flows of datagrams there are, and which one ends when. Pure: `now` is an argument.
//!
//! UDP says neither hello nor goodbye: a flow begins with a datagram of somebody new and is over
//! when nothing was said for a while, in either direction, or when room is needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Part of the idle time by which a flow may outlive it: moving a flow in the order with every
/// datagram would cost more than forwarding it.
const GRAIN: u32 = 16;

/// How many flows there may be, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a datagram for this long a flow is over. It may be kept 1/16 longer.
    pub idle: Duration,
    /// Flows of one owner; one more takes the place of its longest idle one. At least 1.
    pub per_owner: usize,
    /// Flows of all; one more takes the place of the longest idle one. At least 1.
    pub total: usize,
}

/// Tells a flow from an earlier one under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowNumber(u64);

/// Flows by key (whom the datagrams come from), each with an owner (who is answerable for it).
///
/// For each datagram call [`touch`](Self::touch); if there is no such flow,
/// [`insert`](Self::insert). Call [`expire`](Self::expire) at [`next_expiry`](Self::next_expiry).
#[derive(Debug)]
pub struct FlowTable<K, O, V> {
    limits: Limits,
    flows: HashMap<K, Flow<O, V>>,
    /// Longest idle first.
    order: BTreeMap<Place, K>,
    owners: HashMap<O, BTreeSet<Place>>,
    next: u64,
}

/// When a flow was last used, as far as that is kept, and its number.
type Place = (Duration, FlowNumber);

#[derive(Debug)]
struct Flow<O, V> {
    owner: O,
    place: Place,
    value: V,
}

impl<K: Eq + Hash + Clone, O: Eq + Hash + Clone, V> FlowTable<K, O, V> {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            flows: HashMap::new(),
            order: BTreeMap::new(),
            owners: HashMap::new(),
            next: 0,
        }
    }

    /// Flows now.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flow of `key`, used now.
    pub fn touch(&mut self, now: Duration, key: &K) -> Option<&mut V> {
        let grain = self.limits.idle / GRAIN;
        let flow = self.flows.get_mut(key)?;
        let (last, number) = flow.place;
        if now > last && now - last >= grain {
            let place = (now, number);
            if let Some(key) = self.order.remove(&flow.place) {
                self.order.insert(place, key);
            }
            if let Some(places) = self.owners.get_mut(&flow.owner) {
                places.remove(&flow.place);
                places.insert(place);
            }
            flow.place = place;
        }
        Some(&mut flow.value)
    }

    /// Adds a flow, used now. Gives its number and what had to go for it: the flow that had the
    /// same key, else, where there is no room, the longest idle one of the owner or of all.
    pub fn insert(
        &mut self,
        now: Duration,
        key: K,
        owner: O,
        value: V,
    ) -> (FlowNumber, Option<(K, V)>) {
        let gone = match self.flows.get(&key) {
            Some(same) => Some(same.place),
            None => self.in_the_way(&owner),
        };
        let gone = gone.and_then(|place| self.take(place));
        let number = FlowNumber(self.next);
        self.next += 1;
        let place = (now, number);
        self.order.insert(place, key.clone());
        let places = self.owners.entry(owner.clone()).or_default();
        places.insert(place);
        let flow = Flow {
            owner,
            place,
            value,
        };
        self.flows.insert(key, flow);
        (number, gone)
    }

    /// Removes the flow of `key`, unless it is a later one than `number`.
    pub fn remove(&mut self, key: &K, number: FlowNumber) -> Option<V> {
        let place = self.flows.get(key).map(|flow| flow.place)?;
        let same = place.1 == number;
        let (_, value) = same.then(|| self.take(place)).flatten()?;
        Some(value)
    }

    /// Removes one flow that is over; call it until there is none.
    pub fn expire(&mut self, now: Duration) -> Option<(K, V)> {
        let first = *self.order.first_key_value()?.0;
        (self.end_of(first) <= now).then(|| self.take(first))?
    }

    /// When the first flow will be over, if nothing is said.
    pub fn next_expiry(&self) -> Option<Duration> {
        let (first, _) = self.order.first_key_value()?;
        Some(self.end_of(*first))
    }

    fn end_of(&self, (last, _): Place) -> Duration {
        let kept = self.limits.idle.saturating_add(self.limits.idle / GRAIN);
        last.saturating_add(kept)
    }

    /// The flow that has to go before `owner` may have one more.
    fn in_the_way(&self, owner: &O) -> Option<Place> {
        if let Some(own) = self.owners.get(owner)
            && own.len() >= self.limits.per_owner.max(1)
        {
            return own.first().copied();
        }
        let full = self.flows.len() >= self.limits.total.max(1);
        let first = self.order.first_key_value().filter(|_| full);
        first.map(|(place, _)| *place)
    }

    fn take(&mut self, place: Place) -> Option<(K, V)> {
        let key = self.order.remove(&place)?;
        let flow = self.flows.remove(&key)?;
        if let Some(places) = self.owners.get_mut(&flow.owner) {
            places.remove(&place);
            if places.is_empty() {
                self.owners.remove(&flow.owner);
            }
        }
        Some((key, flow.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Duration = Duration::from_millis(1_600);

    fn limits(per_owner: usize, total: usize) -> Limits {
        Limits {
            idle: IDLE,
            per_owner,
            total,
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_flow_lives_while_it_is_used_and_ends_when_it_is_not() {
        let mut table = FlowTable::new(limits(9, 9));
        table.insert(at(0), 'a', (), 1);
        table.insert(at(0), 'b', (), 2);
        assert_eq!(table.touch(at(1_500), &'a'), Some(&mut 1));
        assert_eq!(table.touch(at(1_500), &'c'), None);
        assert_eq!(table.next_expiry(), Some(at(1_700)));
        assert_eq!(table.expire(at(1_699)), None);
        assert_eq!(table.expire(at(1_700)), Some(('b', 2)));
        assert_eq!(table.expire(at(1_700)), None);
        assert_eq!(table.expire(at(3_200)), Some(('a', 1)));
        assert_eq!((table.next_expiry(), table.owners.len()), (None, 0));
    }

    #[test]
    fn who_has_many_flows_gives_up_an_own_one_first() {
        let mut table = FlowTable::new(limits(2, 4));
        for (ms, key, owner) in [(0, 'a', 1), (1, 'b', 2), (2, 'c', 2)] {
            assert_eq!(table.insert(at(ms), key, owner, ()).1, None);
        }
        assert_eq!(table.insert(at(3), 'd', 2, ()).1, Some(('b', ())));
        assert_eq!(table.insert(at(4), 'e', 3, ()).1, None);
        assert_eq!(table.insert(at(5), 'f', 3, ()).1, Some(('a', ())));
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn the_end_of_an_old_flow_does_not_end_a_new_one_under_its_key() {
        let mut table = FlowTable::new(limits(2, 4));
        let (old, _) = table.insert(at(0), 'a', (), 1);
        let (new, gone) = table.insert(at(1), 'a', (), 2);
        assert_eq!(gone, Some(('a', 1)));
        assert_eq!(table.remove(&'a', old), None);
        assert_eq!(table.remove(&'a', new), Some(2));
        assert!(table.is_empty());
    }

    /// What the table promises, kept in a list.
    #[derive(Default)]
    struct Model(Vec<(u8, u8, Duration)>);

    impl Model {
        fn longest_idle(&self, owner: Option<u8>) -> Option<u8> {
            let own = self.0.iter().filter(|one| owner.is_none_or(|o| o == one.1));
            own.min_by_key(|one| one.2).map(|one| one.0)
        }

        fn of(&self, owner: u8) -> usize {
            self.0.iter().filter(|one| one.1 == owner).count()
        }
    }

    proptest! {
        /// Times are multiples of a grain here, so that both know the same.
        #[test]
        fn the_table_does_what_a_list_would(
            steps in prop::collection::vec((0..3_u64, 0..12_u8, 0..4_u8), 1..200),
            (per_owner, total) in (1..5_usize, 1..9_usize),
        ) {
            let mut table = FlowTable::new(limits(per_owner, total));
            let mut model = Model::default();
            let mut now = Duration::ZERO;
            for (later, key, kind) in steps {
                now += IDLE / GRAIN * u32::try_from(later).unwrap();
                let owner = key / 4;
                let known = model.0.iter().position(|one| one.0 == key);
                match (kind, known) {
                    (0, _) => {
                        let mut gone = Vec::new();
                        while let Some((key, ())) = table.expire(now) {
                            gone.push(key);
                        }
                        gone.sort_unstable();
                        let over = |one: &(u8, u8, Duration)| one.2 + IDLE + IDLE / GRAIN <= now;
                        let mut expected: Vec<u8> =
                            model.0.iter().filter(|one| over(one)).map(|one| one.0).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(gone, expected);
                        model.0.retain(|one| !over(one));
                    }
                    (_, Some(found)) => {
                        prop_assert!(table.touch(now, &key).is_some());
                        model.0[found].2 = now;
                    }
                    (_, None) => {
                        prop_assert!(table.touch(now, &key).is_none());
                        let full = match model.of(owner) >= per_owner {
                            true => model.longest_idle(Some(owner)),
                            false if model.0.len() >= total => model.longest_idle(None),
                            false => None,
                        };
                        let (_, gone) = table.insert(now, key, owner, ());
                        // Of several idle for equally long, any may go.
                        let idle = |key: u8| model.0.iter().find(|one| one.0 == key).map(|one| one.2);
                        let gone = gone.map(|(key, ())| key);
                        prop_assert_eq!(gone.and_then(idle), full.and_then(idle));
                        model.0.retain(|one| Some(one.0) != gone);
                        model.0.push((key, owner, now));
                    }
                }
                prop_assert_eq!(table.len(), model.0.len());
                prop_assert!(table.len() <= total);
                let ends = model.0.iter().map(|one| one.2 + IDLE + IDLE / GRAIN).min();
                prop_assert_eq!(table.next_expiry(), ends);
            }
        }
    }
}
