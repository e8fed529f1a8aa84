//! How foca's messages are written: as short as a datagram of this project would have them.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

/// The simulation's own addresses in each message (two times node and renewal), which a real
/// datagram has in its sender's fields and its associated data.
pub(crate) const ADDRESSES: usize = 2 * 6;

/// A node, and how often it had to rejoin after a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) node: u32,
    pub(crate) renewal: u16,
}

impl Identity for Id {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            renewal: self.renewal.wrapping_add(1),
            ..*self
        })
    }

    fn addr(&self) -> u32 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.renewal > adversary.renewal
    }
}

/// Writes what a datagram would carry; 6 B for each address that [`ADDRESSES`] takes off again.
pub(crate) struct Wire;

/// The bytes of a [`Member`]: short id, renewal, incarnation, state.
const MEMBER: usize = 8 + 2 + 2 + 1;

#[derive(Debug, thiserror::Error)]
#[error("message too short, or for a full buffer")]
pub(crate) struct WireError;

fn put_id(id: Id, buf: &mut impl BufMut) {
    buf.put_u32(id.node);
    buf.put_u16(id.renewal);
}

fn get_id(buf: &mut impl Buf) -> Result<Id, WireError> {
    Ok(Id {
        node: buf.try_get_u32().map_err(|_| WireError)?,
        renewal: buf.try_get_u16().map_err(|_| WireError)?,
    })
}

impl Codec<Id> for Wire {
    type Error = WireError;

    fn encode_header(
        &mut self,
        header: &Header<Id>,
        mut buf: impl BufMut,
    ) -> Result<(), WireError> {
        put_id(header.src, &mut buf);
        put_id(header.dst, &mut buf);
        buf.put_u16(header.src_incarnation);
        let (kind, number, third) = match header.message {
            Message::Ping(number) => (0, Some(number), None),
            Message::Ack(number) => (1, Some(number), None),
            Message::PingReq {
                target,
                probe_number,
            } => (2, Some(probe_number), Some(target)),
            Message::IndirectPing {
                origin,
                probe_number,
            } => (3, Some(probe_number), Some(origin)),
            Message::IndirectAck {
                target,
                probe_number,
            } => (4, Some(probe_number), Some(target)),
            Message::ForwardedAck {
                origin,
                probe_number,
            } => (5, Some(probe_number), Some(origin)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        buf.put_u8(kind);
        if let Some(number) = number {
            buf.put_u8(number);
        }
        if let Some(third) = third {
            put_id(third, &mut buf);
            // Short id and renewal, as in a member.
            buf.put_u32(0);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, WireError> {
        let src = get_id(&mut buf)?;
        let dst = get_id(&mut buf)?;
        let src_incarnation = buf.try_get_u16().map_err(|_| WireError)?;
        let kind = buf.try_get_u8().map_err(|_| WireError)?;
        let probe_number = match kind {
            0..=5 => buf.try_get_u8().map_err(|_| WireError)?,
            _ => 0,
        };
        let third = match kind {
            2..=5 => {
                let id = get_id(&mut buf)?;
                buf.try_get_u32().map_err(|_| WireError)?;
                id
            }
            _ => src,
        };
        let message = match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq {
                target: third,
                probe_number,
            },
            3 => Message::IndirectPing {
                origin: third,
                probe_number,
            },
            4 => Message::IndirectAck {
                target: third,
                probe_number,
            },
            5 => Message::ForwardedAck {
                origin: third,
                probe_number,
            },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            _ => return Err(WireError),
        };
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Id>,
        mut buf: impl BufMut,
    ) -> Result<(), WireError> {
        if buf.remaining_mut() < MEMBER {
            return Err(WireError);
        }
        buf.put_u64(u64::from(member.id().node));
        buf.put_u16(member.id().renewal);
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, WireError> {
        let node = buf.try_get_u64().map_err(|_| WireError)?;
        let id = Id {
            node: u32::try_from(node).map_err(|_| WireError)?,
            renewal: buf.try_get_u16().map_err(|_| WireError)?,
        };
        let incarnation = buf.try_get_u16().map_err(|_| WireError)?;
        let state = match buf.try_get_u8().map_err(|_| WireError)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(WireError),
        };
        Ok(Member::new(id, incarnation, state))
    }
}
