//! The UDP socket as QUIC uses it: woken for datagrams that came, and for room to send only while
//! it waits for that.
//!
//! A socket that is registered for both with an edge-triggered poller reports room after every
//! datagram that has left, though it was never short of it. On an idle node that is half of all
//! wakes.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A UDP socket on tokio's poller, with the system's batching, GSO and GRO.
#[derive(Debug)]
pub(super) struct PolledSocket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// The system had no room for the last datagram.
    full: AtomicBool,
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
        })
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
        Box::pin(Room {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        let full = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if full {
            self.full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
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
        self.state.max_gso_segments()
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
#[derive(Debug)]
struct Room {
    socket: Arc<PolledSocket>,
    waiting: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // QUIC asks before every datagram; there is room unless the last one found none.
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None if !self.socket.full.load(Ordering::Acquire) => return Poll::Ready(Ok(())),
            None => {
                let again = self.socket.io.get_ref().try_clone()?;
                polled(again, Interest::WRITABLE)?
            }
        };
        let ready = waiting
            .poll_write_ready(cx)
            .map(|ready| ready.map(|mut ready| ready.retain_ready()));
        match ready.is_pending() {
            true => self.waiting = Some(waiting),
            false => self.socket.full.store(false, Ordering::Release),
        }
        ready
    }
}
