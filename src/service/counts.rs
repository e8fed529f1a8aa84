//! Connections per service and node, as this node's ingresses see them.
//!
//! A connection counts as *served* by a node once it can no longer move to another. Lifetime
//! numbers are for display; choosing uses [`Balancer`](crate::mesh::balance::Balancer).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::net::flow::Lost;
use crate::net::refused::Refused;

/// Receives each increment of `served`. It is called on the data path and must only note it
/// down: the store writes behind.
pub type Sink = Arc<dyn Fn(&Bucket, NodeId, u64) + Send + Sync>;

/// Gauges and totals. Clones share them.
#[derive(Clone)]
pub struct Counters {
    counts: Arc<Mutex<HashMap<(Bucket, NodeId), Count>>>,
    lost: Arc<Refused>,
    sink: Sink,
}

/// Numbers of one service at one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections now, also those that may still move.
    pub in_flight: u64,
    /// Connections ever.
    pub served: u64,
}

impl Counters {
    /// Starts from what the store has kept; `sink` gets every increment after that.
    pub fn new(kept: impl IntoIterator<Item = ((Bucket, NodeId), u64)>, sink: Sink) -> Self {
        let counts = kept.into_iter().map(|(key, served)| {
            let count = Count {
                in_flight: 0,
                served,
            };
            (key, count)
        });
        Self {
            counts: Arc::new(Mutex::new(counts.collect())),
            lost: Arc::default(),
            sink,
        }
    }

    /// Counters that nobody keeps.
    pub fn unkept() -> Self {
        Self::new([], Arc::new(|_, _, _| {}))
    }

    /// All numbers, sorted by service and node.
    pub fn snapshot(&self) -> Vec<(Bucket, NodeId, Count)> {
        let mut all: Vec<_> = self
            .lock()
            .iter()
            .map(|((bucket, node), count)| (bucket.clone(), *node, *count))
            .collect();
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        all
    }

    /// A datagram went nowhere.
    pub fn lose(&self, why: Lost) {
        self.lost.count(why.word());
    }

    /// Datagrams that went nowhere, by stable reason.
    pub fn lost(&self) -> BTreeMap<&'static str, u64> {
        self.lost.counts()
    }

    /// A connection to `node` starts; it ends when the guard is dropped.
    pub fn begin(&self, bucket: &Bucket, node: NodeId) -> Serving {
        let key = (bucket.clone(), node);
        let mut counts = self.lock();
        let count = counts.entry(key.clone()).or_default();
        count.in_flight = count.in_flight.saturating_add(1);
        drop(counts);
        Serving {
            counters: self.clone(),
            key,
            counted: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Bucket, NodeId), Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.snapshot().iter().map(|(b, n, c)| ((b, n), c)))
            .finish()
    }
}

/// One connection in flight.
#[derive(Debug)]
pub struct Serving {
    counters: Counters,
    key: (Bucket, NodeId),
    counted: bool,
}

impl Serving {
    /// The connection stays with this node: counts it as served, once.
    pub fn served(&mut self) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        if let Some(count) = self.counters.lock().get_mut(&self.key) {
            count.served = count.served.saturating_add(1);
        }
        (self.counters.sink)(&self.key.0, self.key.1, 1);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(count) = self.counters.lock().get_mut(&self.key) {
            count.in_flight = count.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_connection_is_in_flight_until_dropped_and_served_once() {
        let told = Arc::new(AtomicU64::new(0));
        let sum = told.clone();
        let sink: Sink = Arc::new(move |_, _, by| {
            sum.fetch_add(by, Ordering::Relaxed);
        });
        let bucket: Bucket = "federated".parse().unwrap();
        let node = Identity::from_seed(&[1; 32]).id();
        let counters = Counters::new([((bucket.clone(), node), 41)], sink);

        let mut first = counters.begin(&bucket, node);
        let second = counters.begin(&bucket, node);
        first.served();
        first.served();
        drop(second);
        let expected = Count {
            in_flight: 1,
            served: 42,
        };
        assert_eq!(counters.snapshot(), [(bucket, node, expected)]);
        drop(first);
        assert_eq!(counters.snapshot()[0].2.in_flight, 0);
        assert_eq!(
            told.load(Ordering::Relaxed),
            1,
            "only the increment is told"
        );
    }
}
