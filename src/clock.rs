//! The only file that reads a clock for decisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::mesh::time::Now;

/// The monotonic clock as timers use it. Tests that pause tokio's time move it.
pub fn instant() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// The moment `after` from now, for timers that span several awaits.
pub fn deadline(after: Duration) -> tokio::time::Instant {
    instant() + after
}

/// Reads both clocks. Clones share the offset, so a test can move a whole node in time.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    offset_ms: Arc<AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::with_offset_ms(0)
    }
}

impl Clock {
    /// A clock whose wall time is `offset_ms` milliseconds ahead of the machine's.
    pub fn with_offset_ms(offset_ms: i64) -> Self {
        Self {
            start: Instant::now(),
            offset_ms: Arc::new(AtomicI64::new(offset_ms)),
        }
    }

    /// Moves the wall clock of this clock and all its clones; the monotonic part is untouched.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Both clocks, now. A wall clock before 1970 reads as 0.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let wall_ms = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        let unix_ms = wall_ms.saturating_add(self.offset_ms.load(Ordering::Relaxed));
        Now {
            mono: self.start.elapsed(),
            unix_ms: u64::try_from(unix_ms).unwrap_or(0),
        }
    }

    /// The [`Instant`] at which the monotonic part of this clock will read `mono`.
    pub fn instant_at(&self, mono: Duration) -> Instant {
        self.start + mono
    }
}
