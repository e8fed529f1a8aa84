//! What every candidate runs on: virtual time, one heap of events, the links, and the notes that
//! the measurements read.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Virtual time since the start of a mesh.
pub(crate) type Micros = u64;

pub(crate) const MS: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

/// One-way latency of a pair of nodes, the same both ways and for the whole run; 50 ms on average.
const PAIR_LATENCY: std::ops::Range<Micros> = 35 * MS..60 * MS;
/// What each packet adds to it.
const JITTER: std::ops::Range<Micros> = 0..5 * MS;

/// Events in the order of their time; events of one time in the order they were put in.
pub(crate) struct Heap<E> {
    due: BinaryHeap<Due<E>>,
    inserted: u64,
}

impl<E> Heap<E> {
    pub(crate) fn new() -> Self {
        Self {
            due: BinaryHeap::new(),
            inserted: 0,
        }
    }

    pub(crate) fn put(&mut self, at: Micros, event: E) {
        self.inserted += 1;
        self.due.push(Due {
            at,
            order: self.inserted,
            event,
        });
    }

    /// The next event that is due at `until` or before.
    pub(crate) fn take(&mut self, until: Micros) -> Option<(Micros, E)> {
        if self.due.peek()?.at > until {
            return None;
        }
        self.due.pop().map(|due| (due.at, due.event))
    }
}

struct Due<E> {
    at: Micros,
    order: u64,
    event: E,
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    /// Reversed, because the heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The network between the nodes: latency, loss, and the count of what was sent.
pub(crate) struct Network {
    rng: SmallRng,
    seed: u64,
    loss: f64,
    /// Bytes on the wire, lost ones included, of all nodes together.
    pub(crate) bytes: u64,
    /// Those of them that kept links and an overlay, and would have been sent without any news.
    pub(crate) upkeep: u64,
    /// How many packets were lost.
    pub(crate) lost: u64,
}

impl Network {
    /// `loss` is the share of packets lost, each for itself.
    pub(crate) fn new(seed: u64, loss: f64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            seed,
            loss,
            bytes: 0,
            upkeep: 0,
            lost: 0,
        }
    }

    /// Counts a packet of `bytes`; how long it takes, or `None` if it is lost.
    pub(crate) fn send(&mut self, from: usize, to: usize, bytes: usize) -> Option<Micros> {
        self.bytes += bytes as u64;
        if self.rng.random_bool(self.loss) {
            self.lost += 1;
            return None;
        }
        Some(self.latency(from, to) + self.rng.random_range(JITTER))
    }

    /// One way between two nodes, without jitter.
    pub(crate) fn latency(&self, a: usize, b: usize) -> Micros {
        let pair = ((a.min(b) as u64) << 32) | a.max(b) as u64;
        SmallRng::seed_from_u64(self.seed ^ pair.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .random_range(PAIR_LATENCY)
    }

    /// Bytes of everything but upkeep.
    pub(crate) fn said(&self) -> u64 {
        self.bytes - self.upkeep
    }

    /// A moment in `span`, for what must not happen on all nodes at once.
    pub(crate) fn phase(&mut self, span: Micros) -> Micros {
        self.rng.random_range(0..span)
    }
}

/// What happened to the one thing that is being measured, and every mistake.
#[derive(Default)]
pub(crate) struct Watch {
    since: Micros,
    /// When each node noticed, by node.
    noticed: Vec<Option<Micros>>,
    /// Whom it is about, while that is a node.
    about: Option<usize>,
    /// Nodes that were declared dead while they lived, and in which incarnation.
    mistakes: HashSet<(usize, u64)>,
}

impl Watch {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            noticed: vec![None; nodes],
            ..Self::default()
        }
    }

    /// From `now` on the nodes that learn that `about` is gone are noted, or, if it is `None`, the
    /// nodes that learn of the newest entry.
    pub(crate) fn begin(&mut self, now: Micros, about: Option<usize>) {
        self.since = now;
        self.about = about;
        self.noticed.fill(None);
    }

    pub(crate) fn has_entry(&mut self, at: Micros, viewer: usize) {
        if self.about.is_none() {
            self.noticed[viewer].get_or_insert(at);
        }
    }

    /// `viewer` no longer counts `about` as a member; `lives` if that is a mistake.
    pub(crate) fn gone(
        &mut self,
        at: Micros,
        viewer: usize,
        about: usize,
        incarnation: u64,
        lives: bool,
    ) {
        if lives {
            self.mistakes.insert((about, incarnation));
        }
        if self.about == Some(about) {
            self.noticed[viewer].get_or_insert(at);
        }
    }

    /// How often a living node was declared dead by one node or more.
    pub(crate) fn mistakes(&self) -> usize {
        self.mistakes.len()
    }

    /// How long it took until all of `viewers` had noticed; `None` if one has not.
    pub(crate) fn took(&self, mut viewers: impl Iterator<Item = usize>) -> Option<Micros> {
        viewers.try_fold(0, |longest, viewer| {
            Some(longest.max(self.noticed[viewer]?.saturating_sub(self.since)))
        })
    }
}
