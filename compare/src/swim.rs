//! SWIM: `foca`, its messages in sealed datagrams of their own beside QUIC.
//!
//! What a datagram costs, see [`SEAL`]: 28 B of IP and UDP, 14 B of header (kind, epoch, nonce),
//! 16 B of tag, the sender's id (32 B), boot (8 B) and sequence number (8 B), an Ed25519 signature
//! of 64 B, and what foca wrote. Not counted is the receiver's id, which is associated data. A
//! member in foca's updates costs 13 B: 8 B of its id, a renewal, an incarnation and a state. A
//! signature per update, which foca has no place for, would be 64 B more.

use std::cell::Cell;
use std::convert::Infallible;
use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use std::rc::Rc;
use std::time::Duration;

use foca::{
    BroadcastHandler, Config, Foca, Invalidates, Member, Notification, PeriodicParams, Runtime,
    Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::Result;
use crate::candidate::{Candidate, ENTRY_BYTES, Overlay};
use crate::wire::{ADDRESSES, Id, Wire};
use crate::world::{Heap, MS, Micros, Network, Watch};

const IP_UDP: usize = 28;
const HEADER_AND_TAG: usize = 14 + 16;
const SENDER: usize = 32 + 8 + 8;
const SIGNATURE: usize = 64;
/// Added to every datagram.
const SEAL: usize = IP_UDP + HEADER_AND_TAG + SENDER + SIGNATURE;
/// Of a datagram without IP and UDP, so that it is no use to a reflector.
const MAX_DATAGRAM: usize = 512;
/// A node starts to probe somewhere in this time, as nodes do that were not started together.
const START: Micros = 1_000 * MS;

/// How foca is set.
#[derive(Clone, Copy)]
pub(crate) enum Tuning {
    /// `Config::new_lan`: a probe per second and node.
    Lan,
    /// Towards dead in 3 s and no mistakes: see [`Tuning::config`].
    Fast,
}

impl Tuning {
    fn config(self, nodes: usize) -> Result<Config> {
        let size = NonZeroU32::new(u32::try_from(nodes)?).ok_or("no nodes")?;
        let lan = Config::new_lan(size);
        let max_packet_size =
            NonZeroUsize::new(MAX_DATAGRAM + IP_UDP - SEAL + ADDRESSES).ok_or("no room")?;
        let config = Config {
            max_packet_size,
            // Everybody knows everybody from the start; asking for members is another cost.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            ..lan
        };
        Ok(match self {
            Self::Lan => config,
            Self::Fast => Config {
                probe_period: Duration::from_millis(500),
                // Above the slowest pair, and the indirect way (four times one-way) fits after it.
                probe_rtt: Duration::from_millis(180),
                num_indirect_probes: NonZeroUsize::new(5).ok_or("none")?,
                suspect_to_down_after: fast_suspicion(nodes),
                max_transmissions: fast_transmissions(nodes),
                periodic_gossip: Some(PeriodicParams {
                    frequency: Duration::from_millis(100),
                    num_members: NonZeroUsize::new(3).ok_or("none")?,
                }),
                ..config
            },
        })
    }

    /// Whether news goes on at once and not with the next tick.
    fn at_once(self) -> bool {
        matches!(self, Self::Fast)
    }
}

/// Copies of each piece of news that each node sends. Foca never repairs what nobody sent again,
/// and with its own number, half to two thirds of this, up to every tenth entry misses somebody.
fn fast_transmissions(nodes: usize) -> NonZeroU8 {
    NonZeroU8::MIN.saturating_add(match nodes {
        0..=20 => 8,
        21..=100 => 12,
        _ => 17,
    })
}

/// Time for a suspicion to reach its subject and for the refutation to come back.
fn fast_suspicion(nodes: usize) -> Duration {
    Duration::from_millis(match nodes {
        0..=20 => 1_000,
        21..=100 => 1_300,
        _ => 2_000,
    })
}

/// Takes each entry once: entries are numbered, and a node has all up to `newest` or will not
/// hear of them again.
struct Entries {
    newest: Rc<Cell<u32>>,
}

/// An entry's number; each entry has its own key, so none replaces another.
struct Entry(u32);

impl Invalidates for Entry {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// What foca asks for while it handles something.
#[derive(Default)]
struct Wishes {
    sends: Vec<(Id, Vec<u8>)>,
    timers: Vec<(Duration, Timer<Id>)>,
    down: Vec<Id>,
}

impl Runtime<Id> for Wishes {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        if let Notification::MemberDown(id) = notification {
            self.down.push(*id);
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((after, event));
    }
}

enum Event {
    Start(usize),
    Datagram(usize, Vec<u8>),
    Timer(usize, Timer<Id>),
}

impl BroadcastHandler<Id> for Entries {
    type Key = Entry;
    type Error = Infallible;

    fn receive_item(
        &mut self,
        data: &[u8],
        _sender: Option<&Id>,
    ) -> std::result::Result<Option<Entry>, Infallible> {
        let Some(number) = data.first_chunk().copied().map(u32::from_be_bytes) else {
            return Ok(None);
        };
        if number <= self.newest.get() {
            return Ok(None);
        }
        self.newest.set(number);
        Ok(Some(Entry(number)))
    }
}

type Node = Foca<Id, Wire, SmallRng, Entries>;

/// A mesh of foca instances.
pub(crate) struct Swim {
    tuning: Tuning,
    heap: Heap<Event>,
    network: Network,
    watch: Watch,
    nodes: Vec<Node>,
    /// The newest entry each node has; its broadcast handler has the other end.
    newest: Vec<Rc<Cell<u32>>>,
    alive: Vec<bool>,
    now: Micros,
    entries: u32,
}

impl Swim {
    /// Nodes that know each other from the start.
    pub(crate) fn new(tuning: Tuning, nodes: usize, seed: u64, loss: f64) -> Result<Self> {
        let config = tuning.config(nodes)?;
        let mut network = Network::new(seed, loss);
        let mut heap = Heap::new();
        let newest: Vec<Rc<Cell<u32>>> = (0..nodes).map(|_| Rc::default()).collect();
        let mut all = Vec::with_capacity(nodes);
        for (node, newest) in (0_u32..).zip(&newest) {
            heap.put(network.phase(START), Event::Start(node as usize));
            all.push(Foca::with_custom_broadcast(
                Id { node, renewal: 0 },
                config.clone(),
                SmallRng::seed_from_u64(seed ^ u64::from(node + 1) << 32),
                Wire,
                Entries {
                    newest: Rc::clone(newest),
                },
            ));
        }
        Ok(Self {
            tuning,
            heap,
            network,
            watch: Watch::new(nodes),
            nodes: all,
            newest,
            alive: vec![true; nodes],
            now: 0,
            entries: 0,
        })
    }

    /// Lets a node handle something, then does what it wishes, and passes news on if told to.
    fn turn(
        &mut self,
        node: usize,
        handle: impl FnOnce(&mut Node, &mut Wishes) -> std::result::Result<(), foca::Error>,
    ) -> Result<()> {
        let before = self.newest[node].get();
        let mut wishes = Wishes::default();
        handle(&mut self.nodes[node], &mut wishes)?;
        let fresh = self.newest[node].get() != before;
        if fresh {
            self.watch.has_entry(self.now, node);
        }
        if self.tuning.at_once() {
            if fresh {
                self.nodes[node].broadcast(&mut wishes)?;
            }
            if !wishes.down.is_empty() {
                self.nodes[node].gossip(&mut wishes)?;
            }
        }
        for (to, data) in wishes.sends {
            let to = to.node as usize;
            let bytes = data.len() - ADDRESSES + SEAL;
            if let Some(latency) = self.network.send(node, to, bytes) {
                self.heap.put(self.now + latency, Event::Datagram(to, data));
            }
        }
        for (after, timer) in wishes.timers {
            let after = Micros::try_from(after.as_micros())?;
            self.heap.put(self.now + after, Event::Timer(node, timer));
        }
        for id in wishes.down {
            let about = id.node as usize;
            self.watch.gone(
                self.now,
                node,
                about,
                u64::from(id.renewal),
                self.alive[about],
            );
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Start(node) => {
                let others = (0_u32..)
                    .take(self.alive.len())
                    .filter(|&other| other as usize != node)
                    .map(|node| Member::alive(Id { node, renewal: 0 }));
                self.turn(node, |foca, wishes| foca.apply_many(others, false, wishes))
            }
            Event::Datagram(node, data) if self.alive[node] => {
                self.turn(node, |foca, wishes| foca.handle_data(&data, wishes))
            }
            Event::Timer(node, timer) if self.alive[node] => {
                self.turn(node, |foca, wishes| foca.handle_timer(timer, wishes))
            }
            Event::Datagram(..) | Event::Timer(..) => Ok(()),
        }
    }
}

impl Candidate for Swim {
    fn run(&mut self, span: Micros) -> Result<()> {
        let until = self.now + span;
        while let Some((at, event)) = self.heap.take(until) {
            self.now = at;
            self.handle(event)?;
        }
        self.now = until;
        Ok(())
    }

    fn publish(&mut self, node: usize) -> Result<()> {
        self.entries += 1;
        let mut entry = self.entries.to_be_bytes().to_vec();
        entry.resize(ENTRY_BYTES, 0);
        self.turn(node, |foca, wishes| {
            foca.add_broadcast(&entry)?;
            foca.broadcast(wishes)
        })
    }

    fn kill(&mut self, node: usize) {
        self.alive[node] = false;
    }

    fn leave(&mut self, node: usize) -> Result<()> {
        self.alive[node] = false;
        self.turn(node, |foca, wishes| foca.leave_cluster(wishes))
    }

    fn now(&self) -> Micros {
        self.now
    }

    fn alive(&self) -> &[bool] {
        &self.alive
    }

    fn network(&self) -> &Network {
        &self.network
    }

    fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    fn overlay(&self) -> Option<Overlay> {
        None
    }
}
