//! How much may be under way on a path: CUBIC (RFC 9438) that does not take every loss for a full
//! queue. Pure: times are spans since any fixed moment.
//!
//! CUBIC halves its speed, nearly, for each packet that a radio or a poor cable loses, and is left
//! with some 10 packets per round trip where 2 % are lost. But a full queue shows before it drops:
//! round trips become longer. So a loss counts only
//! - while even the shortest round trip of late is longer than the path's own by [`queue_limit`],
//! - or when more than [`TOLERATED`] is lost: a queue too short to be seen, a policer,
//! - or on a path shorter than [`SHORT`], where a queue cannot be told from a busy machine.
//!
//! Beside TCP on a path that loses nothing every loss is one of a full queue, so that both share as
//! two of CUBIC do. The path's own round trip never grows: after a change to a longer way every
//! loss counts, which is CUBIC. Slow start also ends when the queue shows (as RFC 9406 has it).
//!
//! On a short path what is under way waits at the other node, which is as busy as this one: all that
//! fits into its socket's buffer, and a request behind megabytes. There it is bounded: by what a
//! fast link carries in a round trip, and what makes large batches.
//!
//! What else there was, by `benches/path.rs` on 200 Mbit/s and 80 ms with one stream:
//! - The kernel's CUBIC has 1.5 Mbit/s where 2 % is lost, this 80 to 100.
//! - quinn's BBR (the first version, marked experimental) has 90 there, but pays no heed to what it
//!   loses by itself: for two packets that arrived the full queue dropped one. Where nothing else
//!   is lost it has 125 to 140, and this 150 to 165. It takes the rate from the space between two
//!   acknowledgements, and quinn does not pace by what it finds.
//! - Beside TCP's CUBIC on a path that loses nothing, this has between two and three of five parts.

use std::time::Duration;

/// What is left of the window after a loss that counts (RFC 9438 §4.6).
const BETA: f64 = 0.7;
/// How steeply the window comes back (RFC 9438 §4.1).
const C: f64 = 0.4;
/// Part of what was sent that may be lost without being the sender's fault.
pub const TOLERATED: f64 = 0.05;
/// So many packets more: one of ten is not yet a tenth.
const TOLERATED_PACKETS: u64 = 4;
/// Packets after which losses are counted anew, at the end of a round trip.
const COUNTED: u64 = 128;
/// Below this round trip every loss counts.
pub const SHORT: Duration = Duration::from_millis(1);
/// Most that may be under way there: so many bytes, and so many more for each microsecond of the
/// round trip (10 Gbit/s).
const SHORT_WINDOW: u64 = 512 << 10;
const SHORT_RATE: u128 = 1_250;
/// Bounds of the queue that is one (RFC 9406 §4.3).
const MIN_QUEUE: Duration = Duration::from_millis(4);
const MAX_QUEUE: Duration = Duration::from_millis(16);
/// Round trips seen before the shortest of them says something.
const SAMPLES: u32 = 8;
/// Packets of the first window (RFC 6928), and of the smallest.
const FIRST_PACKETS: u64 = 10;
const LEAST_PACKETS: u64 = 2;
/// The greatest growth in one round trip (RFC 9438 §4.4).
const MAX_GROWTH: f64 = 1.5;

/// How much longer than its own the round trips of a path are when its queue stands.
pub fn queue_limit(own: Duration) -> Duration {
    (own / 8).clamp(MIN_QUEUE, MAX_QUEUE)
}

/// The window of one path.
#[derive(Clone, Debug)]
pub struct Congestion {
    mtu: u64,
    window: f64,
    /// Below it the window doubles each round trip.
    threshold: f64,
    /// It was found without a loss, by a queue that may go away again.
    guessed: bool,
    /// What was sent before the last loss that counted says nothing more.
    reduced: Option<Duration>,
    epoch: Option<Epoch>,
    /// The application has had nothing to send since then.
    idle: Option<Duration>,
    /// The path's own round trip: the shortest there was.
    own: Option<Duration>,
    round: Round,
    /// The shortest of the round trip before.
    before: Option<Duration>,
    acked: u64,
    lost: u64,
}

/// A stretch of growth without loss.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Duration,
    /// The window to come back to.
    goal: f64,
    /// Seconds until it is there.
    k: f64,
    /// What Reno's window would be by now.
    reno: f64,
}

/// One round trip: it ends when something is acknowledged that was sent in it.
#[derive(Clone, Copy, Debug)]
struct Round {
    start: Duration,
    shortest: Duration,
    samples: u32,
}

impl Round {
    fn new(start: Duration) -> Self {
        Self {
            start,
            shortest: Duration::MAX,
            samples: 0,
        }
    }

    /// The shortest, if that says something.
    fn known(&self) -> Option<Duration> {
        (self.samples >= SAMPLES).then_some(self.shortest)
    }
}

impl Congestion {
    /// For packets of `mtu` bytes, of which nothing is known yet.
    pub fn new(mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            window: (FIRST_PACKETS * mtu) as f64,
            threshold: f64::INFINITY,
            guessed: false,
            reduced: None,
            epoch: None,
            idle: None,
            own: None,
            round: Round::new(Duration::ZERO),
            before: None,
            acked: 0,
            lost: 0,
        }
    }

    /// Bytes that may be under way.
    pub fn window(&self) -> u64 {
        // A window has far fewer bytes than an f64 counts.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let window = self.window as u64;
        window.max(self.least())
    }

    /// Bytes below which the window doubles each round trip, once there was a reason.
    pub fn threshold(&self) -> Option<u64> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.threshold.is_finite().then_some(self.threshold as u64)
    }

    /// Packets have another size from now on.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.window.max(self.least() as f64);
    }

    /// A packet arrived. `idle`: there was nothing more to send; a window that is not used does
    /// not grow.
    pub fn acked(&mut self, now: Duration, sent: Duration, bytes: u64, idle: bool) {
        self.look(now, sent, idle);
        self.acked += bytes;
        if idle {
            self.idle.get_or_insert(now);
            return;
        }
        if let (Some(since), Some(epoch)) = (self.idle.take(), &mut self.epoch) {
            epoch.start += now.saturating_sub(since);
        }
        if self.reduced.is_some_and(|reduced| sent <= reduced) {
            return;
        }
        if self.guessed && self.round.known().is_some() && !self.has_queue() {
            (self.guessed, self.threshold) = (false, f64::INFINITY);
            self.epoch = None;
        }
        if self.window >= self.threshold {
            self.avoid(now, bytes);
        } else if self.has_queue() {
            self.guessed = self.threshold.is_infinite();
            self.threshold = self.window;
        } else {
            self.window += bytes as f64;
        }
        self.window = self.window.min(self.most());
    }

    /// Packets were lost, the last of which was `sent` then. `bytes` is 0 if none was, but a
    /// router says that its queue is full. `persistent`: nothing has arrived for several round trips.
    pub fn lost(&mut self, now: Duration, sent: Duration, bytes: u64, persistent: bool) {
        self.lost += bytes;
        if self.reduced.is_some_and(|reduced| sent <= reduced) {
            return;
        }
        if bytes > 0 && !persistent && !self.counts() {
            return;
        }
        let least = self.least() as f64;
        let before = self.window;
        // Fast convergence (RFC 9438 §4.7): who comes back smaller leaves room.
        let smaller = self.epoch.is_some_and(|epoch| before < epoch.goal);
        let goal = if smaller {
            before * (1.0 + BETA) / 2.0
        } else {
            before
        };
        self.window = (before * BETA).max(least);
        (self.guessed, self.threshold) = (false, self.window);
        self.reduced = Some(now);
        self.epoch = Some(self.epoch(now, goal));
        if persistent {
            self.window = least;
            self.reduced = None;
            self.epoch = None;
        }
        (self.acked, self.lost) = (0, 0);
    }

    /// Learns from a round trip. One that was `idle` may be longer than the path: who gets little
    /// acknowledges late.
    fn look(&mut self, now: Duration, sent: Duration, idle: bool) {
        let took = now.saturating_sub(sent);
        self.own = Some(self.own.map_or(took, |own| own.min(took)));
        if sent >= self.round.start {
            self.before = self.round.known();
            self.round = Round::new(now);
            if self.acked + self.lost > COUNTED * self.mtu {
                (self.acked, self.lost) = (0, 0);
            }
        }
        if !idle {
            self.round.shortest = self.round.shortest.min(took);
            self.round.samples += 1;
        }
    }

    /// Whether a loss is a sign of too much.
    fn counts(&self) -> bool {
        let sent = (self.acked + self.lost) as f64;
        let tolerated = sent * TOLERATED + (TOLERATED_PACKETS * self.mtu) as f64;
        self.own.is_none_or(|own| own < SHORT) || self.has_queue() || self.lost as f64 > tolerated
    }

    /// Whether the path's queue has stood for about a round trip.
    fn has_queue(&self) -> bool {
        let late = self.round.known().or(self.before);
        let longer = |(late, own): (Duration, Duration)| late > own + queue_limit(own);
        late.zip(self.own).is_some_and(longer)
    }

    /// Congestion avoidance (RFC 9438 §4.2 to §4.5), in bytes.
    fn avoid(&mut self, now: Duration, bytes: u64) {
        let epoch = self.epoch.unwrap_or_else(|| self.epoch(now, self.window));
        let ahead = now.saturating_sub(epoch.start) + self.own.unwrap_or_default();
        let mtu = self.mtu as f64;
        let cubic = epoch.goal + C * (ahead.as_secs_f64() - epoch.k).powi(3) * mtu;
        let part = bytes as f64 / self.window;
        let target = cubic.clamp(self.window, self.window * MAX_GROWTH);
        self.window += (target - self.window) * part;
        let pace = if epoch.reno < epoch.goal {
            3.0 * (1.0 - BETA) / (1.0 + BETA)
        } else {
            1.0
        };
        let reno = epoch.reno + pace * part * mtu;
        self.window = self.window.max(reno);
        self.epoch = Some(Epoch { reno, ..epoch });
    }

    fn epoch(&self, now: Duration, goal: f64) -> Epoch {
        let missing = (goal - self.window).max(0.0) / self.mtu as f64;
        Epoch {
            start: now,
            goal,
            k: (missing / C).cbrt(),
            reno: self.window,
        }
    }

    /// The largest window of the path.
    fn most(&self) -> f64 {
        let own = self.own.filter(|own| *own < SHORT);
        own.map_or(f64::INFINITY, |own| {
            (u128::from(SHORT_WINDOW) + own.as_micros() * SHORT_RATE) as f64
        })
    }

    fn least(&self) -> u64 {
        LEAST_PACKETS * self.mtu
    }
}

#[cfg(test)]
mod tests;
