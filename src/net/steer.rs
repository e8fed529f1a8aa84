//! Datagrams between the sockets of one listen address. The kernel spreads them by the addresses
//! they come from and go to; which shard a datagram belongs to says its connection id. Mostly
//! that is the same. When a peer's address has changed, or this node has dialled, it is not: then
//! the socket that got the datagram hands it over, unless the kernel knew better (`kernel`).

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::RecvMeta;
use tokio::sync::mpsc;

/// Batches that wait for a shard: with 64 KiB each as much as its socket's buffer.
const MAX_WAITING: usize = 64;

/// What was handed over by one process.
#[derive(Default)]
pub(super) struct Steered {
    given: AtomicU64,
    lost: AtomicU64,
}

impl Steered {
    /// Datagrams that reached their shard by another one's socket.
    pub(super) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Datagrams lost because their shard had too many to take already.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Datagrams of one sender for one shard: all of `meta.stride` bytes, the last may be shorter.
struct Batch {
    meta: RecvMeta,
    bytes: Vec<u8>,
}

/// The place of one socket among those of its address.
pub(super) struct Seat {
    shard: u32,
    /// By shard, its own included.
    inboxes: Vec<mpsc::Sender<Batch>>,
    inbox: Mutex<mpsc::Receiver<Batch>>,
    steered: Arc<Steered>,
}

impl Seat {
    /// The places of so many sockets.
    pub(super) fn all(count: u32, steered: &Arc<Steered>) -> Vec<Self> {
        let channels = (0..count).map(|_| mpsc::channel(MAX_WAITING));
        let (inboxes, boxes): (Vec<_>, Vec<_>) = channels.unzip();
        let seat = |(shard, inbox)| Self {
            shard,
            inboxes: inboxes.clone(),
            inbox: Mutex::new(inbox),
            steered: Arc::clone(steered),
        };
        (0..).zip(boxes).map(seat).collect()
    }

    /// Whose socket it is.
    pub(super) fn shard(&self) -> u32 {
        self.shard
    }

    /// Hands datagrams that came with `meta` over to `shard`, or drops them if that has too many.
    pub(super) fn give(&self, shard: u32, meta: &RecvMeta, bytes: Vec<u8>) {
        let datagrams = bytes.len().div_ceil(meta.stride.max(1)) as u64;
        let meta = RecvMeta {
            len: bytes.len(),
            ..*meta
        };
        let inbox = self.inboxes.get(shard as usize);
        let given = inbox.is_some_and(|inbox| inbox.try_send(Batch { meta, bytes }).is_ok());
        let count = match given {
            true => &self.steered.given,
            false => &self.steered.lost,
        };
        count.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// Fills up to half of `bufs` with what was handed over here, so that the socket's own have
    /// room as well; how many. With 0, `cx` is woken when there is something.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        let most = bufs.len().div_ceil(2);
        let mut inbox = self.lock();
        let mut taken = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas).take(most) {
            // The senders live in this very seat; they cannot be gone.
            let Poll::Ready(Some(batch)) = inbox.poll_recv(cx) else {
                break;
            };
            *meta = batch.meta;
            match buf.get_mut(..batch.bytes.len()) {
                Some(room) => room.copy_from_slice(&batch.bytes),
                // Every socket's buffers have one size, so this does not happen.
                None => meta.len = 0,
            }
            taken += 1;
        }
        taken
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, mpsc::Receiver<Batch>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
