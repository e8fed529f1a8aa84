//! A path in user space: what leaves one TUN device enters the other, as a real path would have it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::Tun;

/// What the bottleneck lets wait. Then it drops what comes.
const QUEUE: Duration = Duration::from_millis(50);
/// How much later than the others a packet comes that is out of order.
const LATER: Duration = Duration::from_millis(5);
/// Packets taken from one device before the other is looked after.
const BATCH: usize = 128;
/// Between two looks whether the path is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Larger than any packet of the devices.
const PACKET: usize = 2048;

/// A kind of path. Both ways are alike.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) mbit_s: u32,
    pub(crate) one_way: Duration,
    /// Part of the packets that is lost.
    pub(crate) loss: f64,
    /// Part of the packets that is overtaken.
    pub(crate) reorder: f64,
}

/// All there are.
pub(crate) const PATHS: &[Path] = &[
    path("lossy", 200, 40, 0.02, 0.02),
    path("long", 200, 40, 0.0, 0.0),
    path("mild", 200, 20, 0.001, 0.0),
    path("near", 1_000, 0, 0.0, 0.0),
];

const fn path(name: &'static str, mbit_s: u32, one_way: u64, loss: f64, reorder: f64) -> Path {
    Path {
        name,
        mbit_s,
        one_way: Duration::from_millis(one_way),
        loss,
        reorder,
    }
}

/// What became of the packets of both ways.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) passed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) reordered: AtomicU64,
    /// Found the queue full.
    pub(crate) dropped: AtomicU64,
}

/// A path between two devices, until it is dropped.
pub(crate) struct Impairer {
    pub(crate) counts: Arc<Counts>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Impairer {
    pub(crate) fn start(path: &'static Path, seed: u64, ends: [Tun; 2]) -> Self {
        let counts = Arc::<Counts>::default();
        let ended = Arc::<AtomicBool>::default();
        let mut relay = Relay {
            path,
            rng: SmallRng::seed_from_u64(seed),
            ends,
            ways: [Way::default(), Way::default()],
            counts: Arc::clone(&counts),
            order: 0,
        };
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                while !ended.load(Ordering::Relaxed) {
                    relay.turn();
                }
            }
        });
        Self {
            counts,
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Impairer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It was a benchmark's thread: that it panicked has been said already.
            let _ = thread.join();
        }
    }
}

/// A packet on its way: when it arrives, then what came first.
type Underway = Reverse<(Instant, u64, Vec<u8>)>;

#[derive(Default)]
struct Way {
    underway: BinaryHeap<Underway>,
    /// When the bottleneck has sent all that waits.
    free: Option<Instant>,
}

struct Relay {
    path: &'static Path,
    rng: SmallRng,
    ends: [Tun; 2],
    ways: [Way; 2],
    counts: Arc<Counts>,
    order: u64,
}

impl Relay {
    /// Takes what came, gives what is due, and waits for more of either.
    fn turn(&mut self) {
        let mut buffer = [0; PACKET];
        let mut more = false;
        for from in [0, 1] {
            let mut taken = 0;
            while taken < BATCH {
                match self.ends[from].recv(&mut buffer) {
                    Ok(len) => self.take(from, &buffer[..len]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // Nothing is there, or the device is not up.
                    Err(_) => break,
                }
                taken += 1;
            }
            more |= taken == BATCH;
        }
        let now = Instant::now();
        for from in [0, 1] {
            while let Some(packet) = self.ways[from].due(now) {
                // What a device does not take is lost, as it would be on a cable.
                let _ = self.ends[1 - from].send(&packet);
            }
        }
        if !more {
            self.wait();
        }
    }

    fn take(&mut self, from: usize, packet: &[u8]) {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let now = Instant::now();
        let way = &mut self.ways[from];
        let start = way.free.unwrap_or(now).max(now);
        if start - now > QUEUE {
            return count(&self.counts.dropped);
        }
        // A megabit per second is a bit per microsecond.
        let bits = packet.len() as f64 * 8.0;
        let sent = start + Duration::from_secs_f64(bits / f64::from(self.path.mbit_s) / 1e6);
        way.free = Some(sent);
        if self.rng.random_bool(self.path.loss) {
            return count(&self.counts.lost);
        }
        let mut due = sent + self.path.one_way;
        if self.rng.random_bool(self.path.reorder) {
            count(&self.counts.reordered);
            due += LATER;
        }
        count(&self.counts.passed);
        self.order += 1;
        let underway = (due, self.order, packet.to_vec());
        way.underway.push(Reverse(underway));
    }

    fn wait(&self) {
        let next = self.ways.iter().filter_map(|way| way.underway.peek());
        let next = next.map(|Reverse((due, ..))| *due).min();
        let wait = next.map_or(LOOK_EVERY, |due| {
            due.saturating_duration_since(Instant::now())
        });
        let wait = wait.min(LOOK_EVERY);
        let mut both = [0, 1].map(|end| PollFd::new(&self.ends[end], PollFlags::IN));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait.subsec_nanos().into(),
        };
        // However it ends, the next turn looks.
        let _ = poll(&mut both, Some(&timeout));
    }
}

impl Way {
    fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let Reverse((due, ..)) = self.underway.peek()?;
        if *due > now {
            return None;
        }
        self.underway.pop().map(|Reverse((_, _, packet))| packet)
    }
}
