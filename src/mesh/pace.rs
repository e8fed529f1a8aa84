//! How datagrams share a link with streams. Pure: `now` is an argument.
//!
//! QUIC puts datagrams into a packet before anything else, so datagrams that come faster than the
//! path takes them would leave nothing for streams, not even for the link's own frames. While the
//! path keeps up nothing is held back; when the queue has overflowed it is let run empty, and
//! streams have the path for half as long as that took.

use std::time::Duration;

/// What waits for the path in this time may wait: more would make every stream wait for longer.
const AHEAD: Duration = Duration::from_millis(20);
/// Bytes that may wait on the slowest path, and on the fastest.
const MIN_QUEUE: usize = 16 << 10;
/// The greatest result of [`queue`].
pub const MAX_QUEUE: usize = 256 << 10;
/// Streams have the path to themselves for at most this long at once.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Whether datagrams of one link may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// The path keeps up.
    #[default]
    Open,
    /// It did not; what waits goes first.
    Draining {
        /// When the queue overflowed.
        since: Duration,
    },
    /// Streams have the path.
    Paused {
        /// Until then.
        until: Duration,
    },
}

impl Pace {
    /// Whether a datagram of `len` bytes may join the `waiting` ones, of which there may be
    /// `queue` bytes.
    pub fn admits(&mut self, now: Duration, waiting: usize, len: usize, queue: usize) -> bool {
        if let Self::Draining { since } = *self
            && waiting == 0
        {
            let pause = (now.saturating_sub(since) / 2).min(MAX_PAUSE);
            *self = Self::Paused { until: now + pause };
        }
        match *self {
            Self::Draining { .. } => return false,
            Self::Paused { until } if now < until => return false,
            Self::Open | Self::Paused { .. } => *self = Self::Open,
        }
        let fits = waiting + len <= queue;
        if !fits && waiting > 0 {
            *self = Self::Draining { since: now };
        }
        fits
    }
}

/// Bytes of datagrams that may wait on a path with this window and this round trip.
pub fn queue(window: u64, rtt: Duration) -> usize {
    let rtt = rtt.max(Duration::from_micros(1));
    let per_second = window as f64 / rtt.as_secs_f64();
    let bytes = per_second * AHEAD.as_secs_f64();
    // As many as there are; a cast of too many gives the greatest number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (bytes as usize).clamp(MIN_QUEUE, MAX_QUEUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_path_that_keeps_up_is_never_paused() {
        let mut pace = Pace::default();
        assert!((0..1_000).all(|ms| pace.admits(at(ms), 500, 500, 1_000)));
    }

    #[test]
    fn after_an_overflow_the_queue_runs_empty_and_streams_have_half_of_that_time() {
        let mut pace = Pace::default();
        assert!(!pace.admits(at(0), 900, 200, 1_000));
        assert!(!pace.admits(at(10), 100, 1, 1_000), "it is not empty yet");
        assert!(!pace.admits(at(20), 0, 1, 1_000), "now streams have it");
        assert!(!pace.admits(at(29), 0, 1, 1_000));
        assert!(pace.admits(at(30), 0, 1, 1_000));
        assert_eq!(pace, Pace::Open);
    }

    #[test]
    fn the_queue_follows_the_path_within_bounds() {
        assert_eq!(queue(10_000, Duration::from_secs(1)), MIN_QUEUE);
        assert_eq!(queue(1 << 40, Duration::ZERO), MAX_QUEUE);
        assert_eq!(queue(100_000, at(50)), 40_000);
    }

    proptest! {
        /// A queue of this rate, flooded: streams get at least a quarter of the time.
        #[test]
        fn a_flood_leaves_streams_their_part(rate in 1_000_usize..100_000, len in 1_usize..6_000) {
            let (mut pace, mut waiting, mut idle) = (Pace::default(), 0_usize, 0);
            let per_ms = rate.div_ceil(10);
            for ms in 0..10_000 {
                while pace.admits(at(ms), waiting, len, MIN_QUEUE) {
                    waiting += len;
                }
                idle += usize::from(waiting < per_ms);
                waiting = waiting.saturating_sub(per_ms);
            }
            prop_assert!(idle >= 2_000, "{idle} of 10,000");
        }
    }
}
