//! Connections per service and node, as this node's ingresses see them.
//!
//! A connection counts as *served* by a node once it can no longer move to another. Lifetime
//! numbers are for display; choosing uses [`Balancer`](crate::mesh::balance::Balancer).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
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
    gauges: Arc<Mutex<Gauges>>,
    lost: Arc<Refused>,
    sink: Sink,
}

type Gauges = BTreeMap<Bucket, BTreeMap<NodeId, Arc<Gauge>>>;

/// Numbers of one service at one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections now, also those that may still move.
    pub in_flight: u64,
    /// Connections ever.
    pub served: u64,
}

/// A [`Count`] as the connections change it: found once for each of them, under the lock, and
/// without it from then on.
#[derive(Debug, Default)]
struct Gauge {
    in_flight: AtomicU64,
    served: AtomicU64,
}

impl Gauge {
    fn count(&self) -> Count {
        Count {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            served: self.served.load(Ordering::Relaxed),
        }
    }
}

impl Counters {
    /// Starts from what the store has kept; `sink` gets every increment after that.
    pub fn new(kept: impl IntoIterator<Item = ((Bucket, NodeId), u64)>, sink: Sink) -> Self {
        let mut gauges = Gauges::new();
        for ((bucket, node), served) in kept {
            let gauge = Gauge {
                served: AtomicU64::new(served),
                ..Gauge::default()
            };
            let of_bucket = gauges.entry(bucket).or_default();
            of_bucket.insert(node, Arc::new(gauge));
        }
        Self {
            gauges: Arc::new(Mutex::new(gauges)),
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
        let gauges = self.lock();
        let all = gauges.iter().flat_map(|(bucket, of_bucket)| {
            let counts = of_bucket.iter();
            counts.map(|(node, gauge)| (bucket.clone(), *node, gauge.count()))
        });
        all.collect()
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
        let gauge = self.gauge(bucket, node);
        gauge.in_flight.fetch_add(1, Ordering::Relaxed);
        Serving {
            gauge,
            bucket: bucket.clone(),
            node,
            sink: Arc::clone(&self.sink),
            counted: false,
        }
    }

    fn gauge(&self, bucket: &Bucket, node: NodeId) -> Arc<Gauge> {
        let mut gauges = self.lock();
        let known = gauges
            .get(bucket)
            .and_then(|of_bucket| of_bucket.get(&node));
        if let Some(gauge) = known {
            return Arc::clone(gauge);
        }
        let of_bucket = gauges.entry(bucket.clone()).or_default();
        Arc::clone(of_bucket.entry(node).or_default())
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Gauges> {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.snapshot().iter().map(|(b, n, c)| ((b, n), c)))
            .finish()
    }
}

/// One connection in flight.
pub struct Serving {
    gauge: Arc<Gauge>,
    bucket: Bucket,
    node: NodeId,
    sink: Sink,
    counted: bool,
}

impl Serving {
    /// The connection stays with this node: counts it as served, once.
    pub fn served(&mut self) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        self.gauge.served.fetch_add(1, Ordering::Relaxed);
        (self.sink)(&self.bucket, self.node, 1);
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serving({} at {})", self.bucket, self.node.short())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.gauge.in_flight.fetch_sub(1, Ordering::Relaxed);
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
