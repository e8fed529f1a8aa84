//! Whether this machine is online, by witnesses: see [`crate::mesh::probe`].

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Witness;
use crate::clock;
use crate::mesh::probe::Reach;

/// A word this recent need not be asked for again; nor need silence.
const FRESH: Duration = Duration::from_secs(1);
/// How long a witness may take.
const WITNESS_LIMIT: Duration = Duration::from_secs(1);
/// Witnesses remembered of each reach, the newest.
const MAX_WITNESSES: usize = 4;

/// Remembers who said something, and asks them again.
pub(in crate::service) struct Online {
    own: Vec<IpAddr>,
    given: Option<Witness>,
    near: Mutex<Vec<Heard>>,
    far: Mutex<Vec<Heard>>,
    /// One question at a time, and since when it was in vain, by reach.
    asked: tokio::sync::Mutex<[Option<Instant>; 2]>,
}

#[derive(Clone, Copy)]
struct Heard {
    addr: SocketAddr,
    at: Instant,
}

impl Online {
    pub(in crate::service) fn new(given: Option<Witness>) -> Self {
        Self {
            own: own_addresses(),
            given,
            near: Mutex::default(),
            far: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
        }
    }

    pub(in crate::service) fn reach(&self, ip: IpAddr) -> Reach {
        Reach::of(ip, &self.own)
    }

    /// Somebody at `addr` said something just now.
    pub(in crate::service) fn heard(&self, addr: SocketAddr) {
        let heard = match self.reach(addr.ip()) {
            Reach::Own => return,
            Reach::Near => &self.near,
            Reach::Far => &self.far,
        };
        let mut heard = lock(heard);
        heard.retain(|one| one.addr != addr);
        heard.truncate(MAX_WITNESSES - 1);
        let at = clock::instant();
        heard.insert(0, Heard { addr, at });
    }

    /// Whether somebody at least as far away as `reach` is heard now.
    pub(in crate::service) async fn confirm(&self, reach: Reach) -> bool {
        if self.given.as_ref().is_some_and(|given| given(reach)) || self.is_fresh(reach) {
            return true;
        }
        // Hundreds fall silent together; one of them asks, the others take its word.
        let mut asked = self.asked.lock().await;
        if self.is_fresh(reach) {
            return true;
        }
        let in_vain = &mut asked[usize::from(reach == Reach::Far)];
        if in_vain.is_some_and(|at| at.elapsed() < FRESH) {
            return false;
        }
        let witnesses = self.witnesses(reach);
        let heard = join_all(witnesses.iter().map(|one| says_something(one.addr))).await;
        for (one, _) in witnesses.iter().zip(&heard).filter(|(_, heard)| **heard) {
            self.heard(one.addr);
        }
        let online = heard.contains(&true);
        *in_vain = (!online).then(clock::instant);
        online
    }

    /// Whether somebody at least as far away as `reach` has said something since then.
    #[cfg(feature = "p2p")]
    pub(in crate::service) fn has_heard_since(&self, reach: Reach, since: Instant) -> bool {
        self.witnesses(reach).iter().any(|one| one.at >= since)
    }

    fn is_fresh(&self, reach: Reach) -> bool {
        let heard = self.witnesses(reach);
        heard.iter().any(|one| one.at.elapsed() < FRESH)
    }

    /// Those at least as far away as `reach`.
    fn witnesses(&self, reach: Reach) -> Vec<Heard> {
        let mut all = lock(&self.far).clone();
        if reach < Reach::Far {
            all.extend(lock(&self.near).iter().copied());
        }
        all
    }
}

/// Addresses of this machine. Where the system does not tell, they count as near ones: one witness
/// more is asked for.
pub fn own_addresses() -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "interface addresses are unknown");
        Vec::new()
    });
    all.iter().map(if_addrs::Interface::ip).collect()
}

async fn says_something(addr: SocketAddr) -> bool {
    match timeout(WITNESS_LIMIT, TcpStream::connect(addr)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

/// No code panics while it holds this lock.
fn lock(heard: &Mutex<Vec<Heard>>) -> MutexGuard<'_, Vec<Heard>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
