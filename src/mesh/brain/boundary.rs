//! What goes into the brain and what comes out.

use std::net::SocketAddr;
use std::time::Duration;

use super::links::LinkUp;
use crate::mesh::addr::{HostPort, PeerAddr};
use crate::mesh::alive::Alive;
use crate::mesh::close::CloseCode;
use crate::mesh::entry::{Entry, NetworkId, Slot};
use crate::mesh::event::What;
use crate::mesh::floor::Floor;
use crate::mesh::id::{Identity, NodeId};
use crate::mesh::members::{KnownPeer, LinkId};
use crate::mesh::records::NodeRecord;
use crate::mesh::wire::Frame;

/// When things happen on links.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A link on which nothing was heard for this long is pinged.
    pub ping_after: Duration,
    /// ... and again after each such pause: one lost packet is no sign of death.
    pub ping_again: Duration,
    /// A peer of which nothing was heard for this long is suspected, if others are heard. Leaves
    /// room for four pings and a round trip.
    pub suspect_after: Duration,
    /// A member that one node suspects is down after this, unless it refutes. Twice the time a
    /// word takes to everybody, and more.
    pub refute_alone: Duration,
    /// The same once two nodes suspect it.
    pub refute_agreed: Duration,
    /// A link on which nothing was heard for this long is closed.
    pub silence_is_death: Duration,
    /// A link this old is replaced by a new one, for fresh keys (security.md §3.8).
    pub redial_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_millis(900),
            ping_again: Duration::from_millis(200),
            suspect_after: Duration::from_millis(1700),
            refute_alone: Duration::from_millis(1300),
            refute_agreed: Duration::from_millis(800),
            silence_is_death: Duration::from_millis(2400),
            redial_after: Duration::from_secs(24 * 3600),
        }
    }
}

/// What a node is when its brain starts.
pub struct Setup {
    /// Its key.
    pub identity: Identity,
    /// Its network.
    pub network: NetworkId,
    /// This start of the process (C18).
    pub boot: u64,
    /// What it says of itself.
    pub record: NodeRecord,
    /// Nodes to dial first; those without id learn it.
    pub connect: Vec<PeerAddr>,
    /// Seconds per crypto epoch, for deciding when silence may be a wrong clock.
    pub crypto_interval: u32,
    /// When things happen.
    pub timing: Timing,
}

/// What a dial was for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialled {
    /// A node, by id: the connection is pinned to it.
    Node(NodeId),
    /// An address whose node is not known yet.
    Host(HostPort),
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// A connection whose Hello was checked on both sides.
    LinkUp(LinkUp),
    /// A connection of somebody who wants to see who is here and is no member.
    ObserverUp {
        /// Its number.
        link: LinkId,
    },
    /// A connection ended.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, for people.
        reason: String,
        /// One of its ends needed it no longer: its end says nothing of the node behind it.
        let_go: bool,
    },
    /// Bytes came over a link that made no frame: of tunnels, or acknowledgements. Bytes served
    /// count as life.
    Heard {
        /// Which.
        link: LinkId,
        /// Round trip, as QUIC measures it.
        rtt: Duration,
        /// They came after this, monotonic: when the driver last looked. Taking them for fresh
        /// would let a dead peer pass for alive until the next look.
        since: Duration,
    },
    /// A control frame.
    Frame {
        /// On which link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// A dial ended without a link. Every [`Effect::Dial`] ends in this or in a [`LinkUp`].
    DialFailed {
        /// What it was for.
        dialled: Dialled,
        /// Nothing at all came back: a wrong token, a wrong clock, a dead host.
        silent: bool,
        /// Why, for people.
        reason: String,
    },
}

/// What to do. Carried out in order.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Send a frame on a link; a link that is gone swallows it.
    Send {
        /// Where.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// Dial, all targets at once, the first Hello wins.
    Dial {
        /// What for.
        dialled: Dialled,
        /// Where.
        targets: Vec<HostPort>,
    },
    /// Close a link now.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        code: CloseCode,
    },
    /// The peer is silent: close a link that carries no tunnel. One that does may be heard again,
    /// and is then told of with [`LinkUp::again`](super::LinkUp).
    Lose {
        /// Which.
        link: LinkId,
    },
    /// End this side's control stream behind what was sent: the other side closes the link when
    /// it has read that far.
    Finish {
        /// Which.
        link: LinkId,
    },
    /// Close a link when no tunnel is left on it; open none on it.
    Retire {
        /// Which.
        link: LinkId,
    },
    /// Close a link unless a tunnel is open on it, or was a moment ago: nothing else needs it.
    Trim {
        /// Which.
        link: LinkId,
    },
    /// Keep on disk; losing it in a crash costs a reconciliation, nothing more.
    Save(Save),
    /// Tell whoever watches.
    Event(What),
    /// Dial with epochs further away, to find out whether this node's clock is wrong (A9).
    SearchClock {
        /// A pinned peer.
        peer: NodeId,
        /// Where.
        targets: Vec<HostPort>,
    },
    /// What Hellos say of this node from now on: it refuted a suspicion, or leaves.
    OwnAlive(Alive),
    /// Knocks for these addresses of this node are valid, too (A4).
    OwnAddresses(Vec<SocketAddr>),
    /// Stop the node: another process uses its identity (C18).
    Cloned,
}

/// What the store keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Save {
    /// A durable entry of another author.
    Entry(Entry),
    /// A durable slot that was given up for newer ones.
    Drop(Slot),
    /// A floor of another author, and that everything it voids is gone.
    Floor(Floor),
    /// The floor of this author was given up.
    ForgetFloor(NodeId),
    /// What is known of a peer.
    Peer(KnownPeer),
}
