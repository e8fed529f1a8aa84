use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const MTU: u16 = 1_400;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A bottleneck with a drop-tail queue, in front of a path that loses packets at random.
struct Path {
    packets_per_ms: f64,
    round_trip: Duration,
    queue: Duration,
    loss: f64,
}

/// A sender that always has something to send.
struct Flow {
    control: Congestion,
    /// Takes every loss for congestion: what others have.
    strict: bool,
    flying: u64,
    arrived: u64,
    lost: u64,
}

impl Flow {
    fn new(strict: bool) -> Self {
        Self {
            control: Congestion::new(MTU),
            strict,
            flying: 0,
            arrived: 0,
            lost: 0,
        }
    }

    fn told(&mut self, now: Duration, sent: Duration, arrived: bool) {
        self.flying -= 1;
        let bytes = u64::from(MTU);
        if arrived {
            self.arrived += 1;
            self.control.acked(now, sent, bytes, false);
            return;
        }
        self.lost += 1;
        let own = self.control.own;
        if self.strict {
            self.control.own = Some(Duration::ZERO);
        }
        self.control.lost(now, sent, bytes, false);
        self.control.own = own;
    }
}

/// What a run came to.
struct Outcome {
    /// Part of the path that each flow had.
    share: Vec<f64>,
    /// Part of each flow's packets that was lost.
    lost: Vec<f64>,
    /// How long packets waited on average.
    waited: Duration,
}

impl Path {
    /// Runs flows for some seconds; the first ones are not counted.
    fn carry(&self, flows: &mut [Flow], seconds: u64) -> Outcome {
        let (warm, end) = (ms(seconds * 250), ms(seconds * 1_000));
        let mut rng = SmallRng::seed_from_u64(7);
        let mut news = BinaryHeap::new();
        let (mut free, mut now) = (Duration::ZERO, Duration::ZERO);
        let (mut waited, mut waits) = (Duration::ZERO, 0_u32);
        let each = Duration::from_secs_f64(1e-3 / self.packets_per_ms);
        let mut before = None;
        while now < end {
            while let Some(Reverse((at, sent, flow, arrived))) = news.peek().copied()
                && at <= now
            {
                news.pop();
                let flow: &mut Flow = &mut flows[flow];
                flow.told(now, sent, arrived);
            }
            if now >= warm && before.is_none() {
                before = Some(flows.iter().map(|flow| flow.arrived).collect::<Vec<_>>());
            }
            // One packet of each in turn, as pacing has it.
            let mut any = true;
            while any {
                any = false;
                for (number, flow) in flows.iter_mut().enumerate() {
                    if (flow.flying + 1) * u64::from(MTU) > flow.control.window() {
                        continue;
                    }
                    any = true;
                    flow.flying += 1;
                    let wait = free.saturating_sub(now);
                    let full = wait > self.queue;
                    if !full {
                        free = free.max(now) + each;
                        (waited, waits) = (waited + wait, waits + 1);
                    }
                    let arrived = !full && !rng.random_bool(self.loss);
                    let late = if arrived { 0 } else { 4 };
                    let told = now + wait + each + self.round_trip + self.round_trip * late / 16;
                    news.push(Reverse((told, now, number, arrived)));
                }
            }
            now += Duration::from_micros(500);
        }
        let before = before.unwrap();
        let whole = (end - warm).as_secs_f64() * 1e3 * self.packets_per_ms;
        let share = flows
            .iter()
            .zip(before)
            .map(|(flow, before)| (flow.arrived - before) as f64 / whole);
        let lost = flows
            .iter()
            .map(|flow| flow.lost as f64 / (flow.lost + flow.arrived) as f64);
        Outcome {
            share: share.collect(),
            lost: lost.collect(),
            waited: waited / waits.max(1),
        }
    }
}

fn long(loss: f64, queue: Duration) -> Path {
    Path {
        packets_per_ms: 10.0,
        round_trip: ms(80),
        queue,
        loss,
    }
}

#[test]
fn a_path_that_loses_packets_is_used_and_its_queue_is_not_filled() {
    let path = long(0.02, ms(50));
    let tolerant = path.carry(&mut [Flow::new(false)], 20);
    assert!(tolerant.share[0] > 0.75, "{}", tolerant.share[0]);
    assert!(tolerant.waited < ms(20), "{:?}", tolerant.waited);
    let strict = path.carry(&mut [Flow::new(true)], 20);
    assert!(
        strict.share[0] < 0.1,
        "loss had no effect: {}",
        strict.share[0]
    );
}

#[test]
fn where_only_a_full_queue_loses_it_shares_with_others() {
    for queue in [ms(20), ms(50), ms(100)] {
        let two = &mut [Flow::new(false), Flow::new(true)];
        let outcome = long(0.0, queue).carry(two, 60);
        let share = &outcome.share;
        assert!(share[0] + share[1] > 0.8, "{queue:?}: {share:?}");
        assert!(share.iter().all(|one| *one > 0.25), "{queue:?}: {share:?}");
    }
}

#[test]
fn where_nothing_waits_what_is_too_much_is_lost_and_that_is_not_much() {
    let outcome = long(0.0, ms(2)).carry(&mut [Flow::new(false)], 40);
    assert!(outcome.share[0] > 0.6, "{}", outcome.share[0]);
    assert!(outcome.lost[0] < TOLERATED, "{}", outcome.lost[0]);
}

#[test]
fn on_a_short_path_every_loss_counts() {
    let mut control = Congestion::new(MTU);
    control.acked(ms(1), ms(1) - SHORT / 2, 1_000, false);
    let before = control.window();
    control.lost(ms(2), ms(1), 1_400, false);
    assert!(control.window() < before);
}

#[test]
fn on_a_short_path_a_batch_is_under_way_and_no_queue() {
    for (round_trip, most) in [(100, 649_288), (900, 1_649_288)] {
        let round_trip = Duration::from_micros(round_trip);
        let (mut control, mut now) = (Congestion::new(MTU), round_trip);
        for _ in 0..10_000 {
            control.acked(now, now - round_trip, 1_400, false);
            now += Duration::from_micros(1);
        }
        assert_eq!(control.window(), most);
    }
}

#[test]
fn a_routers_word_and_persistent_congestion_always_count() {
    let mut control = Congestion::new(MTU);
    control.acked(ms(80), ms(0), 1_400, false);
    let before = control.window();
    control.lost(ms(90), ms(10), 1_400, false);
    assert_eq!(control.window(), before, "one packet on an empty path");
    control.lost(ms(90), ms(10), 0, false);
    assert!(control.window() < before);
    control.lost(ms(200), ms(100), 1_400, true);
    assert_eq!(control.window(), LEAST_PACKETS * u64::from(MTU));
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut control = Congestion::new(MTU);
    let before = control.window();
    for at in 0..100 {
        control.acked(ms(80 + at), ms(at), 1_400, true);
    }
    assert_eq!(control.window(), before);
    control.acked(ms(300), ms(200), 1_400, false);
    assert_eq!(control.window(), before + 1_400);
}

proptest! {
    /// Whatever it is told, it neither panics nor stops sending.
    #[test]
    fn the_window_is_never_less_than_two_packets(
        news in prop::collection::vec((0_u64..200, 0_u64..200, 0_u64..100_000, 0..4), 0..300)
    ) {
        let mut control = Congestion::new(MTU);
        let mut now = ms(0);
        for (step, ago, bytes, kind) in news {
            now += ms(step);
            let sent = now.saturating_sub(ms(ago));
            match kind {
                0 | 1 => control.acked(now, sent, bytes, kind == 1),
                _ => control.lost(now, sent, bytes, kind == 3),
            }
            prop_assert!(control.window() >= 2 * u64::from(MTU));
        }
    }
}
