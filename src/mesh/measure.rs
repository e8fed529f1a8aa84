//! What a measurement of the way to another machine is, worked out from samples that are given
//! as arguments. One definition for `warren bench`, the IP table and the choice of a relay:
//!
//! - *latency* is a round trip on a connection that is already open; of several the least counts,
//!   and the median is kept beside it;
//! - *throughput* is bytes × 8 / 10⁶ / seconds (Mbit/s) of bytes that the receiver counted, from
//!   its first to its last byte: the setting up of the connection is not in it. A transfer ends
//!   at a number of bytes or after a time, whichever comes first;
//! - what was not measured is `None`. Nothing here ever says 0.
//!
//! Opens nothing and reads no clock: `now` is an argument. [`wire`] has the bytes of a measuring
//! stream, [`guests`] decides whom a node measures with.

pub mod guests;
pub mod wire;

use std::time::Duration;

/// Shorter than this, clocks and buffers are measured, not the way.
const MIN_ELAPSED: Duration = Duration::from_millis(1);

/// Where a transfer ends: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, one way.
    pub bytes: u64,
    /// Time from the receiver's first byte.
    pub time: Duration,
}

impl Limits {
    /// What a node serves at most: it is another's disk, memory and line.
    pub const MAX: Self = Self {
        bytes: 4_000_000_000,
        time: Duration::from_secs(30),
    };

    /// The lesser of both limits.
    pub fn within(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            time: self.time.min(other.time),
        }
    }
}

/// Several round trips over a warm connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The least: what the way takes when nothing else is in it.
    pub min: Duration,
    /// The one in the middle; of an even number the mean of the two in the middle.
    pub median: Duration,
    /// How many there were.
    pub samples: usize,
}

impl RoundTrip {
    /// Of at least one sample; `None` without.
    pub fn of(samples: &[Duration]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len() % 2 {
            0 => (sorted.get(middle.checked_sub(1)?)?).saturating_add(upper) / 2,
            _ => upper,
        };
        Some(Self {
            min: *sorted.first()?,
            median,
            samples: sorted.len(),
        })
    }
}

/// Packets that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Packets sent; at least one.
    pub sent: u64,
    /// How many of them were lost; at most all.
    pub lost: u64,
}

impl Loss {
    /// `None` if nothing was sent.
    pub fn of(sent: u64, lost: u64) -> Option<Self> {
        (sent > 0).then(|| Self {
            sent,
            lost: lost.min(sent),
        })
    }

    /// From 0 to 1.
    #[allow(clippy::cast_precision_loss)] // 2⁵³ packets are not sent in 30 s
    pub fn ratio(&self) -> f64 {
        self.lost as f64 / self.sent as f64
    }
}

/// Bytes that arrived, and how long that took. Both are greater than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    bytes: u64,
    elapsed: Duration,
}

impl Throughput {
    /// `None` if no byte arrived, or too quickly to tell.
    pub fn of(bytes: u64, elapsed: Duration) -> Option<Self> {
        (bytes > 0 && elapsed >= MIN_ELAPSED).then_some(Self { bytes, elapsed })
    }

    /// Bytes, counted at the receiver.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long they took to come.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Mbit/s: bytes × 8 / 10⁶ / seconds.
    #[allow(clippy::cast_precision_loss)] // a relative error of 2⁻⁵³
    pub fn mbps(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.elapsed.as_secs_f64()
    }
}

/// All that is known of the way to one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measurement {
    /// There and back.
    pub round_trip: Option<RoundTrip>,
    /// From there to here.
    pub download: Option<Throughput>,
    /// From here to there.
    pub upload: Option<Throughput>,
}

impl Measurement {
    /// The latency in milliseconds: the least round trip.
    pub fn latency_ms(&self) -> Option<f64> {
        let least = self.round_trip.map(|trip| trip.min);
        least.map(|least| least.as_secs_f64() * 1000.0)
    }

    /// From there to here in Mbit/s.
    pub fn download_mbps(&self) -> Option<f64> {
        self.download.map(|download| download.mbps())
    }

    /// From here to there in Mbit/s.
    pub fn upload_mbps(&self) -> Option<f64> {
        self.upload.map(|upload| upload.mbps())
    }
}

/// Counts at the receiver. Call [`arrived`](Self::arrived) for each piece, and
/// [`cut`](Self::cut) when the time is over; then [`throughput`](Self::throughput).
#[derive(Clone, Debug)]
pub struct Counter {
    limits: Limits,
    /// When the first piece arrived, and how much it was: it came before the clock ran.
    first: Option<(Duration, u64)>,
    total: u64,
    last: Duration,
}

impl Counter {
    /// Nothing has arrived yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            first: None,
            total: 0,
            last: Duration::ZERO,
        }
    }

    /// Takes note of `bytes` that arrived. Whether more are wanted.
    pub fn arrived(&mut self, now: Duration, bytes: u64) -> bool {
        self.total = self.total.saturating_add(bytes);
        self.last = self.last.max(now);
        if self.first.is_none() && bytes > 0 {
            self.first = Some((now, bytes));
        }
        self.total < self.limits.bytes && self.ends().is_none_or(|end| now < end)
    }

    /// The transfer was stopped at `now` although it was not complete: the time until then counts,
    /// or a sender that fell silent would look fast.
    pub fn cut(&mut self, now: Duration) {
        self.last = self.last.max(now);
    }

    /// When the time is over; `None` before the first byte.
    pub fn ends(&self) -> Option<Duration> {
        let (start, _) = self.first?;
        Some(start.saturating_add(self.limits.time))
    }

    /// All bytes that arrived.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes after the first piece and the time in which they came.
    pub fn counted(&self) -> (u64, Duration) {
        let (start, bytes) = self.first.unwrap_or_default();
        let elapsed = self.last.saturating_sub(start);
        (self.total.saturating_sub(bytes), elapsed)
    }

    /// The result; `None` if too little arrived to tell.
    pub fn throughput(&self) -> Option<Throughput> {
        let (bytes, elapsed) = self.counted();
        Throughput::of(bytes, elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOMY: Limits = Limits::MAX;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_megabyte_in_a_second_is_eight_megabits() {
        let measured = Throughput::of(1_000_000, ms(1000)).unwrap();
        assert!((measured.mbps() - 8.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_measured_is_unknown_and_never_nothing() {
        assert_eq!(RoundTrip::of(&[]), None);
        assert_eq!(Throughput::of(0, ms(1000)), None);
        assert_eq!(Throughput::of(5000, Duration::ZERO), None);
        assert_eq!(Loss::of(0, 0), None);
        let mut counter = Counter::new(ROOMY);
        assert_eq!(counter.throughput(), None);
        counter.arrived(ms(7), 1_000_000);
        assert_eq!(
            counter.throughput(),
            None,
            "one piece says nothing of speed"
        );
        assert_eq!(Measurement::default().latency_ms(), None);
    }

    #[test]
    fn the_first_piece_starts_the_clock_and_a_stop_ends_it() {
        let mut counter = Counter::new(Limits {
            bytes: 10_000,
            time: ms(100),
        });
        assert_eq!(counter.ends(), None);
        assert!(counter.arrived(ms(50), 1000));
        assert_eq!(counter.ends(), Some(ms(150)));
        assert!(counter.arrived(ms(60), 4000));
        // Nothing more comes. Until the stop it is 4,000 bytes in 100 ms, not in 10.
        counter.cut(ms(150));
        assert_eq!(counter.counted(), (4000, ms(100)));
    }

    #[test]
    fn bytes_or_time_end_it() {
        let limits = Limits {
            bytes: 100,
            time: ms(10),
        };
        let mut counter = Counter::new(limits);
        assert!(counter.arrived(ms(0), 60));
        assert!(!counter.arrived(ms(1), 40));
        let mut counter = Counter::new(limits);
        assert!(counter.arrived(ms(0), 1));
        assert!(!counter.arrived(ms(10), 1));
    }

    proptest! {
        #[test]
        fn the_median_lies_between_least_and_most(
            samples in prop::collection::vec(0..10_000_000_u64, 1..40),
        ) {
            let samples: Vec<_> = samples.into_iter().map(Duration::from_micros).collect();
            let trip = RoundTrip::of(&samples).unwrap();
            prop_assert_eq!(Some(&trip.min), samples.iter().min());
            prop_assert!(trip.median >= trip.min);
            prop_assert!(Some(&trip.median) <= samples.iter().max());
            prop_assert_eq!(trip.samples, samples.len());
            let below = samples.iter().filter(|sample| **sample < trip.median).count();
            let above = samples.iter().filter(|sample| **sample > trip.median).count();
            prop_assert!(below * 2 <= samples.len() && above * 2 <= samples.len());
        }

        /// However a steady stream is cut into pieces, its rate is found.
        #[test]
        fn a_steady_stream_has_its_rate(
            rate in 1_000..2_000_000_000_u64,
            gaps in prop::collection::vec(1_000..200_000_u64, 2..60),
        ) {
            let mut counter = Counter::new(Limits { bytes: u64::MAX, time: Duration::MAX });
            let (mut at, mut sent) = (0_u64, 0_u64);
            counter.arrived(Duration::ZERO, 1);
            for gap in gaps {
                at += gap;
                let due = u64::try_from(u128::from(at) * u128::from(rate) / 1_000_000).unwrap();
                counter.arrived(Duration::from_micros(at), due - sent);
                sent = due;
            }
            let mbps = counter.throughput().map(|found| found.mbps());
            let true_mbps = rate as f64 * 8.0 / 1e6;
            // One byte more or less, by rounding.
            let slack = 8.0 / at as f64 + true_mbps * 1e-9;
            if sent > 0 {
                prop_assert!((mbps.unwrap() - true_mbps).abs() <= slack, "{mbps:?} {true_mbps}");
            }
        }

        #[test]
        fn any_order_of_calls_gives_unknown_or_a_finite_speed(
            limits in (1..u64::MAX, 0..u64::MAX),
            calls in prop::collection::vec((0..u64::MAX, 0..u64::MAX, any::<bool>()), 0..20),
        ) {
            let time = Duration::from_nanos(limits.1);
            let mut counter = Counter::new(Limits { bytes: limits.0, time });
            for (now, bytes, stop) in calls {
                let now = Duration::from_nanos(now);
                if stop { counter.cut(now) } else { counter.arrived(now, bytes); }
            }
            if let Some(found) = counter.throughput() {
                prop_assert!(found.mbps().is_finite() && found.mbps() > 0.0);
            }
        }
    }
}
