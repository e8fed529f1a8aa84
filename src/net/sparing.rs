//! The socket of an observer: it sends little to whoever does not answer.
//!
//! QUIC repeats a first packet for as long as a dial lasts. An observer dials addresses that
//! strangers chose (D28), so what it sends to each is counted here, under QUIC, and not sent once
//! it is too much; to QUIC that is loss. An address from which a packet of a connection came may be
//! sent anything.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::mesh::restraint::MAX_INITIALS;

use super::socket::FilteredSocket;

/// A [`FilteredSocket`] that sends [`MAX_INITIALS`] datagrams to an address until one comes back.
pub(super) struct SparingSocket {
    inner: Arc<FilteredSocket>,
    asked: Mutex<HashMap<SocketAddr, Asked>>,
}

enum Asked {
    Times(u32),
    Answered,
}

impl SparingSocket {
    pub(super) fn new(inner: FilteredSocket) -> Self {
        Self {
            inner: Arc::new(inner),
            asked: Mutex::default(),
        }
    }

    /// No code panics while it holds this lock.
    fn asked(&self) -> MutexGuard<'_, HashMap<SocketAddr, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One address has one form, whatever family the socket has.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl fmt::Debug for SparingSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SparingSocket({:?})", self.inner)
    }
}

impl AsyncUdpSocket for SparingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut asked = self.asked();
        let asked = asked.entry(canonical(transmit.destination));
        let Asked::Times(times) = asked.or_insert(Asked::Times(0)) else {
            return self.inner.try_send(transmit);
        };
        let len = transmit.contents.len();
        let segment = transmit.segment_size.unwrap_or(len).max(1);
        let left = MAX_INITIALS.saturating_sub(*times) as usize;
        let some = len.min(segment.saturating_mul(left));
        let Some(contents) = transmit
            .contents
            .get(..some)
            .filter(|some| !some.is_empty())
        else {
            return Ok(());
        };
        self.inner.try_send(&Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn,
            contents,
            segment_size: transmit.segment_size.filter(|size| *size < some),
            src_ip: transmit.src_ip,
        })?;
        let sent = u32::try_from(some.div_ceil(segment)).unwrap_or(u32::MAX);
        *times = times.saturating_add(sent);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(received)) = received {
            // What the filter dropped has no length left.
            let passed = meta.iter().take(received).filter(|meta| meta.len > 0);
            for meta in passed {
                self.asked().insert(canonical(meta.addr), Asked::Answered);
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    /// One: QUIC sizes its receive buffers by this, and hundreds of observers may look at once.
    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
