//! Datagrams that leave together. QUIC hands over a few at once, the system takes 64 KiB in one
//! call (UDP GSO), and with packets of 1500 bytes the call costs more than what it carries.

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

/// Most bytes of one call: the length field of a UDP datagram has 16 bits (RFC 768), and what the
/// system puts in front of the bytes counts.
const MAX_BYTES: usize = 65_000;
/// Datagrams that QUIC is let hand over at once; fewer are the end of its burst. It does not look
/// at their size, so this many of the largest must fit into one call.
pub(super) const BURST: usize = 4;

/// Datagrams of one size to one address that wait for more of the same.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Of what waits; without meaning while nothing does.
    to: Option<To>,
    /// Something came since [`settled`](Self::settled) was asked last.
    grown: bool,
}

/// What datagrams of one call have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct To {
    destination: SocketAddr,
    source: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    segment: usize,
}

/// What becomes of datagrams that are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// They wait for more.
    Wait,
    /// They are with those that waited, and no more is to be waited for.
    Complete,
    /// They were not taken: they go by themselves, behind what waits.
    Apart,
}

impl Batch {
    /// Takes datagrams in if they can go in one call of at most `segments` with what waits.
    pub(super) fn offer(&mut self, transmit: &Transmit<'_>, segments: usize) -> Offer {
        let size = transmit.contents.len();
        let mut to = To {
            destination: transmit.destination,
            source: transmit.src_ip,
            ecn: transmit.ecn,
            segment: transmit.segment_size.unwrap_or(size),
        };
        let whole = size == to.segment * BURST;
        if let Some(waiting) = self.to.filter(|_| !self.is_empty()) {
            // The last of a call may be shorter than the others.
            if transmit.segment_size.is_none() && size < waiting.segment {
                to.segment = waiting.segment;
            }
            if to != waiting {
                return Offer::Apart;
            }
        } else if !whole {
            return Offer::Apart;
        }
        let room = MAX_BYTES.min(to.segment.saturating_mul(segments));
        let filled = self.bytes.len() + size;
        // Alone in its call it need not be copied.
        if filled > room || self.is_empty() && filled + size > room {
            return Offer::Apart;
        }
        self.bytes.extend_from_slice(transmit.contents);
        self.to = Some(to);
        self.grown = true;
        match whole && filled + size <= room {
            true => Offer::Wait,
            false => Offer::Complete,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether nothing came since the last call.
    pub(super) fn settled(&mut self) -> bool {
        !std::mem::take(&mut self.grown)
    }

    /// What waits, for one call.
    pub(super) fn transmit(&self) -> Option<Transmit<'_>> {
        let to = self.to.filter(|_| !self.is_empty())?;
        Some(Transmit {
            destination: to.destination,
            ecn: to.ecn,
            contents: &self.bytes,
            segment_size: Some(to.segment),
            src_ip: to.source,
        })
    }

    /// What waited has left.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: usize = 64;
    const PACKET: usize = 1452;
    /// A whole burst of them; eleven fit into a call.
    const WHOLE: usize = BURST * PACKET;

    fn transmit(contents: &[u8], segment: Option<usize>, port: u16) -> Transmit<'_> {
        Transmit {
            destination: SocketAddr::from(([127, 0, 0, 1], port)),
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: None,
        }
    }

    #[test]
    fn whole_bursts_wait_until_the_call_is_full_or_the_burst_ends() {
        let bytes: Vec<u8> = (0..=250).cycle().take(WHOLE).collect();
        let whole = transmit(&bytes, Some(PACKET), 1);
        let mut batch = Batch::default();
        for filled in 1..=10 {
            assert_eq!(batch.offer(&whole, SEGMENTS), Offer::Wait);
            assert_eq!(batch.transmit().unwrap().contents.len(), filled * WHOLE);
        }
        assert_eq!(batch.offer(&whole, SEGMENTS), Offer::Complete);
        let call = batch.transmit().unwrap();
        assert_eq!(call.contents, bytes.repeat(11));
        assert_eq!(call.segment_size, Some(PACKET));
        assert_eq!(batch.offer(&whole, SEGMENTS), Offer::Apart);

        batch.clear();
        assert!(batch.is_empty() && batch.transmit().is_none());
        assert_eq!(batch.offer(&whole, SEGMENTS), Offer::Wait);
        let last = transmit(&bytes[..2000], Some(PACKET), 1);
        assert_eq!(batch.offer(&last, SEGMENTS), Offer::Complete);
        assert_eq!(batch.transmit().unwrap().contents.len(), WHOLE + 2000);
        batch.clear();
        assert_eq!(batch.offer(&whole, SEGMENTS), Offer::Wait);
        let short = transmit(&bytes[..100], None, 1);
        assert_eq!(batch.offer(&short, SEGMENTS), Offer::Complete);
        assert_eq!(batch.transmit().unwrap().segment_size, Some(PACKET));
    }

    #[test]
    fn what_is_not_alike_goes_apart_and_so_does_what_gains_nothing() {
        let bytes = vec![7; 65_000];
        let mut batch = Batch::default();
        let whole = transmit(&bytes[..WHOLE], Some(PACKET), 1);
        assert_eq!(
            batch.offer(&transmit(&bytes[..PACKET], None, 1), SEGMENTS),
            Offer::Apart
        );
        assert_eq!(
            batch.offer(&transmit(&bytes, Some(65_000 / BURST), 1), SEGMENTS),
            Offer::Apart
        );
        assert_eq!(
            batch.offer(&whole, BURST),
            Offer::Apart,
            "no GSO beyond QUIC's own"
        );
        assert!(batch.is_empty());
        assert_eq!(batch.offer(&whole, SEGMENTS), Offer::Wait);
        for other in [
            transmit(&bytes[..WHOLE], Some(PACKET), 2),
            transmit(&bytes[..BURST * 1400], Some(1400), 1),
            transmit(&bytes[..1500], None, 1),
        ] {
            assert_eq!(batch.offer(&other, SEGMENTS), Offer::Apart);
        }
        assert_eq!(batch.transmit().unwrap().contents.len(), WHOLE);
    }

    #[test]
    fn it_has_settled_when_nothing_came_between_two_looks() {
        let bytes = vec![7; WHOLE];
        let mut batch = Batch::default();
        batch.offer(&transmit(&bytes, Some(PACKET), 1), SEGMENTS);
        assert!(!batch.settled());
        assert!(batch.settled());
        batch.offer(&transmit(&bytes, Some(PACKET), 1), SEGMENTS);
        assert!(!batch.settled());
    }
}
