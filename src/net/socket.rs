//! The socket under QUIC: what is not from a member never gets up here.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::mesh::filter::compact;

use super::endpoint::MAX_UDP_PAYLOAD;
use super::gate::SharedGate;

/// Most bytes of one GRO batch: the length field of a UDP datagram has 16 bits (RFC 768).
const MAX_BATCH_BYTES: usize = 1 << 16;

/// A UDP socket with the filter of security.md §3.5 in front of it.
pub struct FilteredSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: SharedGate,
    local: SocketAddr,
    dropped: Arc<AtomicU64>,
}

impl FilteredSocket {
    /// Wraps `inner`; `dropped` counts refused datagrams.
    ///
    /// # Errors
    /// The socket has no local address.
    pub fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        gate: SharedGate,
        dropped: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let local = inner.local_addr()?;
        Ok(Self {
            inner,
            gate,
            local,
            dropped,
        })
    }

    /// Where the datagrams of one batch were really sent to (pktinfo), if the system says so or
    /// the socket is bound to one address.
    fn destination(&self, meta: &RecvMeta) -> Option<SocketAddr> {
        let bound = Some(self.local.ip()).filter(|ip| !ip.is_unspecified());
        let ip = meta.dst_ip.or(bound)?;
        Some(SocketAddr::new(ip.to_canonical(), self.local.port()))
    }
}

impl fmt::Debug for FilteredSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilteredSocket({})", self.local)
    }
}

impl AsyncUdpSocket for FilteredSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = match self.inner.poll_recv(cx, bufs, meta) {
            Poll::Ready(Ok(received)) => received,
            other => return other,
        };
        for (meta, buf) in meta.iter_mut().zip(bufs.iter_mut()).take(received) {
            let to = self.destination(meta);
            let batch = buf.get_mut(..meta.len).unwrap_or_default();
            let mut refused = 0;
            // A batch without anything left keeps length 0 and is not polled away here: QUIC's
            // work limiter must count it, or a flood would starve everything else.
            meta.len = compact(batch, meta.stride, |datagram| {
                let pass = self.gate.admits(datagram, to);
                refused += u64::from(!pass);
                pass
            });
            self.dropped.fetch_add(refused, Ordering::Relaxed);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    /// QUIC sizes its receive buffers by this times the largest datagram, for 32 batches. The
    /// kernel never coalesces more than 64 KiB, so more segments would only be memory: 13 MiB.
    fn max_receive_segments(&self) -> usize {
        let enough = MAX_BATCH_BYTES.div_ceil(usize::from(MAX_UDP_PAYLOAD));
        self.inner.max_receive_segments().min(enough)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
