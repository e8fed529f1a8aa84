//! The table is asked again without anybody who asks: when the next pass begins, and which
//! machines have been unreachable for so long that they go. Time and chance are arguments, and
//! nobody is asked here: that is `service::ip_table`.
//!
//! # How long a machine has been unreachable
//!
//! Only what was found counts: the time between one miss and the next, from the one on that made
//! the machine unreachable. Time in which this machine itself was offline, or in which nobody
//! looked because no daemon ran, is held against nobody. So it is not on disk either: a run of the
//! daemon counts for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, RngExt};

use super::{Place, Row, State};
use crate::mesh::probe::{Undecided, Verdict};

/// A pass never begins sooner after the last one. It is four requests to each machine, and a
/// server that bounds its clients, as warren's own does at ten a second, would refuse more: a
/// machine that is well would count as one that does not answer.
pub const MIN_EVERY: Duration = Duration::from_secs(1);
/// Longest time between two passes. After three of them a dead machine is found out.
pub const MAX_EVERY: Duration = Duration::from_hours(7 * 24);
/// Longest time after which machines go; a daemon seldom runs for longer.
pub const MAX_PRUNE_AFTER: Duration = Duration::from_hours(365 * 24);
/// So much of the time between passes is left to chance, each way: nodes that were started
/// together must not knock together for ever.
const JITTER: f64 = 0.1;

/// How the table is kept fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshPolicy {
    every: Duration,
    prune_after: Option<Duration>,
}

/// Why a policy is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The time between passes is outside [`MIN_EVERY`] and [`MAX_EVERY`].
    #[error("the IP table is refreshed every 1s to 168h (a week), not every {0:?}")]
    Every(Duration),
    /// The time until machines go is outside [`MIN_EVERY`] and [`MAX_PRUNE_AFTER`].
    #[error("machines go after 1s to 8760h (a year) without an answer, not after {0:?}")]
    PruneAfter(Duration),
}

impl RefreshPolicy {
    /// A pass every `every`; machines that were unreachable for `prune_after` go, those that the
    /// user gave excepted. `None` removes nobody.
    ///
    /// # Errors
    /// [`RefreshError`] outside the bounds.
    pub fn new(every: Duration, prune_after: Option<Duration>) -> Result<Self, RefreshError> {
        if !(MIN_EVERY..=MAX_EVERY).contains(&every) {
            return Err(RefreshError::Every(every));
        }
        let bounds = MIN_EVERY..=MAX_PRUNE_AFTER;
        if let Some(after) = prune_after.filter(|after| !bounds.contains(after)) {
            return Err(RefreshError::PruneAfter(after));
        }
        Ok(Self { every, prune_after })
    }

    /// Time between the beginnings of two passes.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// How long a machine is unreachable until it goes; `None` if it stays.
    pub fn prune_after(&self) -> Option<Duration> {
        self.prune_after
    }

    /// When the next pass begins, after one from `began` to `ended`. Passes never meet, however
    /// long they take.
    pub fn next(&self, began: Duration, ended: Duration, rng: &mut impl Rng) -> Duration {
        let chance = rng.random_range(1.0 - JITTER..=1.0 + JITTER);
        (began + self.every.mul_f64(chance)).max(ended + MIN_EVERY)
    }
}

/// How long machines have been unreachable, as far as the passes of this run found. Tell it what
/// came of each machine with [`Silences::note`]; [`Silences::due`] says who may go.
#[derive(Clone, Debug, Default)]
pub struct Silences(BTreeMap<Place, Silence>);

#[derive(Clone, Copy, Debug)]
struct Silence {
    /// The time that counts.
    total: Duration,
    /// The last miss.
    last: Duration,
    /// Misses in a row, with it.
    misses: u32,
    /// This machine itself had no way there since then.
    was_offline: bool,
}

impl Silences {
    /// What came of a machine at `now`; `row` is the machine after that.
    pub fn note(&mut self, now: Duration, row: &Row, verdict: &Verdict) {
        if row.state() != State::Unreachable {
            self.0.remove(&row.place);
            return;
        }
        let known = self.0.get_mut(&row.place);
        match (verdict, known) {
            // A probe that somebody asked for may have reached it meanwhile.
            (Verdict::Missed(_), Some(known)) if row.misses.count > known.misses => {
                if !known.was_offline {
                    known.total += now.saturating_sub(known.last);
                }
                (known.last, known.misses) = (now, row.misses.count);
                known.was_offline = false;
            }
            (Verdict::Missed(_), _) => {
                let begins = Silence {
                    total: Duration::ZERO,
                    last: now,
                    misses: row.misses.count,
                    was_offline: false,
                };
                self.0.insert(row.place.clone(), begins);
            }
            (Verdict::Undecided(Undecided::Offline | Undecided::NoWay(_)), Some(known)) => {
                known.was_offline = true;
            }
            // It had no turn, or is not to be asked: that says nothing of anybody.
            _ => {}
        }
    }

    /// Machines that were unreachable for `after`.
    pub fn due(&self, after: Duration) -> BTreeSet<Place> {
        let due = self.0.iter().filter(|(_, silence)| silence.total >= after);
        due.map(|(place, _)| place.clone()).collect()
    }

    /// Forgets the machines that are not there any more.
    pub fn retain(&mut self, mut is_there: impl FnMut(&Place) -> bool) {
        self.0.retain(|place, _| is_there(place));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::mesh::ip_table::{Misses, Source};
    use crate::mesh::probe::{Found, Miss, Unmeasured};

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn row(misses: u32) -> Row {
        let mut row = Row::new("192.0.2.1".parse().unwrap(), Source::Posted);
        row.misses = Misses {
            count: misses,
            last_ms: 1,
        };
        row
    }

    fn missed() -> Verdict {
        Verdict::Missed(Miss::Refused)
    }

    #[test]
    fn a_policy_has_bounds() {
        for every in [Duration::ZERO, Duration::from_millis(999), secs(604_801)] {
            let refused = RefreshPolicy::new(every, None);
            assert_eq!(refused, Err(RefreshError::Every(every)));
        }
        for after in [Duration::ZERO, secs(31_536_001)] {
            let refused = RefreshPolicy::new(secs(60), Some(after));
            assert_eq!(refused, Err(RefreshError::PruneAfter(after)));
        }
        for (every, after) in [
            (MIN_EVERY, Some(MIN_EVERY)),
            (MAX_EVERY, Some(MAX_PRUNE_AFTER)),
        ] {
            assert!(RefreshPolicy::new(every, after).is_ok());
        }
        let text = RefreshError::Every(Duration::ZERO).to_string();
        assert_eq!(MAX_EVERY, Duration::from_hours(168), "{text}");
        assert_eq!(MAX_PRUNE_AFTER, Duration::from_hours(8760));
    }

    #[test]
    fn an_outage_of_this_machine_is_not_held_against_a_machine_that_is_dead() {
        let mut silences = Silences::default();
        let offline = Verdict::Undecided(Undecided::Offline);
        silences.note(secs(0), &row(3), &missed());
        silences.note(secs(10), &row(4), &missed());
        silences.note(secs(20), &row(4), &offline);
        silences.note(secs(500), &row(5), &missed());
        assert!(silences.due(secs(11)).is_empty(), "the outage was counted");
        assert_eq!(silences.due(secs(10)).len(), 1);
        // A pass without a turn for it does not end its silence.
        let no_turn = Verdict::Undecided(Undecided::OutOfTime);
        silences.note(secs(510), &row(5), &no_turn);
        silences.note(secs(520), &row(6), &missed());
        assert_eq!(silences.due(secs(30)).len(), 1);
    }

    #[test]
    fn who_answered_somebody_else_meanwhile_begins_anew() {
        let mut silences = Silences::default();
        silences.note(secs(0), &row(9), &missed());
        silences.note(secs(100), &row(10), &missed());
        assert_eq!(silences.due(secs(100)).len(), 1);
        silences.note(secs(200), &row(4), &missed());
        assert!(silences.due(secs(1)).is_empty());
        silences.note(secs(250), &row(5), &missed());
        assert_eq!(silences.due(secs(50)).len(), 1);
        silences.retain(|_| false);
        assert!(silences.due(Duration::ZERO).is_empty());
    }

    proptest! {
        #[test]
        fn passes_come_when_they_are_due_and_never_meet(
            every in 1_000_u64..600_000, began in 0_u64..1_000_000, took in 0_u64..1_000_000,
            seed: u64,
        ) {
            let (every, began) = (Duration::from_millis(every), Duration::from_millis(began));
            let ended = began + Duration::from_millis(took);
            let policy = RefreshPolicy::new(every, None).unwrap();
            let next = policy.next(began, ended, &mut SmallRng::seed_from_u64(seed));
            prop_assert!(next >= ended + MIN_EVERY);
            prop_assert!(next >= began + every.mul_f64(0.899));
            prop_assert!(next <= (began + every.mul_f64(1.101)).max(ended + MIN_EVERY));
        }

        /// Against a model that remembers the whole story.
        #[test]
        fn only_time_between_misses_counts(
            story in prop::collection::vec((1_u64..100, 0_u8..4), 0..40),
        ) {
            let found = Found {
                round_trip: None,
                download: Err(Unmeasured::NotAsked),
                upload: Err(Unmeasured::NotAsked),
            };
            let mut silences = Silences::default();
            let (mut now, mut misses) = (0, 0);
            // Since the last answer: when it was missed, `None` for an outage.
            let mut past: Vec<Option<u64>> = Vec::new();
            for (pause, what) in story {
                now += pause;
                let verdict = match what {
                    0 => {
                        misses = 0;
                        past.clear();
                        Verdict::Answered(found.clone())
                    }
                    1 => {
                        past.push(None);
                        Verdict::Undecided(Undecided::Offline)
                    }
                    _ => {
                        misses += 1;
                        past.push(Some(now));
                        missed()
                    }
                };
                silences.note(secs(now), &row(misses), &verdict);
                let third = past.iter().enumerate().filter(|(_, at)| at.is_some()).nth(2);
                let unreachable = third.map_or(&[][..], |(third, _)| &past[third..]);
                let total: u64 = unreachable
                    .windows(2)
                    .filter_map(|two| Some(two[1]? - two[0]?))
                    .sum();
                let is_due = |after| !silences.due(secs(after)).is_empty();
                prop_assert_eq!(is_due(0), !unreachable.is_empty());
                prop_assert_eq!(is_due(total), !unreachable.is_empty());
                prop_assert!(!is_due(total + 1));
            }
        }
    }
}
