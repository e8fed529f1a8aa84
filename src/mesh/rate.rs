//! A token bucket whose clock is an argument.

use std::time::Duration;

/// Allows `burst` at once and `per_second` in the long run.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl Rate {
    /// A full bucket.
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            at: Duration::ZERO,
        }
    }

    /// Takes `cost` tokens if they are there.
    pub fn take(&mut self, now: Duration, cost: f64) -> bool {
        let enough = self.has(now, cost);
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    /// Whether `cost` tokens are there; takes none.
    pub fn has(&mut self, now: Duration, cost: f64) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.tokens >= cost
    }

    /// How many whole tokens are there.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates"
    )]
    pub fn whole(&mut self, now: Duration) -> usize {
        self.has(now, 0.0);
        self.tokens as usize
    }

    /// Whether the bucket would be full at `now`: its owner can be forgotten.
    pub fn is_full(&self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens + passed * self.per_second >= self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut rate = Rate::new(10.0, 5.0);
        let at = |ms| Duration::from_millis(ms);
        assert_eq!((0..9).filter(|_| rate.take(at(0), 1.0)).count(), 5);
        assert!(!rate.take(at(50), 1.0));
        assert!(rate.take(at(160), 1.0));
        assert!(rate.is_full(at(10_000)) && !rate.is_full(at(200)));
    }
}
