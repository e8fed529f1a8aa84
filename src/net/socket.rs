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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::net::UdpSocket;

    use quinn::Runtime;
    use quinn_proto::ConnectionIdGenerator;

    use crate::clock::Clock;
    use crate::mesh::id::Identity;
    use crate::mesh::keys::{NetworkKeys, Secret};
    use crate::mesh::token::Token;
    use crate::net::bind::udp_sockets;
    use crate::net::runtime::QuietRuntime;
    use crate::net::steer::Steered;

    const SHARDS: u32 = 3;
    const BUFS: usize = 4;

    struct World {
        gate: SharedGate,
        sockets: Vec<FilteredSocket>,
        steered: Arc<Steered>,
    }

    /// The sockets of one address, which the kernel does not steer.
    fn world() -> World {
        let token = Token::new(Secret::new([7; 32]), 9_000, 360).unwrap();
        let me = Identity::from_seed(&[1; 32]).id();
        let gate = SharedGate::new(Clock::default(), NetworkKeys::new(&token), me, true);
        let gate = gate.among(SHARDS);
        let steered = Arc::default();
        let bound = udp_sockets(SocketAddr::from(([127, 0, 0, 1], 0)), SHARDS).unwrap();
        let seated = bound.into_iter().zip(Seat::all(SHARDS, &steered));
        let filtered = seated.map(|(socket, seat)| {
            let inner = QuietRuntime::here().wrap_udp_socket(socket).unwrap();
            let filtered = FilteredSocket::new(inner, gate.clone(), Arc::default()).unwrap();
            filtered.seated(seat)
        });
        World {
            sockets: filtered.collect(),
            gate,
            steered,
        }
    }

    impl World {
        /// A packet for a connection on this shard, like no other.
        fn packet(&self, shard: u32, number: u32) -> Vec<u8> {
            let cid = self.gate.cids().of(shard).generate_cid();
            [&[0x40], &cid[..], &number.to_be_bytes(), &[0; 20]].concat()
        }

        /// Sends from a port of its own: the kernel chooses a socket.
        fn send(&self, packet: &[u8]) {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.send_to(packet, self.sockets[0].local).unwrap();
        }

        /// What reaches QUIC on each shard until that many packets have.
        async fn received(&self, mut want: usize) -> Vec<Vec<Vec<u8>>> {
            let mut got = vec![Vec::new(); self.sockets.len()];
            poll_fn(|cx| {
                // Twice: what one socket gets may be another's.
                for shard in (0..got.len()).chain(0..got.len()) {
                    while let Poll::Ready(some) = receive(&self.sockets[shard], cx) {
                        want -= some.len();
                        got[shard].extend(some);
                    }
                }
                if want == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            got
        }
    }

    fn receive(socket: &FilteredSocket, cx: &mut Context<'_>) -> Poll<Vec<Vec<u8>>> {
        let mut room = vec![0; BUFS * MAX_BATCH_BYTES];
        let mut bufs: Vec<_> = room
            .chunks_mut(MAX_BATCH_BYTES)
            .map(IoSliceMut::new)
            .collect();
        let mut metas = [RecvMeta::default(); BUFS];
        let received = socket.poll_recv(cx, &mut bufs, &mut metas);
        received.map(|count| {
            let batches = bufs.iter().zip(&metas).take(count.unwrap());
            let packets =
                batches.flat_map(|(buf, meta)| buf[..meta.len].chunks(meta.stride.max(1)));
            packets.map(<[u8]>::to_vec).collect()
        })
    }

    #[tokio::test]
    async fn every_packet_reaches_the_shard_of_its_connection_once() {
        let world = world();
        let mut sent = vec![Vec::new(); SHARDS as usize];
        for number in 0..90 {
            let shard = number % SHARDS;
            let packet = world.packet(shard, number);
            world.send(&packet);
            sent[shard as usize].push(packet);
            // Not one of ours: nobody gets it.
            world.send(&[0x41; 60]);
        }
        let mut got = world.received(90).await;
        got.iter_mut().chain(&mut sent).for_each(|all| all.sort());
        assert_eq!(got, sent);
        assert!(
            world.steered.given() > 0,
            "the kernel gave everything to the right one"
        );
        assert_eq!(world.steered.lost(), 0);
    }

    #[tokio::test]
    async fn a_batch_for_several_shards_is_taken_apart_in_order() {
        let world = world();
        let shards = [0, 1, 1, 2, 0, 1];
        let packets: Vec<_> = (0..)
            .zip(shards)
            .map(|(n, shard)| world.packet(shard, n))
            .collect();
        let mut batch = packets.concat();
        let mut meta = RecvMeta {
            addr: SocketAddr::from(([127, 0, 0, 1], 9)),
            len: batch.len(),
            stride: packets[0].len(),
            ..RecvMeta::default()
        };
        world.sockets[1].sort(&mut batch, &mut meta);
        assert_eq!(
            batch[..meta.len].to_vec(),
            packets[1..3]
                .concat()
                .into_iter()
                .chain(packets[5].clone())
                .collect::<Vec<_>>()
        );
        let got = world.received(3).await;
        assert_eq!(got[0], [packets[0].clone(), packets[4].clone()]);
        assert_eq!((got[1].len(), &got[2]), (0, &vec![packets[3].clone()]));
    }

    #[tokio::test]
    async fn a_shard_that_takes_nothing_loses_what_is_beyond_its_room() {
        let world = world();
        for number in 0..100 {
            let mut packet = world.packet(2, number);
            let len = packet.len();
            let mut meta = RecvMeta {
                len,
                stride: len,
                ..RecvMeta::default()
            };
            world.sockets[0].sort(&mut packet, &mut meta);
            assert_eq!(meta.len, 0);
        }
        let (given, lost) = (world.steered.given(), world.steered.lost());
        assert_eq!(given + lost, 100);
        assert!(lost > 0, "the bound had no effect");
        let got = world.received(usize::try_from(given).unwrap()).await;
        assert_eq!(got[2].len() as u64, given);
    }
}
