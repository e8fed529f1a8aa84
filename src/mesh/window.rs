//! How much may wait on a link, each way. Pure.
//!
//! A stream's window is the same on every path, because QUIC fixes it before the path is known:
//! what TCP would have, too. A link's windows follow it. To receive there is room for all that
//! slow readers may leave unread, and beside it for the others, so that nobody is held up by who
//! does not read; to send there is four times what the path has under way: what was sent is kept
//! until everything before it has arrived, which takes more than another round trip where much is
//! lost, and a window that grows must find something to send.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What one stream may have sent ahead of its reader.
pub const STREAM: u32 = 4 << 20;
/// The least result of [`receive`].
pub const MIN_RECEIVE: u64 = 2 * STREAM as u64;
/// Streams that may be ahead of readers that keep up: these have read most of it already.
const STREAMS: u64 = 8;
/// Room for slow readers comes for so many at once.
const SLOW_STEP: u64 = 4;
/// The least of a budget for all links.
pub const MIN_BUDGET: u64 = 64_000_000;
/// What it is if nobody says.
pub const DEFAULT_BUDGET: u64 = 1_000_000_000;
/// A reader that has left bytes unread for so long is given up, if its link cannot have the room
/// for it and others: before those fail that wait for the answer to a new tunnel.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// What waits to be sent on a short path, as on any before it is known.
pub const SHORT_SEND: u64 = 2 * MIB;
/// From here on a path is long.
pub const LONG: Duration = Duration::from_millis(10);
/// Bounds of what waits to be sent on a long one.
const MIN_SEND: u64 = MIB / 4;
const MAX_SEND: u64 = 16 * MIB;
/// What may wait there whatever is under way.
const AHEAD: u64 = MIB / 8;

/// Bytes that the streams of a link with so many `tunnels` may have sent ahead of their readers,
/// of which `slow` have left some unread. Few values, so that it seldom changes.
pub fn receive(tunnels: usize, slow: usize) -> u64 {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let others = number(tunnels.saturating_sub(slow)).saturating_add(1);
    let others = others.min(STREAMS).next_power_of_two();
    let slow = number(slow).div_ceil(SLOW_STEP).saturating_mul(SLOW_STEP);
    let streams = others.saturating_add(slow);
    streams.saturating_mul(STREAM.into()).max(MIN_RECEIVE)
}

/// Bytes that may wait to be sent, or to be acknowledged, where `window` may be under way.
pub fn send(rtt: Duration, window: u64) -> u64 {
    if rtt < LONG {
        return SHORT_SEND;
    }
    let enough = window.saturating_mul(4).saturating_add(AHEAD);
    enough.clamp(MIN_SEND, MAX_SEND)
}

/// What a link may have of a `budget` for all of them, of which `used` is taken, its own `held`
/// included: what it wants or what is left, and never less than it has.
pub fn grant(held: u64, wanted: u64, used: u64, budget: u64) -> u64 {
    let left = budget.saturating_sub(used.saturating_sub(held));
    match wanted <= held {
        true => wanted,
        false => wanted.min(left).max(held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_path_has_what_is_best_there_whatever_its_window() {
        for window in [0, MIB, 1 << 40] {
            assert_eq!(send(Duration::ZERO, window), SHORT_SEND);
        }
    }

    #[test]
    fn a_long_path_is_never_waited_for_and_a_slow_one_makes_nobody_wait() {
        let long = Duration::from_millis(80);
        assert_eq!(send(long, 2 * MIB), 8 * MIB + AHEAD);
        assert_eq!(send(long, 12_000), MIN_SEND);
        assert_eq!(send(long, u64::MAX), MAX_SEND);
    }

    proptest! {
        /// However many are slow, there is room for one stream more.
        #[test]
        fn slow_readers_leave_room_for_another(tunnels in 0_usize..20_000, part in 0_usize..=100) {
            let slow = tunnels * part / 100;
            let room = receive(tunnels, slow);
            let unread = slow as u64 * u64::from(STREAM);
            prop_assert!(room >= unread + u64::from(STREAM));
            prop_assert!(room <= unread + (STREAMS + SLOW_STEP) * u64::from(STREAM));
            prop_assert!(room <= receive(tunnels + 1, slow));
        }

        /// Whatever links ask for, in whatever order, they never have more than there is.
        #[test]
        fn a_budget_holds(wants in prop::collection::vec((0_usize..8, 0..receive(8, 0)), 0..200)) {
            let budget = 4 * receive(8, 0);
            let mut held = [0; 8];
            for (link, wanted) in wants {
                let used = held.iter().sum();
                held[link] = grant(held[link], wanted, used, budget);
                prop_assert!(held.iter().sum::<u64>() <= budget);
            }
        }
    }
}
