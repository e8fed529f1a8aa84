//! What the net refused, counted by stable reason for `status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counters of one net.
#[derive(Default)]
pub struct Refused(Mutex<BTreeMap<&'static str, u64>>);

impl Refused {
    /// Counts one.
    pub fn count(&self, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    /// All counts now.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }
}
