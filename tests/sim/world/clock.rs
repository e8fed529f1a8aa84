//! A machine's clock: wrong by a constant, fast or slow, and set anew now and then.

use std::time::Duration;

/// Wall clock of a right machine at the start of every world.
const UNIX_MS: u64 = 1_790_000_000_000;
const MILLION: i128 = 1_000_000;

/// How a machine's clock differs from the world's time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Milliseconds by which the wall clock is ahead; negative: behind. Changing it while the
    /// machine runs is a jump, which the monotonic clock does not make.
    pub(crate) ahead_ms: i64,
    /// Parts per million by which both clocks run fast; negative: slow. Changed only while the
    /// machine is off.
    pub(crate) drift_ppm: i64,
}

impl Clock {
    fn rate(&self) -> i128 {
        MILLION + i128::from(self.drift_ppm)
    }

    /// What this clock counts while `span` passes in the world.
    pub(super) fn local(&self, span: Duration) -> Duration {
        if self.drift_ppm == 0 {
            return span;
        }
        nanos(i128::try_from(span.as_nanos()).unwrap() * self.rate() / MILLION)
    }

    /// How long the world takes until this clock has counted `span`: never less, or a timer would
    /// fire before it is due.
    pub(super) fn world(&self, span: Duration) -> Duration {
        if self.drift_ppm == 0 {
            return span;
        }
        let scaled = i128::try_from(span.as_nanos()).unwrap() * MILLION;
        nanos((scaled + self.rate() - 1) / self.rate())
    }

    /// What this machine takes for Unix time, milliseconds.
    pub(super) fn unix_ms(&self, time: Duration) -> u64 {
        let passed = u64::try_from(self.local(time).as_millis()).unwrap();
        (UNIX_MS + passed)
            .checked_add_signed(self.ahead_ms)
            .unwrap()
    }
}

fn nanos(count: i128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap())
}
