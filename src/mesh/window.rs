//! How much may wait on a link, each way. Pure.
//!
//! A stream's window is the same on every path, because QUIC fixes it before the path is known:
//! what TCP would have, too. A link's windows follow it. To receive there is room for what every
//! tunnel may leave unread and one more, so that slow readers do not hold up the others; to send
//! there is four times what the path has under way: what was sent is kept until everything before
//! it has arrived, which takes more than another round trip where much is lost, and a window that
//! grows must find something to send.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What one stream may have sent ahead of its reader.
pub const STREAM: u32 = 4 << 20;
/// The least result of [`receive`].
pub const MIN_RECEIVE: u64 = 2 * STREAM as u64;
/// The greatest: more slow readers than these may hold up a link.
pub const MAX_RECEIVE: u64 = STREAMS * STREAM as u64;
const STREAMS: u64 = 8;
/// What waits to be sent on a short path, as on any before it is known.
pub const SHORT_SEND: u64 = 2 * MIB;
/// From here on a path is long.
pub const LONG: Duration = Duration::from_millis(10);
/// Bounds of what waits to be sent on a long one.
const MIN_SEND: u64 = MIB / 4;
const MAX_SEND: u64 = 16 * MIB;
/// What may wait there whatever is under way.
const AHEAD: u64 = MIB / 8;

/// Bytes that the streams of a link with so many tunnels may have sent ahead of their readers.
/// Few values, so that it seldom changes.
pub fn receive(tunnels: usize) -> u64 {
    let streams = u64::try_from(tunnels).unwrap_or(u64::MAX).saturating_add(1);
    let streams = streams.min(STREAMS).next_power_of_two();
    (streams * u64::from(STREAM)).max(MIN_RECEIVE)
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
/// included: all it wants, or what it has.
pub fn grant(held: u64, wanted: u64, used: u64, budget: u64) -> u64 {
    let others = used.saturating_sub(held);
    if wanted <= held || others.saturating_add(wanted) <= budget {
        wanted
    } else {
        held
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
        /// Up to the bound, slow readers leave room for one stream more.
        #[test]
        fn slow_readers_leave_room_for_another(tunnels in 0_usize..100) {
            let room = receive(tunnels);
            let slow = u64::try_from(tunnels).unwrap() * u64::from(STREAM);
            prop_assert!(room >= (slow + u64::from(STREAM)).min(MAX_RECEIVE));
            prop_assert!((MIN_RECEIVE..=MAX_RECEIVE).contains(&room));
            prop_assert!(room <= receive(tunnels + 1));
        }

        /// Whatever links ask for, in whatever order, they never have more than there is.
        #[test]
        fn a_budget_holds(wants in prop::collection::vec((0_usize..8, 0..MAX_RECEIVE), 0..200)) {
            let budget = 4 * MAX_RECEIVE;
            let mut held = [0; 8];
            for (link, wanted) in wants {
                let used = held.iter().sum();
                held[link] = grant(held[link], wanted, used, budget);
                prop_assert!(held.iter().sum::<u64>() <= budget);
            }
        }
    }
}
