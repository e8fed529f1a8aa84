//! The accept loop: lets each knock in once, within limits (security.md §3.6).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connecting, Endpoint, Incoming};
use tokio::task::AbortHandle;

use crate::mesh::knock::Knock;
use crate::mesh::observed::network_of;
use crate::mesh::rate::Rate;

use super::hello::Greeter;
use super::hub::Net;

/// Handshakes under way at once.
const MAX_HANDSHAKES: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Dials from one /24 or /56, a second and at once.
const DIALS_PER_SECOND: f64 = 20.0;
const DIALS_AT_ONCE: f64 = 100.0;
/// Sources remembered for the rate; a full table forgets those at rest, else admits nobody new.
const MAX_SOURCES: usize = 4_096;

/// What bounds the accept loop of one process.
#[derive(Default)]
pub struct Admission {
    sources: HashMap<Vec<u8>, Rate>,
    pending: VecDeque<AbortHandle>,
}

impl Admission {
    fn allows(&mut self, now: Duration, from: IpAddr) -> bool {
        let source = network_of(from);
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, rate| !rate.is_full(now));
            if self.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let rate = self.sources.entry(source);
        let rate = rate.or_insert_with(|| Rate::new(DIALS_PER_SECOND, DIALS_AT_ONCE));
        rate.take(now, 1.0)
    }

    /// Makes room for one more handshake: the oldest that is still pending goes. An honest dialler
    /// is through within a round trip; a replay never answers (A7).
    fn add(&mut self, handshake: AbortHandle) {
        self.pending.retain(|other| !other.is_finished());
        while self.pending.len() >= MAX_HANDSHAKES {
            if let Some(oldest) = self.pending.pop_front() {
                oldest.abort();
            }
        }
        self.pending.push_back(handshake);
    }
}

/// Accepts on one endpoint until the net shuts down.
pub async fn run(net: Arc<Net>, endpoint: Endpoint) {
    loop {
        let incoming = tokio::select! {
            () = net.stop.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        match incoming {
            Some(incoming) => consider(&net, incoming),
            None => return,
        }
    }
}

/// Ignores or accepts. An `Incoming` is never dropped: its drop would answer.
fn consider(net: &Arc<Net>, incoming: Incoming) {
    let now = net.gate.clock().now().mono;
    let knock = net.gate.lock().recall(&incoming.orig_dst_cid()).cloned();
    let from = incoming.remote_address().ip();
    let Some(knock) = knock.filter(|_| net.has_room() && net.admission().allows(now, from)) else {
        incoming.ignore();
        return;
    };
    // Reserved before the packet is authenticated, given back if it is not: two copies that
    // arrive on two sockets at once open one connection (A8).
    if !net.gate.lock().reserve(now, &knock) {
        incoming.ignore();
        return;
    }
    match incoming.accept() {
        Ok(connecting) => {
            (net.knock_used)(&knock);
            let task = net
                .tasks
                .spawn(handshake(Arc::clone(net), connecting, knock));
            net.admission().add(task.abort_handle());
        }
        Err(_) => net.gate.lock().release(&knock),
    }
}

async fn handshake(net: Arc<Net>, connecting: Connecting, knock: Knock) {
    let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await else {
        return;
    };
    let greeter = Greeter {
        gate: &net.gate,
        me: net.me,
        alive: net.alive(),
        knock: &knock,
    };
    match greeter.answer(&connection).await {
        Ok(greeting) => net.establish(connection, greeting, None).await,
        Err(error) => net.refuse(&connection, &error).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_cannot_dial_without_end_and_others_still_can() {
        let mut admission = Admission::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let now = Duration::from_secs(1);
        let passed = (0..1000)
            .filter(|_| admission.allows(now, ip("192.0.2.1")))
            .count();
        assert_eq!(passed, 100, "the rate had no effect");
        assert!(!admission.allows(now, ip("192.0.2.250")), "the same /24");
        assert!(admission.allows(now, ip("198.51.100.1")));
    }
}
