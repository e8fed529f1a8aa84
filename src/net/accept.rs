//! The accept loop: lets each knock in once, within limits (security.md §3.6).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    pending: VecDeque<Pending>,
}

struct Pending {
    task: AbortHandle,
    /// TLS is done: the dialler has read what was sent to it, so it is no replay.
    answered: Arc<AtomicBool>,
}

impl Admission {
    /// Whether one more dial from `from` is within its rate; [`Admission::took`] counts it, once
    /// its packet is authentic: a forged source must not use up what belongs to another network.
    fn allows(&mut self, now: Duration, from: IpAddr) -> bool {
        self.rate(now, from).is_some_and(|rate| rate.has(now, 1.0))
    }

    fn took(&mut self, now: Duration, from: IpAddr) {
        if let Some(rate) = self.rate(now, from) {
            rate.take(now, 1.0);
        }
    }

    fn rate(&mut self, now: Duration, from: IpAddr) -> Option<&mut Rate> {
        let source = network_of(from);
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, rate| !rate.is_full(now));
            if self.sources.len() >= MAX_SOURCES {
                return None;
            }
        }
        let rate = self.sources.entry(source);
        Some(rate.or_insert_with(|| Rate::new(DIALS_PER_SECOND, DIALS_AT_ONCE)))
    }

    /// Makes room for one more handshake: the oldest that never answered goes, for an honest
    /// dialler answers within a round trip and a replay never does (A7); else the oldest.
    /// Whether one had to go.
    fn add(&mut self, handshake: Pending) -> bool {
        self.pending.retain(|other| !other.task.is_finished());
        let full = self.pending.len() >= MAX_HANDSHAKES;
        if full {
            let silent = |other: &Pending| !other.answered.load(Ordering::Acquire);
            let goes = self.pending.iter().position(silent).unwrap_or(0);
            if let Some(oldest) = self.pending.remove(goes) {
                oldest.task.abort();
            }
        }
        self.pending.push_back(handshake);
        full
    }
}

/// Accepts on one endpoint, that of `shard`, until the net shuts down.
pub async fn run(net: Arc<Net>, endpoint: Endpoint, shard: u32) {
    loop {
        let incoming = tokio::select! {
            () = net.stop.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        match incoming {
            Some(incoming) => consider(&net, incoming, shard),
            None => return,
        }
    }
}

/// Ignores or accepts. An `Incoming` is never dropped: its drop would answer.
fn consider(net: &Arc<Net>, incoming: Incoming, shard: u32) {
    let now = net.gate.clock().now().mono;
    let knock = net.gate.lock().recall(&incoming.orig_dst_cid()).cloned();
    let from = incoming.remote_address().ip();
    let Some(knock) = knock else {
        incoming.ignore();
        return;
    };
    if !net.has_room(from) {
        net.refused.count("too_many_links");
        incoming.ignore();
        return;
    }
    if !net.admission().allows(now, from) {
        net.refused.count("dial_rate");
        incoming.ignore();
        return;
    }
    // Reserved before the packet is authenticated, given back if it is not: two copies that
    // arrive on two sockets at once open one connection (A8).
    if !net.gate.lock().reserve(now, &knock) {
        incoming.ignore();
        return;
    }
    let config = net.factory.server_config(Some(incoming.remote_address()));
    match incoming.accept_with(Arc::new(config)) {
        Ok(connecting) => {
            (net.knock_used)(&knock);
            let answered = Arc::new(AtomicBool::new(false));
            let dial = Dial {
                connecting,
                knock,
                shard,
            };
            let handshake = handshake(Arc::clone(net), dial, Arc::clone(&answered));
            let task = net.tasks.spawn(handshake).abort_handle();
            let mut admission = net.admission();
            admission.took(now, from);
            if admission.add(Pending { task, answered }) {
                net.refused.count("too_many_handshakes");
            }
        }
        Err(_) => net.gate.lock().release(&knock),
    }
}

/// A dial that was let in.
struct Dial {
    connecting: Connecting,
    knock: Knock,
    shard: u32,
}

async fn handshake(net: Arc<Net>, dial: Dial, answered: Arc<AtomicBool>) {
    let Dial {
        connecting,
        knock,
        shard,
    } = dial;
    let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await else {
        return;
    };
    answered.store(true, Ordering::Release);
    let greeter = Greeter {
        gate: &net.gate,
        me: net.me,
        alive: net.alive(),
        knock: &knock,
        features: 0,
    };
    match greeter.answer(&connection).await {
        Ok(greeting) => net.establish(connection, greeting, None, shard).await,
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
        // Datagrams with a forged source that turn out not to be authentic cost it nothing.
        assert!((0..1000).all(|_| admission.allows(now, ip("192.0.2.1"))));
        let passed = (0..1000)
            .filter(|_| {
                let allowed = admission.allows(now, ip("192.0.2.1"));
                admission.took(now, ip("192.0.2.1"));
                allowed
            })
            .count();
        assert_eq!(passed, 100, "the rate had no effect");
        assert!(!admission.allows(now, ip("192.0.2.250")), "the same /24");
        assert!(admission.allows(now, ip("198.51.100.1")));
    }

    #[tokio::test]
    async fn of_too_many_handshakes_the_oldest_that_never_answered_goes() {
        let mut admission = Admission::default();
        let mut tasks = Vec::new();
        for n in 0..=MAX_HANDSHAKES {
            let task = tokio::spawn(std::future::pending::<()>());
            // The first one has answered, the second has not.
            let answered = Arc::new(AtomicBool::new(n == 0));
            let pending = Pending {
                task: task.abort_handle(),
                answered,
            };
            assert_eq!(admission.add(pending), n == MAX_HANDSHAKES);
            tasks.push(task);
        }
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(tasks.iter().all(|task| !task.is_finished()));
    }
}
