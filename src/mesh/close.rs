//! Application error codes of QUIC connections and streams (RFC 9000 §20.2). Never reused.

/// Why a link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum CloseCode {
    /// The node stops or no longer needs the link.
    Done = 0x00,
    /// Another connection between the same two nodes was kept.
    Duplicate = 0x10,
    /// The peer's key was revoked.
    Revoked = 0x11,
    /// A frame or a Hello broke the protocol.
    Protocol = 0x12,
    /// The peer sent more than its limits allow.
    Flood = 0x13,
    /// Nothing was heard for too long.
    Timeout = 0x14,
    /// A newer start of the same node is known.
    OldBoot = 0x15,
    /// The two clocks differ by more than the accepted epochs.
    Clock = 0x16,
    /// The Hello's proof does not hold.
    Proof = 0x17,
    /// No tunnel was open on the link, and its end needed it for nothing else.
    Idle = 0x18,
}

impl CloseCode {
    /// The code of a number, if this build knows it.
    pub fn from_number(number: u64) -> Option<Self> {
        use CloseCode::{
            Clock, Done, Duplicate, Flood, Idle, OldBoot, Proof, Protocol, Revoked, Timeout,
        };
        [
            Done, Duplicate, Revoked, Protocol, Flood, Timeout, OldBoot, Clock, Proof, Idle,
        ]
        .into_iter()
        .find(|code| u64::from(*code as u32) == number)
    }

    /// What it means, for logs and `status`.
    pub fn meaning(self) -> &'static str {
        match self {
            CloseCode::Done => "closed by the other side",
            CloseCode::Duplicate => "another connection to the same node was kept",
            CloseCode::Revoked => "this node's key was revoked",
            CloseCode::Protocol => "the other side saw a protocol error",
            CloseCode::Flood => "this node sent more than the other side's limits",
            CloseCode::Timeout => "the other side heard nothing for too long",
            CloseCode::OldBoot => "a newer start of this node is known",
            CloseCode::Clock => "the clocks differ too much",
            CloseCode::Proof => "the proof of membership does not hold",
            CloseCode::Idle => "the other side had no use for it",
        }
    }

    /// Whether this ends a link and says nothing of the node: a tunnel that has no answer yet may
    /// be opened again, on another link.
    pub fn ends_only_the_link(self) -> bool {
        matches!(self, CloseCode::Idle | CloseCode::Duplicate)
    }
}
