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
use super::gate::{SharedGate, Verdict};
use super::steer::Seat;

/// Most bytes of one GRO batch: the length field of a UDP datagram has 16 bits (RFC 768).
const MAX_BATCH_BYTES: usize = 1 << 16;

/// A UDP socket with the filter of security.md §3.5 in front of it.
pub struct FilteredSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: SharedGate,
    local: SocketAddr,
    dropped: Arc<AtomicU64>,
    /// The other sockets of its address, if there are any.
    seat: Option<Seat>,
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
            seat: None,
        })
    }

    /// Makes it one of several sockets of its address.
    pub(super) fn seated(mut self, seat: Seat) -> Self {
        self.seat = Some(seat);
        self
    }

    /// Keeps of a batch what is for this shard, and hands over what is for others.
    fn sort(&self, batch: &mut [u8], meta: &mut RecvMeta) {
        let to = self.destination(meta);
        let here = |shard| self.seat.as_ref().is_none_or(|seat| seat.shard() == shard);
        let whole = batch.len();
        let mut refused = 0;
        let mut astray: Vec<(u32, Vec<u8>)> = Vec::new();
        // A batch without anything left keeps length 0 and is not polled away here: QUIC's
        // work limiter must count it, or a flood would starve everything else.
        meta.len = compact(batch, meta.stride, |datagram| {
            match self.gate.judge(datagram, to) {
                Verdict::Here => true,
                Verdict::Shard(shard) if here(shard) => true,
                Verdict::Shard(shard) => {
                    match astray.last_mut().filter(|(last, _)| *last == shard) {
                        Some((_, bytes)) => bytes.extend_from_slice(datagram),
                        None => {
                            let mut bytes = Vec::with_capacity(whole);
                            bytes.extend_from_slice(datagram);
                            astray.push((shard, bytes));
                        }
                    }
                    false
                }
                Verdict::Drop => {
                    refused += 1;
                    false
                }
            }
        });
        self.dropped.fetch_add(refused, Ordering::Relaxed);
        if let Some(seat) = &self.seat {
            for (shard, bytes) in astray {
                seat.give(shard, meta, bytes);
            }
        }
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
        let seat = self.seat.as_ref();
        // Judged already, where they came.
        let taken = seat.map_or(0, |seat| seat.poll_take(cx, bufs, meta));
        let (bufs, meta) = (&mut bufs[taken..], &mut meta[taken..]);
        if bufs.is_empty() {
            return Poll::Ready(Ok(taken));
        }
        let received = match self.inner.poll_recv(cx, bufs, meta) {
            Poll::Ready(Ok(received)) => received,
            Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
            other => return other,
        };
        for (meta, buf) in meta.iter_mut().zip(bufs.iter_mut()).take(received) {
            let batch = buf.get_mut(..meta.len).unwrap_or_default();
            self.sort(batch, meta);
        }
        Poll::Ready(Ok(taken + received))
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
