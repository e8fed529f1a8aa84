//! What traffic costs, in bytes as an interface counts them without its own framing: UDP payload
//! and the headers of UDP and IPv4.
//!
//! The constants are those of quinn as this crate configures it; they stand here, and only here,
//! to be set anew against real traffic.

use std::time::Duration;

/// Headers of IPv4 and UDP.
const UDP_IP: u64 = 28;
/// Short header with an 8-byte connection id, packet number, an ACK frame that rides along (with
/// ECN counts), frame header of the stream, tag. Measured on an idle link: the packet of a ping has
/// 44 bytes around its frame and that of a pong 41, and 2 more once 16 KiB went over the stream.
const QUIC: u64 = 44;
/// Bytes of the control stream in one packet of 1,200 bytes.
const PACKET_ROOM: u64 = 1_200 - QUIC;
/// A packet that carries nothing but an ACK frame; measured.
const ACK: u64 = 65;
/// Packets that QUIC acknowledges together (RFC 9000 §13.2.2).
const PACKETS_PER_ACK: u64 = 2;
/// A single packet is acknowledged after this long, or with whatever is sent before.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// A padded Initial, as the client sends it until somebody answers.
pub(super) const INITIAL: u64 = 1_200 + UDP_IP;
/// What the dialling end sends after its first Initial: a padded one with the ACK, its key, its
/// Hello, new connection ids, probes of the path's MTU.
pub(super) const DIALLER_HANDSHAKE: u64 = INITIAL + 800;
/// What the answering end sends: a padded Initial with the ServerHello, its key, its Hello and
/// the same small things.
pub(super) const ANSWERER_HANDSHAKE: u64 = INITIAL + 800;
/// A CONNECTION_CLOSE.
pub(super) const CLOSE: u64 = 70;
/// First retransmission timeout while no round trip was measured: three times the initial RTT.
pub(super) const FIRST_PTO: Duration = Duration::from_millis(300);
/// A retransmission is sent no sooner than this after 1.5 round trips: the peer may delay its ACK.
pub(super) const REPAIR: Duration = ACK_DELAY;

/// Bytes of one machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Sent, lost ones included.
    pub(crate) sent: u64,
    /// Received.
    pub(crate) received: u64,
}

/// Packets of one direction of a connection.
#[derive(Default)]
pub(super) struct Packets {
    /// When the last packet left, and what still fits into it.
    open: Option<(Duration, u64)>,
    /// When the one packet came that this end has not acknowledged yet.
    unacked: Option<Duration>,
}

/// What a frame adds to what is sent.
pub(super) struct Added {
    /// Packets it began.
    pub(super) packets: u64,
    /// Bytes, ACKs of this end included.
    pub(super) bytes: u64,
    /// ACKs that went alone since this end last sent.
    pub(super) acks: u64,
}

impl Packets {
    /// `len` bytes of the stream are sent at `now`.
    pub(super) fn send(&mut self, now: Duration, len: usize) -> Added {
        let len = len as u64;
        let acks = u64::from(self.lone_ack(now));
        self.unacked = None;
        let room = match self.open {
            Some((at, room)) if at == now => room,
            _ => 0,
        };
        let rest = len.saturating_sub(room);
        let packets = rest.div_ceil(PACKET_ROOM);
        self.open = Some((now, room + packets * PACKET_ROOM - len));
        Added {
            packets,
            bytes: len + packets * (QUIC + UDP_IP) + acks * ACK,
            acks,
        }
    }

    /// `count` packets came in at `now`: the ACKs that this end sends alone, and their bytes.
    pub(super) fn receive(&mut self, now: Duration, count: u64) -> (u64, u64) {
        let mut acks = 0;
        if self.lone_ack(now) {
            acks += 1;
            self.unacked = None;
        }
        let waiting = count + u64::from(self.unacked.is_some());
        acks += waiting / PACKETS_PER_ACK;
        if waiting.is_multiple_of(PACKETS_PER_ACK) {
            self.unacked = None;
        } else if count > 0 {
            self.unacked = Some(now);
        }
        (acks, acks * ACK)
    }

    fn lone_ack(&self, now: Duration) -> bool {
        self.unacked.is_some_and(|since| now - since >= ACK_DELAY)
    }
}

/// What one lost packet of a frame of `len` bytes costs again.
pub(super) fn lost_packet(len: usize) -> u64 {
    (len as u64).min(PACKET_ROOM) + QUIC + UDP_IP
}

/// Initials that a client has sent `after` its first: each timeout doubles, and from the second
/// on two packets go out.
pub(super) fn repeated_initials(after: Duration) -> u64 {
    let (mut at, mut pto, mut count) = (FIRST_PTO, FIRST_PTO, 0);
    while at < after {
        count += if count == 0 { 1 } else { 2 };
        pto *= 2;
        at += pto;
    }
    count
}
