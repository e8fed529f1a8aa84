//! N real brains, one heap of events, virtual time. Everything random comes from one seed.
//!
//! Links are reliable streams of packets: loss is delay and costs bytes, a partition holds bytes
//! back until it heals, a killed process says nothing to anybody and loses what its disk had not
//! committed. No event costs more for there being many machines.
//!
//! A small world keeps and shows everything ([`World::new`]); a large one passes frames as values
//! and keeps only what a benchmark asks for ([`World::large`]).

pub(crate) mod churn;
mod clock;
mod cost;
mod crowd;
mod disk;
mod faults;
mod links;
mod look;
mod network;
mod process;
mod puppet;
mod sample;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use warren::mesh::addr::{HostPort, PeerAddr};
use warren::mesh::alive::Alive;
use warren::mesh::brain::{Brain, Dialled, Timing};
use warren::mesh::entry::NetworkId;
use warren::mesh::event::What;
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::time::Now;
use warren::mesh::view::View;
use warren::mesh::wire::Frame;

pub(crate) use clock::Clock;
pub(crate) use cost::Traffic;
pub(crate) use disk::Disk;

use faults::Faults;
use links::{Conn, Dial};

pub(crate) const NETWORK: NetworkId = NetworkId([7; 16]);
const PORT: u16 = 7717;
/// Address of the first machine; the others follow.
const FIRST_ADDRESS: u32 = 0x0a00_0001;
/// Timers that fire without time passing; more is a spinning daemon.
const MAX_SPINS: u32 = 40;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How the network behaves.
pub(crate) struct Net {
    /// One-way delay between two machines, at least and at most; drawn once for each pair.
    pub(crate) distance: (Duration, Duration),
    /// What each packet takes beyond that, at least and at most.
    pub(crate) latency: (Duration, Duration),
    /// Share of packets that are lost. QUIC sends them again after a probe timeout, 1.5 round
    /// trips and `repair`, which doubles if they are lost again; what follows on the link waits.
    pub(crate) loss: f64,
    /// See `loss`.
    pub(crate) repair: Duration,
    /// What a machine can send, bytes per second; `None`: anything at once.
    pub(crate) bandwidth: Option<u64>,
    /// After this long a dial without an answer has failed.
    pub(crate) dial_limit: Duration,
    /// Tunnels that hold a retired link open, at most.
    pub(crate) tunnel: Duration,
    /// At each wake a brain is told of links on which an ACK came since the last, as the driver
    /// does. However long ago that was, the brain takes it for a sign of life of that moment.
    pub(crate) tell_acks: bool,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            distance: (Duration::ZERO, Duration::ZERO),
            latency: (ms(1), ms(5)),
            loss: 0.0,
            repair: cost::REPAIR,
            bandwidth: None,
            dial_limit: secs(3),
            tunnel: Duration::ZERO,
            tell_acks: true,
        }
    }
}

/// What a world keeps beside what it needs; all of it costs time and memory in a large one.
#[derive(Clone, Copy)]
pub(crate) struct Detail {
    /// Frames cross as bytes, through the real codec.
    pub(crate) codec: bool,
    /// Events and dials of each machine are kept.
    pub(crate) history: bool,
    /// Disks keep what brains save; without, a restarted node knows its contacts only.
    pub(crate) disks: bool,
    views: bool,
}

/// What happened; a knob whose counter stays 0 has tested nothing.
#[derive(Clone, Default, Debug)]
pub(crate) struct Stats {
    /// Things that happened, of any kind.
    pub(crate) steps: u64,
    pub(crate) frames: u64,
    /// Bytes of frames, without what carries them.
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) acks: u64,
    /// Packets that were lost and sent again.
    pub(crate) delayed: u64,
    /// Packets that waited for their sender's line.
    pub(crate) queued: u64,
    /// Arrivals held back by a cut.
    pub(crate) held: u64,
    pub(crate) lost_dials: u64,
    pub(crate) refused_dials: u64,
    pub(crate) slept_through: u64,
    pub(crate) retired: u64,
    /// What brains saved and crashes took.
    pub(crate) lost_saves: u64,
    /// Commits of disks, of any number of changes.
    pub(crate) commits: u64,
    /// Links of which brains were told that datagrams came, though no frame did.
    pub(crate) heard: u64,
    /// Nodes that others said are up.
    pub(crate) ups: u64,
    /// Nodes that others said are down.
    pub(crate) downs: u64,
}

/// One machine: a process at most, its disk, and what its process told the world.
pub(crate) struct Machine {
    pub(crate) identity: Identity,
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) disk: Disk,
    pub(crate) connect: Vec<PeerAddr>,
    pub(crate) advertise: bool,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) traffic: Traffic,
    pub(crate) view: Option<Arc<View>>,
    pub(crate) events: Vec<(Duration, What)>,
    pub(crate) dials: Vec<(Duration, Dialled, Vec<HostPort>)>,
    pub(crate) searches: Vec<Duration>,
    pub(crate) cloned: bool,
    /// Frames that a puppet, a machine without a brain, was sent.
    pub(crate) inbox: Vec<Frame>,
    /// The only members it is told of, if it is not told of all; see [`World::acquainted`].
    knows: Option<BTreeSet<NodeId>>,
    brain: Option<Box<Brain>>,
    puppet: bool,
    /// A puppet's: see [`World::puppet_answers`] and [`World::teach`].
    hello: Option<Alive>,
    manners: fn(&Frame) -> Vec<Frame>,
    /// Raised with every start and end of a process: what was meant for another one is void.
    process: u64,
    started: Duration,
    frozen: bool,
    backlog: Vec<Event>,
    /// Connections of the process that are up.
    links: BTreeSet<usize>,
    /// When the brain wants to be called, and for when that was planned last.
    due: Option<Duration>,
    planned: Option<Duration>,
    turn: u64,
    spins: (Duration, u32),
    /// When its driver last looked what came over its links.
    looked: Duration,
    /// When all that was sent has left, if the line is slow.
    line_free: Duration,
    rng: SmallRng,
}

#[derive(Clone, Copy)]
enum Event {
    Wake { node: usize, turn: u64 },
    Arrive { dial: usize, at: usize },
    Arrival { conn: usize, end: usize },
    Closed { conn: usize, end: usize, by: usize },
    DialOver { dial: usize, silent: bool },
    CloseBoth { conn: usize, by: usize },
    Commit { node: usize, process: u64 },
}

/// An event and its place in time: the earlier is the greater, for the heap.
struct Planned {
    at: Duration,
    sequence: u64,
    event: Event,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) net: Net,
    pub(crate) detail: Detail,
    /// How long what a brain saves waits for its commit; 80 ms as the store's.
    pub(crate) commit_after: Duration,
    pub(crate) stats: Stats,
    pub(crate) nodes: Vec<Machine>,
    /// Names that resolve.
    pub(crate) dns: BTreeMap<HostPort, SocketAddr>,
    rng: SmallRng,
    heap: BinaryHeap<Planned>,
    sequence: u64,
    /// Numbers are never used again; what is over is `None`.
    conns: Vec<Option<Box<Conn>>>,
    dials: Vec<Option<Box<Dial>>>,
    faults: Faults,
}

/// Whether there is time for more than what everybody runs all day: `WARREN_LONG=1`.
pub(crate) fn long() -> bool {
    std::env::var("WARREN_LONG").is_ok_and(|value| value == "1")
}

/// Runs `test` in worlds of many seeds and names the seed that failed. `SIM_SEED` picks one.
pub(crate) fn for_seeds(count: u64, test: impl Fn(World)) {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with SIM_SEED={}", self.0);
            }
        }
    }
    let chosen = std::env::var("SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let _tell = Tell(seed);
        test(World::new(seed));
    }
}

impl World {
    /// A world that keeps and shows everything.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            time: Duration::ZERO,
            net: Net::default(),
            detail: Detail {
                codec: true,
                history: true,
                disks: true,
                views: true,
            },
            commit_after: ms(80),
            stats: Stats::default(),
            nodes: Vec::new(),
            dns: BTreeMap::new(),
            rng: SmallRng::seed_from_u64(seed),
            heap: BinaryHeap::new(),
            sequence: 0,
            conns: Vec::new(),
            dials: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// A world for many machines: nothing is kept but counts.
    pub(crate) fn large(seed: u64) -> Self {
        let detail = Detail {
            codec: false,
            history: false,
            disks: false,
            views: false,
        };
        Self {
            detail,
            ..Self::new(seed)
        }
    }

    /// Whether machines keep the newest view of their brains, as most looks at a world need.
    pub(crate) fn watch_views(&mut self, on: bool) {
        self.detail.views = on;
        for node in self.running() {
            self.nodes[node].view = None;
            if on {
                self.with(node, |_, _, _| ());
            }
        }
    }

    /// A machine that is off.
    pub(crate) fn machine(&mut self) -> usize {
        let index = self.nodes.len();
        let identity = Identity::from_seed(&self.rng.random());
        let ip = Ipv4Addr::from_bits(FIRST_ADDRESS + u32::try_from(index).unwrap());
        self.nodes.push(Machine {
            id: identity.id(),
            identity,
            addr: SocketAddr::from((ip, PORT)),
            disk: Disk::default(),
            connect: Vec::new(),
            advertise: true,
            timing: Timing::default(),
            clock: Clock::default(),
            traffic: Traffic::default(),
            view: None,
            events: Vec::new(),
            dials: Vec::new(),
            searches: Vec::new(),
            cloned: false,
            inbox: Vec::new(),
            knows: None,
            brain: None,
            puppet: false,
            hello: None,
            manners: |_| Vec::new(),
            process: 0,
            started: Duration::ZERO,
            frozen: false,
            backlog: Vec::new(),
            links: BTreeSet::new(),
            due: None,
            planned: None,
            turn: 0,
            spins: (Duration::ZERO, 0),
            looked: Duration::ZERO,
            line_free: Duration::ZERO,
            rng: SmallRng::seed_from_u64(self.seed ^ (index as u64) << 32),
        });
        index
    }

    /// The machine at an address, which tells its number.
    fn machine_at(&self, addr: &SocketAddr) -> Option<usize> {
        let SocketAddr::V4(v4) = addr else {
            return None;
        };
        let index = v4.ip().to_bits().checked_sub(FIRST_ADDRESS)? as usize;
        self.nodes
            .get(index)
            .is_some_and(|machine| machine.addr == *addr)
            .then_some(index)
    }

    /// How to dial `node` by id and address.
    pub(crate) fn pinned(&self, node: usize) -> PeerAddr {
        let node = &self.nodes[node];
        PeerAddr {
            id: Some(node.id),
            at: node.addr.into(),
        }
    }

    pub(crate) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].id
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        let machine = &self.nodes[node];
        Now {
            mono: machine.clock.local(self.time - machine.started),
            unix_ms: machine.clock.unix_ms(self.time),
        }
    }

    /// Lets `span` pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.time + span;
        while self.heap.peek().is_some_and(|next| next.at <= until) {
            let next = self.heap.pop().expect("just seen");
            self.time = self.time.max(next.at);
            self.stats.steps += 1;
            self.happen(next.event);
        }
        self.time = until;
    }

    /// Lets time pass until `condition` holds, looking every `step`; how long it took, or `None`
    /// after `limit`.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        step: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.time;
        while !condition(self) {
            if self.time - start >= limit {
                return None;
            }
            self.run(step);
        }
        Some(self.time - start)
    }

    /// Lets time pass until `condition` holds; panics after `limit`. Returns how long it took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let took = self.wait(limit, ms(5), condition);
        took.unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.heap.push(Planned {
            at,
            sequence,
            event,
        });
    }

    fn happen(&mut self, event: Event) {
        let Some((node, process)) = self.whose(event) else {
            return;
        };
        if self.nodes[node].process != process {
            return self.discard(event);
        }
        if self.nodes[node].frozen {
            self.nodes[node].backlog.push(event);
            return;
        }
        match event {
            Event::Wake { node, turn } => self.wake(node, turn),
            Event::Arrive { dial, at } => self.answer(dial, at),
            Event::Arrival { conn, end } => self.arrive(conn, end),
            Event::Closed { conn, end, by } => {
                if self.faults.cuts(by, node) {
                    self.stats.held += 1;
                } else {
                    self.link_down(conn, end, "closed");
                }
            }
            Event::DialOver { dial, silent } => self.dial_over(dial, silent),
            Event::CloseBoth { conn, by } => self.close(conn, by),
            Event::Commit { node, .. } => self.commit(node),
        }
    }

    /// Which process an event is for; `None` if what it is about is over.
    fn whose(&self, event: Event) -> Option<(usize, u64)> {
        let end = |conn: usize, end: usize| {
            let end = &self.conns[conn].as_ref()?.ends[end];
            Some((end.node, end.process))
        };
        match event {
            Event::Wake { node, .. } | Event::Arrive { at: node, .. } => {
                Some((node, self.nodes[node].process))
            }
            Event::Arrival { conn, end: side }
            | Event::Closed {
                conn, end: side, ..
            } => end(conn, side),
            Event::DialOver { dial, .. } => {
                let dial = self.dials[dial].as_ref()?;
                Some((dial.from, dial.process))
            }
            Event::CloseBoth { conn, by } => end(conn, self.conns[conn].as_ref()?.side_of(by)),
            Event::Commit { node, process } => Some((node, process)),
        }
    }
}
