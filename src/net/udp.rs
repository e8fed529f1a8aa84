//! The UDP socket as QUIC uses it: woken for datagrams that came, and for room to send only while
//! it waits for that.
//!
//! A socket that is registered for both with an edge-triggered poller reports room after every
//! datagram that has left, though it was never short of it. On an idle node that is half of all
//! wakes.
//!
//! What QUIC sends in bursts waits for the rest of its burst ([`Batch`]): until everybody who is
//! ready to run has run, once more if that brought more. No timer, no task: whoever receives on
//! the socket is woken, and sends what waits first.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::batch::{BURST, Batch, Offer};

/// A UDP socket on tokio's poller, with the system's batching, GSO and GRO.
#[derive(Debug)]
pub(super) struct PolledSocket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// The system had no room for the last datagram.
    full: AtomicBool,
    burst: Mutex<Burst>,
}

/// What waits for the rest of its burst.
#[derive(Debug, Default)]
struct Burst {
    batch: Batch,
    /// Whoever receives, and so sends what waits.
    receiver: Option<Waker>,
    room: Room,
}

impl PolledSocket {
    /// Takes over a bound socket.
    ///
    /// # Errors
    /// The system refuses an option that QUIC needs, or the poller has no room.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        let io = polled(socket, Interest::READABLE)?;
        Ok(Self {
            io,
            state,
            full: AtomicBool::new(false),
            burst: Mutex::default(),
        })
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        let full = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if full {
            self.full.store(true, Ordering::Release);
        }
        sent
    }

    /// Sends what waits; if it cannot be sent now, it waits on.
    fn flush(&self, batch: &mut Batch) -> io::Result<()> {
        let Some(transmit) = batch.transmit() else {
            return Ok(());
        };
        let sent = self.send(&transmit);
        match &sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Lost, as on the way.
            _ => batch.clear(),
        }
        sent
    }

    /// Looks after what waits. It is sent at the second look that finds nothing new: between the
    /// two, everybody has run who was ready.
    fn look(&self, cx: &mut Context<'_>) {
        let mut burst = self.burst();
        let Burst {
            batch,
            receiver,
            room,
        } = &mut *burst;
        if !receiver
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *receiver = Some(cx.waker().clone());
        }
        if batch.is_empty() {
            return;
        }
        if !batch.settled() {
            cx.waker().wake_by_ref();
            return;
        }
        while !batch.is_empty() {
            match room.poll(self, cx) {
                Poll::Pending => return,
                // Without a descriptor to wait with, they are lost as on the way.
                Poll::Ready(Err(_)) => batch.clear(),
                // If the system still has none, the next round waits for it.
                Poll::Ready(Ok(())) => drop(self.flush(batch)),
            }
        }
    }

    /// Nothing panics while it holds this lock.
    fn burst(&self) -> MutexGuard<'_, Burst> {
        self.burst.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registers `socket` with the poller for nothing but `interest`.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for types whose descriptor may change; a UdpSocket's cannot"
)]
fn polled(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncUdpSocket for PolledSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            room: Room::default(),
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut burst = self.burst();
        match burst.batch.offer(transmit, self.state.max_gso_segments()) {
            Offer::Wait => {
                if let Some(receiver) = &burst.receiver {
                    receiver.wake_by_ref();
                }
                Ok(())
            }
            // If there is no room now, they are sent when there is.
            Offer::Complete => match self.flush(&mut burst.batch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(receiver) = &burst.receiver {
                        receiver.wake_by_ref();
                    }
                    Ok(())
                }
                sent => sent,
            },
            Offer::Apart => {
                self.flush(&mut burst.batch)?;
                self.send(transmit)
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.look(cx);
        loop {
            let mut ready = ready!(self.io.poll_read_ready(cx))?;
            let received =
                ready.try_io(|socket| self.state.recv(socket.get_ref().into(), bufs, meta));
            let Ok(received) = received else {
                continue;
            };
            // Less than there was room for: nothing is left, and what comes from here on is
            // reported anew. That saves the call that would only say so.
            if received.as_ref().is_ok_and(|count| *count < bufs.len()) {
                ready.clear_ready();
            }
            return Poll::Ready(received);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments().min(BURST)
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for room to send. Of the socket it has a descriptor of its own, which the poller knows
/// only for as long.
#[derive(Debug, Default)]
struct Room(Option<AsyncFd<UdpSocket>>);

impl Room {
    fn poll(&mut self, socket: &PolledSocket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // QUIC asks before every datagram; there is room unless the last one found none.
        let waiting = match self.0.take() {
            Some(waiting) => waiting,
            None if !socket.full.load(Ordering::Acquire) => return Poll::Ready(Ok(())),
            None => {
                let again = socket.io.get_ref().try_clone()?;
                polled(again, Interest::WRITABLE)?
            }
        };
        let ready = waiting
            .poll_write_ready(cx)
            .map(|ready| ready.map(|mut ready| ready.retain_ready()));
        match ready.is_pending() {
            true => self.0 = Some(waiting),
            false => socket.full.store(false, Ordering::Release),
        }
        ready
    }
}

/// Waits for room on behalf of one connection.
#[derive(Debug)]
struct Poller {
    socket: Arc<PolledSocket>,
    room: Room,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, room } = &mut *self;
        room.poll(socket, cx)
    }
}
