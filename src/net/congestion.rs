//! The congestion control of [`crate::mesh::congestion`], as QUIC wants it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn::Connection;
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory};

use crate::mesh::congestion::Congestion;

/// Makes the control of each path.
#[derive(Debug)]
pub(super) struct Tolerant;

impl ControllerFactory for Tolerant {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Control {
            start: now,
            first: Congestion::new(current_mtu).window(),
            path: Congestion::new(current_mtu),
            lifted: Arc::default(),
        })
    }
}

/// Lets `connection` send what it still has to say, however much is under way. Only for one that
/// is closed next: nothing bounds it any more.
pub(super) fn lift(connection: &Connection) {
    let state = connection.congestion_state().into_any();
    if let Ok(control) = state.downcast::<Control>() {
        control.lifted.store(true, Ordering::Release);
    }
}

/// Clones are of one connection and share whether they are lifted.
#[derive(Clone)]
struct Control {
    start: Instant,
    first: u64,
    path: Congestion,
    lifted: Arc<AtomicBool>,
}

impl Control {
    fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }
}

impl Controller for Control {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        let (now, sent) = (self.at(now), self.at(sent));
        self.path.acked(now, sent, bytes, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        let (now, sent) = (self.at(now), self.at(sent));
        self.path
            .lost(now, sent, lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.path.set_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        match self.lifted.load(Ordering::Acquire) {
            // quinn does not pace beyond 32 bits.
            true => u64::MAX,
            false => self.path.window(),
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.first
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
