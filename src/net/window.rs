//! The windows of one link. How wide they are is decided by [`crate::mesh::window`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::clock;
use crate::mesh::window::{self, MIN_RECEIVE, PATIENCE, SHORT_SEND};

/// The first receive window when the budget is used up.
const TIGHT: u64 = 1 << 20;
/// Between two looks at a path that is used, at one whose link has not the room that it needs, and
/// at one on which nothing moves.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_SHORT: Duration = Duration::from_secs(1);
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// Bytes between two looks that make a path used: pings are not.
const BUSY: u64 = 64 << 10;

/// What the windows of all links of a node may be together, beside a tight one for each.
#[derive(Debug)]
pub(super) struct Budget {
    total: u64,
    held: AtomicU64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            held: AtomicU64::new(0),
        }
    }

    /// Takes up to `wanted` in place of `held`; gives what is held then.
    fn take(&self, held: u64, wanted: u64) -> u64 {
        let mut granted = held;
        let order = Ordering::AcqRel;
        let _ = self.held.fetch_update(order, Ordering::Acquire, |used| {
            granted = window::grant(held, wanted, used, self.total);
            Some(used - held + granted)
        });
        granted
    }

    /// What a link has that has just come up.
    fn first(&self) -> u64 {
        let granted = self.take(0, MIN_RECEIVE);
        let missing = TIGHT.saturating_sub(granted);
        self.held.fetch_add(missing, Ordering::AcqRel);
        granted + missing
    }

    fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// What a link may hold. Dropped with it.
pub(super) struct Windows {
    connection: Connection,
    budget: Arc<Budget>,
    held: Mutex<Held>,
    /// Somebody looks at the path.
    looking: AtomicBool,
    begun: Notify,
}

#[derive(Default)]
struct Held {
    /// 0 for one that stays as it is.
    receive: u64,
    send: u64,
    /// What of `send` is beyond every link's own.
    more: u64,
    tunnels: usize,
    /// The slow readers, and since when each has read nothing.
    slow: HashMap<Place, (Instant, Waker)>,
    next: u64,
}

/// Which of the slow readers one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(u64);

impl Held {
    fn wanted(&self) -> u64 {
        window::receive(self.tunnels, self.slow.len())
    }
}

impl Windows {
    /// Windows of a connection whose peer is a member from now on.
    pub(super) fn open(connection: &Connection, budget: Arc<Budget>) -> Self {
        let receive = budget.first();
        let windows = Self::new(connection, budget, receive);
        windows.set_receive(receive);
        windows
    }

    /// Those of a connection that stay as they are.
    pub(super) fn closed(connection: &Connection, budget: Arc<Budget>) -> Self {
        Self::new(connection, budget, 0)
    }

    fn new(connection: &Connection, budget: Arc<Budget>, receive: u64) -> Self {
        Self {
            connection: connection.clone(),
            budget,
            held: Mutex::new(Held {
                receive,
                send: SHORT_SEND,
                ..Held::default()
            }),
            looking: AtomicBool::new(false),
            begun: Notify::new(),
        }
    }

    /// So many tunnels are open now.
    pub(super) fn suit(&self, tunnels: usize) {
        let mut held = self.held();
        held.tunnels = tunnels;
        self.grow(&mut held);
        drop(held);
        if tunnels > 0 && !self.looking.swap(true, Ordering::AcqRel) {
            self.begun.notify_one();
        }
    }

    /// A reader leaves bytes unread, from now on or still; `has_read` tells whether it took some
    /// meanwhile. `None` if it has been given up.
    pub(super) fn wait(
        &self,
        place: Option<Place>,
        has_read: bool,
        cx: &Context<'_>,
    ) -> Option<Place> {
        let mut held = self.held();
        let Some(place) = place else {
            let place = Place(held.next);
            held.next += 1;
            held.slow
                .insert(place, (clock::instant(), cx.waker().clone()));
            if self.grow(&mut held) {
                self.begun.notify_one();
            }
            return Some(place);
        };
        let (since, waker) = held.slow.get_mut(&place)?;
        if has_read {
            *since = clock::instant();
        }
        waker.clone_from(cx.waker());
        Some(place)
    }

    /// A slow reader has read everything, or is gone.
    pub(super) fn caught_up(&self, place: Place) {
        self.held().slow.remove(&place);
    }

    /// Looks at the path while the link is used. Does not end.
    pub(super) async fn follow(&self) {
        loop {
            self.begun.notified().await;
            let (mut pause, mut before) = (LOOK_EVERY, 0);
            while self.looking.load(Ordering::Acquire) {
                // Not sooner than usual, but not later either where there is not enough.
                tokio::time::sleep(LOOK_EVERY).await;
                let _ = timeout(pause - LOOK_EVERY, self.begun.notified()).await;
                let moved = self.look();
                let short = self.make_room();
                pause = match moved.saturating_sub(before) < BUSY {
                    true if short => LOOK_SHORT,
                    true => (pause * 2).min(LOOK_SELDOM),
                    false => LOOK_EVERY,
                };
                before = moved;
                if pause == LOOK_SELDOM {
                    self.rest();
                }
            }
        }
    }

    /// Sets the send window; gives the bytes that have moved so far, either way.
    fn look(&self) -> u64 {
        let stats = self.connection.stats();
        let wanted = window::send(self.connection.rtt(), stats.path.cwnd);
        let mut held = self.held();
        held.more = self
            .budget
            .take(held.more, wanted.saturating_sub(SHORT_SEND));
        let granted = wanted.min(SHORT_SEND) + held.more;
        if granted != held.send {
            held.send = granted;
            self.connection.set_send_window(granted);
        }
        stats.udp_tx.bytes + stats.udp_rx.bytes
    }

    /// Where there is not enough for everybody, gives up who has let the others wait longest.
    /// Whether there is still too little.
    fn make_room(&self) -> bool {
        let mut held = self.held();
        if !self.grow(&mut held) {
            return false;
        }
        let now = clock::instant();
        let readers = held.slow.iter().map(|(place, (since, _))| (*since, *place));
        let mut idle: Vec<_> = readers
            .filter(|(since, _)| now.duration_since(*since) >= PATIENCE)
            .collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (_, place) in idle {
            if let Some((_, waker)) = held.slow.remove(&place) {
                tracing::warn!(
                    "a reader that read nothing was given up: tunnels have no memory left"
                );
                waker.wake();
            }
            if !self.grow(&mut held) {
                return false;
            }
        }
        true
    }

    /// Nothing has moved for some time.
    fn rest(&self) {
        let mut held = self.held();
        let wanted = held.wanted();
        if wanted < held.receive {
            self.resize(&mut held, wanted);
        }
        if held.tunnels == 0 {
            self.looking.store(false, Ordering::Release);
        }
    }

    /// Widens the receive window to what is wanted; whether that is more than there is. It shrinks
    /// later, when nothing moves: requests come and go.
    fn grow(&self, held: &mut Held) -> bool {
        let wanted = held.wanted();
        if held.receive > 0 && wanted > held.receive {
            self.resize(held, wanted);
        }
        0 < held.receive && held.receive < wanted
    }

    fn resize(&self, held: &mut Held, wanted: u64) {
        let granted = self.budget.take(held.receive, wanted);
        if granted != held.receive {
            held.receive = granted;
            self.set_receive(granted);
        }
    }

    fn set_receive(&self, bytes: u64) {
        // Far below what QUIC can say.
        let bytes = VarInt::from_u64(bytes).unwrap_or(VarInt::MAX);
        self.connection.set_receive_window(bytes);
    }

    /// No code panics while it holds this lock.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let held = self.held();
        self.budget.give_back(held.receive + held.more);
    }
}
