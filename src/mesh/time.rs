//! Time as an argument.

use std::time::Duration;

/// One reading of both clocks, taken by the driver and handed to every decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, since an arbitrary start. Timers and ages use this.
    pub mono: Duration,
    /// Wall clock, milliseconds since the Unix epoch. Epochs and versions use this; it may jump.
    pub unix_ms: u64,
}

impl Now {
    /// Wall clock in whole seconds since the Unix epoch.
    pub fn unix_s(&self) -> u64 {
        self.unix_ms / 1000
    }
}
