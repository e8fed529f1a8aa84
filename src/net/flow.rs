//! Datagrams of a link, sorted by the flow they belong to. Nothing here waits for room: what does
//! not fit is lost, as with UDP, and whoever asks is told why.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, SendDatagramError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock;
use crate::mesh::datagram::FlowId;
use crate::mesh::pace::{self, Pace};

use super::endpoint::DATAGRAM_BUFFER;
use super::tunnel::{Silence, TunnelGuard};

/// Datagrams of one flow that wait for whoever takes them.
pub const MAX_WAITING: usize = 64;
/// Bytes of all flows of a link that wait.
const MAX_WAITING_BYTES: usize = 2 << 20;
/// What a waiting datagram costs beside its bytes: an empty one is not free.
const OVERHEAD: usize = 128;
/// Between two looks at the path.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How many bytes may wait at once. Clones share them.
#[derive(Clone, Debug)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// A datagram that waits, and counts for as long as it does.
#[derive(Debug)]
pub struct Parcel {
    bytes: Bytes,
    budget: Budget,
}

impl Budget {
    /// At most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            used: Arc::default(),
            limit,
        }
    }

    /// A copy of `bytes`, if there is room: what came in one packet or one read would keep all
    /// of that alive.
    pub fn take(&self, bytes: &[u8]) -> Option<Parcel> {
        let cost = bytes.len() + OVERHEAD;
        let order = Ordering::AcqRel;
        let room = |used: usize| Some(used + cost).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(order, Ordering::Acquire, room)
            .ok()?;
        Some(Parcel {
            bytes: Bytes::copy_from_slice(bytes),
            budget: self.clone(),
        })
    }
}

impl Parcel {
    /// The datagram. It counts no longer when the parcel is gone.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl Deref for Parcel {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let cost = self.bytes.len() + OVERHEAD;
        self.budget.used.fetch_sub(cost, Ordering::AcqRel);
    }
}

/// Why a datagram went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The path takes none of this size now.
    #[error("longer than the path takes")]
    TooLarge,
    /// More came than went.
    #[error("the queue is full")]
    Overflow,
    /// It names no flow that is open.
    #[error("of no open flow")]
    NoFlow,
    /// No node can take it.
    #[error("no node serves")]
    NoNode,
}

impl Lost {
    /// Stable word for counters.
    pub fn word(self) -> &'static str {
        match self {
            Self::TooLarge => "udp_too_large",
            Self::Overflow => "udp_overflow",
            Self::NoFlow => "udp_no_flow",
            Self::NoNode => "udp_no_node",
        }
    }
}

/// The flows that are open on one link.
#[derive(Debug)]
pub(super) struct Flows {
    open: Mutex<HashMap<FlowId, mpsc::Sender<Parcel>>>,
    waiting: Budget,
    out: Mutex<Out>,
}

/// The way out of a link.
#[derive(Debug)]
struct Out {
    pace: Pace,
    /// Bytes that may wait, as the path was when it was last looked at.
    queue: usize,
    looked: Option<Instant>,
    start: Instant,
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            waiting: Budget::new(MAX_WAITING_BYTES),
            out: Mutex::new(Out {
                pace: Pace::default(),
                queue: 0,
                looked: None,
                start: clock::instant(),
            }),
        }
    }
}

impl Out {
    /// Whether the path has room for `len` more bytes.
    fn admits(&mut self, connection: &Connection, len: usize) -> bool {
        let now = clock::instant();
        if self.looked.is_none_or(|at| now - at > LOOK_EVERY) {
            self.looked = Some(now);
            self.queue = pace::queue(connection.stats().path.cwnd, connection.rtt());
        }
        let waiting = DATAGRAM_BUFFER.saturating_sub(connection.datagram_send_buffer_space());
        // QUIC's own account of an empty queue is not zero.
        let waiting = waiting.saturating_sub(OVERHEAD);
        self.pace.admits(now - self.start, waiting, len, self.queue)
    }
}

impl Flows {
    /// Gives a datagram to whoever has its flow.
    pub(super) fn deliver(&self, datagram: &[u8]) -> Result<(), Lost> {
        let (flow, at) = FlowId::decode(datagram).map_err(|_| Lost::NoFlow)?;
        let open = self.lock();
        let inbox = open.get(&flow).ok_or(Lost::NoFlow)?;
        let parcel = self.waiting.take(&datagram[at..]).ok_or(Lost::Overflow)?;
        inbox.try_send(parcel).map_err(|_| Lost::Overflow)
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<FlowId, mpsc::Sender<Parcel>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One side of a flow on a link. It counts as a tunnel there.
pub struct FlowEnd {
    guard: TunnelGuard,
    id: FlowId,
    inbox: mpsc::Receiver<Parcel>,
}

impl FlowEnd {
    /// Takes the datagrams of flow `id` from now on.
    pub(super) fn new(guard: TunnelGuard, id: FlowId) -> Self {
        let (tell, inbox) = mpsc::channel(MAX_WAITING);
        guard.flows().lock().insert(id, tell);
        Self { guard, id, inbox }
    }

    /// Sends a datagram, now or never.
    ///
    /// # Errors
    /// Why it was lost. The end of the link shows at the flow's stream.
    pub fn send(&self, payload: &[u8]) -> Result<(), Lost> {
        let flows = self.guard.flows();
        let mut out = flows.out.lock().unwrap_or_else(PoisonError::into_inner);
        send(self.guard.connection(), &mut out, self.id, payload)
    }

    /// The next datagram. It waits for ever on a link that has ended: the flow's stream tells.
    pub async fn recv(&mut self) -> Option<Parcel> {
        self.inbox.recv().await
    }

    /// Tells when the peer has been silent for too long.
    pub fn silence(&self) -> Silence {
        self.guard.silence()
    }
}

impl Drop for FlowEnd {
    fn drop(&mut self) {
        self.guard.flows().lock().remove(&self.id);
    }
}

fn send(connection: &Connection, out: &mut Out, id: FlowId, payload: &[u8]) -> Result<(), Lost> {
    let len = id.encoded_len() + payload.len();
    // QUIC makes room by dropping what has waited longest; like UDP, this drops the newcomer.
    let max = connection.max_datagram_size().unwrap_or(0);
    if len > max {
        return Err(Lost::TooLarge);
    }
    if !out.admits(connection, len) {
        return Err(Lost::Overflow);
    }
    let mut datagram = BytesMut::with_capacity(len);
    id.encode(&mut datagram);
    datagram.extend_from_slice(payload);
    match connection.send_datagram(datagram.freeze()) {
        Ok(()) => Ok(()),
        Err(SendDatagramError::TooLarge) => Err(Lost::TooLarge),
        Err(_) => Err(Lost::NoFlow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes_and_room_comes_back() {
        let flows = Flows::default();
        let (tell, mut inbox) = mpsc::channel(MAX_WAITING);
        flows.lock().insert(FlowId::new(4).unwrap(), tell);
        assert_eq!(flows.deliver(&[8, 1]), Err(Lost::NoFlow));
        assert_eq!(flows.deliver(&[]), Err(Lost::NoFlow));
        for _ in 0..MAX_WAITING {
            assert_eq!(flows.deliver(&[4, 1, 2]), Ok(()));
        }
        assert_eq!(flows.deliver(&[4]), Err(Lost::Overflow));
        assert_eq!(&*inbox.try_recv().unwrap(), [1, 2]);
        assert_eq!(flows.deliver(&[4]), Ok(()));
        while inbox.try_recv().is_ok() {}
        assert_eq!(flows.waiting.used.load(Ordering::Relaxed), 0);
        let budget = Budget::new(300);
        let first = budget.take(&[0; 100]);
        assert!(first.is_some() && budget.take(&[0; 100]).is_none());
        drop(first);
        assert!(budget.take(&[0; 100]).is_some());
    }
}
