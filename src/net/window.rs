//! The windows of one link. How wide they are is decided by [`crate::mesh::window`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::Notify;

use crate::mesh::window::{self, MIN_RECEIVE, SHORT_SEND};

/// The first receive window when the process's budget is used up.
const TIGHT: u64 = 1 << 20;
/// What the windows of all links may be together, beside a tight one for each.
const PROCESS_BUDGET: u64 = 1 << 30;
/// Between two looks at a path that is used, and at one on which nothing moves.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// Bytes between two looks that make a path used: pings are not.
const BUSY: u64 = 64 << 10;

static HELD: AtomicU64 = AtomicU64::new(0);

/// What a link may hold. Dropped with it.
pub(super) struct Windows {
    connection: Connection,
    held: Mutex<Held>,
    /// Somebody looks at the path.
    looking: AtomicBool,
    begun: Notify,
}

struct Held {
    receive: u64,
    send: u64,
    /// What of `send` is beyond every link's own.
    more: u64,
    tunnels: usize,
}

impl Windows {
    /// Windows of a connection whose peer is a member from now on.
    pub(super) fn open(connection: &Connection) -> Self {
        let windows = Self::closed(connection);
        let mut held = windows.held();
        held.receive = take(0, MIN_RECEIVE).max(TIGHT);
        if held.receive == TIGHT {
            HELD.fetch_add(TIGHT, Ordering::AcqRel);
        }
        windows.set_receive(held.receive);
        drop(held);
        windows
    }

    /// Those of a connection that stay as they are.
    pub(super) fn closed(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            held: Mutex::new(Held {
                receive: 0,
                send: SHORT_SEND,
                more: 0,
                tunnels: 0,
            }),
            looking: AtomicBool::new(false),
            begun: Notify::new(),
        }
    }

    /// So many tunnels are open now.
    pub(super) fn suit(&self, tunnels: usize) {
        let mut held = self.held();
        held.tunnels = tunnels;
        let wanted = window::receive(tunnels);
        // It shrinks later, when nothing moves: requests come and go.
        if held.receive > 0 && wanted > held.receive {
            self.resize(&mut held, wanted);
        }
        drop(held);
        if tunnels > 0 && !self.looking.swap(true, Ordering::AcqRel) {
            self.begun.notify_one();
        }
    }

    /// Looks at the path while the link is used. Does not end.
    pub(super) async fn follow(&self) {
        loop {
            self.begun.notified().await;
            let (mut pause, mut before) = (LOOK_EVERY, 0);
            while self.looking.load(Ordering::Acquire) {
                tokio::time::sleep(pause).await;
                let moved = self.look();
                pause = match moved.saturating_sub(before) < BUSY {
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
        held.more = take(held.more, wanted.saturating_sub(SHORT_SEND));
        let granted = wanted.min(SHORT_SEND) + held.more;
        if granted != held.send {
            held.send = granted;
            self.connection.set_send_window(granted);
        }
        stats.udp_tx.bytes + stats.udp_rx.bytes
    }

    /// Nothing has moved for some time.
    fn rest(&self) {
        let mut held = self.held();
        let wanted = window::receive(held.tunnels);
        if wanted < held.receive {
            self.resize(&mut held, wanted);
        }
        if held.tunnels == 0 {
            self.looking.store(false, Ordering::Release);
        }
    }

    fn resize(&self, held: &mut Held, wanted: u64) {
        let granted = take(held.receive, wanted);
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
        HELD.fetch_sub(held.receive + held.more, Ordering::AcqRel);
    }
}

/// Takes `wanted` of the budget in place of `held`; gives what is held then.
fn take(held: u64, wanted: u64) -> u64 {
    let mut granted = held;
    let order = Ordering::AcqRel;
    let _ = HELD.fetch_update(order, Ordering::Acquire, |used| {
        granted = window::grant(held, wanted, used, PROCESS_BUDGET);
        Some(used - held + granted)
    });
    granted
}
