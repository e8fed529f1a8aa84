//! What systemd is told (sd_notify(3)): ready when usable, one line of state, signs of life.
//! Without a supervisor every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
#[cfg(feature = "p2p")]
use warren::node::Status;

/// The service manager that started this process, if any.
pub(crate) struct Supervisor {
    watchdog: Option<Interval>,
    said: String,
    is_stopping: bool,
}

impl Supervisor {
    /// Reads what the manager asked for in the environment.
    pub(crate) fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| {
            // Twice within the limit, as sd_watchdog_enabled(3) advises.
            let period = (limit / 2).max(Duration::from_millis(1));
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self {
            watchdog,
            said: String::new(),
            is_stopping: false,
        }
    }

    /// Everything that was asked for is bound and watching.
    pub(crate) fn ready(&mut self, line: String) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        self.say(line);
    }

    /// Says how the process is, if that changed.
    fn say(&mut self, line: String) {
        if line != self.said {
            let _ = sd_notify::notify(&[NotifyState::Status(&line)]);
            self.said = line;
        }
    }

    /// Says how the node is, if that changed.
    #[cfg(feature = "p2p")]
    pub(crate) fn status(&mut self, status: &Status) {
        self.say(status_line(status));
        // Asked for through the admin socket, the end begins without this process being told.
        if status.state == "leaving" {
            self.stopping();
        }
    }

    /// The end has begun.
    pub(crate) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
        }
    }

    /// Gives the signs of life that the manager waits for; never ends. It runs on the node's own
    /// thread, so that a node that is stuck gives none.
    pub(crate) async fn keep_alive<T>(&mut self) -> T {
        let Some(ticks) = &mut self.watchdog else {
            return std::future::pending().await;
        };
        loop {
            ticks.tick().await;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

#[cfg(feature = "p2p")]
pub(crate) fn status_line(status: &Status) -> String {
    let network = &status.network;
    let (online, known) = (status.nodes_online, status.nodes_known);
    let roles = status.roles.len();
    let state = &status.state;
    match status.problems.first() {
        Some(problem) => format!(
            "{state}, {online}/{known} nodes, problem: {}",
            problem.message
        ),
        None => format!("{state} in {network}, {online}/{known} nodes online, {roles} roles"),
    }
}
