//! N real brains, one heap of events, virtual time. Everything random comes from one seed.
//!
//! Links are reliable streams: loss is delay, a partition holds bytes back until it heals, a
//! killed process says nothing to anybody. Frames cross as bytes, through the real codec.

mod look;
mod network;
mod puppet;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use warren::mesh::addr::{HostPort, PeerAddr};
use warren::mesh::brain::{Brain, Dialled, Setup, Timing};
use warren::mesh::entry::{Alive, Entry, NetworkId, Slot};
use warren::mesh::event::What;
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::members::KnownPeer;
use warren::mesh::members::LinkId;
use warren::mesh::name::Bucket;
use warren::mesh::records::{NodeRecord, ServiceRecord, display_id};
use warren::mesh::time::Now;
use warren::mesh::view::View;
use warren::mesh::wire::Frame;

pub(crate) const NETWORK: NetworkId = NetworkId([7; 16]);
/// Wall clock at the start of every world.
const UNIX_MS: u64 = 1_790_000_000_000;
/// After this long a dial without an answer has failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
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
    /// One-way delay of a message, at least and at most.
    pub(crate) latency: (Duration, Duration),
    /// Share of messages that need a retransmission, and what it costs.
    pub(crate) loss: (f64, Duration),
    /// Tunnels that hold a retired link open, at most.
    pub(crate) tunnel: Duration,
}

/// What happened in the network; a knob whose counter stays 0 has tested nothing.
#[derive(Default, Debug)]
pub(crate) struct Stats {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) delayed: u64,
    pub(crate) held: u64,
    pub(crate) lost_dials: u64,
    pub(crate) refused_dials: u64,
    pub(crate) slept_through: u64,
    pub(crate) retired: u64,
}

/// What a node keeps across its processes.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) entries: BTreeMap<Slot, Entry>,
    pub(crate) peers: BTreeMap<NodeId, KnownPeer>,
    pub(crate) boot: u64,
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
    /// How far its wall clock lags.
    pub(crate) behind: Duration,
    pub(crate) view: Option<Arc<View>>,
    pub(crate) events: Vec<(Duration, What)>,
    pub(crate) dials: Vec<(Duration, Dialled, Vec<HostPort>)>,
    pub(crate) searches: Vec<Duration>,
    pub(crate) cloned: bool,
    /// Frames that a puppet, a machine without a brain, was sent.
    pub(crate) inbox: Vec<Frame>,
    brain: Option<Brain>,
    puppet: bool,
    /// Raised with every start and end of a process: what was meant for another one is void.
    process: u64,
    started: Duration,
    frozen: bool,
    backlog: Vec<Event>,
    links: BTreeMap<LinkId, usize>,
    turn: u64,
    spins: (Duration, u32),
    rng: SmallRng,
}

/// One end of a connection: 0 dialled, 1 answered.
struct End {
    node: usize,
    process: u64,
    link: LinkId,
    /// What its Hello said of its life.
    alive: Alive,
    up: bool,
    closed: bool,
    queue: VecDeque<Item>,
    last_arrival: Duration,
}

enum Item {
    Up,
    Bytes(Vec<u8>),
}

struct Conn {
    ends: [End; 2],
    dial: Option<usize>,
    retired: bool,
}

struct Dial {
    from: usize,
    process: u64,
    alive: Alive,
    dialled: Dialled,
    over: bool,
}

#[derive(Clone)]
enum Event {
    Wake { node: usize, turn: u64 },
    Arrive { dial: usize, at: usize },
    Arrival { conn: usize, end: usize },
    Closed { conn: usize, end: usize, by: usize },
    DialOver { dial: usize, silent: bool },
    CloseBoth { conn: usize, by: usize },
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) net: Net,
    pub(crate) stats: Stats,
    pub(crate) nodes: Vec<Machine>,
    /// Names that resolve.
    pub(crate) dns: BTreeMap<HostPort, SocketAddr>,
    rng: SmallRng,
    heap: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    conns: Vec<Conn>,
    dials: Vec<Dial>,
    cut: BTreeSet<(usize, usize)>,
    refused: BTreeSet<(usize, usize)>,
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
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            time: Duration::ZERO,
            net: Net {
                latency: (ms(1), ms(5)),
                loss: (0.0, Duration::ZERO),
                tunnel: Duration::ZERO,
            },
            stats: Stats::default(),
            nodes: Vec::new(),
            dns: BTreeMap::new(),
            rng: SmallRng::seed_from_u64(seed),
            heap: BTreeMap::new(),
            sequence: 0,
            conns: Vec::new(),
            dials: Vec::new(),
            cut: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    /// A machine that is off.
    pub(crate) fn machine(&mut self) -> usize {
        let index = self.nodes.len();
        let identity = Identity::from_seed(&self.rng.random());
        let last = u8::try_from(index + 1).unwrap();
        self.nodes.push(Machine {
            id: identity.id(),
            identity,
            addr: SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 7717)),
            disk: Disk::default(),
            connect: Vec::new(),
            advertise: true,
            timing: Timing::default(),
            behind: Duration::ZERO,
            view: None,
            events: Vec::new(),
            dials: Vec::new(),
            searches: Vec::new(),
            cloned: false,
            inbox: Vec::new(),
            brain: None,
            puppet: false,
            process: 0,
            started: Duration::ZERO,
            frozen: false,
            backlog: Vec::new(),
            links: BTreeMap::new(),
            turn: 0,
            spins: (Duration::ZERO, 0),
            rng: SmallRng::seed_from_u64(self.seed ^ (index as u64) << 32),
        });
        index
    }

    /// `count` machines that run; all but the first dial the first, by id.
    pub(crate) fn mesh(&mut self, count: usize) {
        for index in 0..count {
            let node = self.machine();
            if index > 0 {
                let first = self.pinned(0);
                self.nodes[node].connect.push(first);
            }
            self.start(node);
        }
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
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap();
        let machine = &self.nodes[node];
        Now {
            mono: self.time - machine.started,
            unix_ms: UNIX_MS + millis(self.time) - millis(machine.behind),
        }
    }

    /// Starts a process on `node` with what its disk holds.
    pub(crate) fn start(&mut self, node: usize) {
        self.nodes[node].started = self.time;
        let now = self.now(node);
        let machine = &mut self.nodes[node];
        assert!(machine.brain.is_none() && !machine.puppet, "runs already");
        machine.process += 1;
        machine.disk.boot = now.unix_ms.max(machine.disk.boot + 1);
        let own = Some(machine.addr).filter(|_| machine.advertise);
        let setup = Setup {
            identity: machine.identity.clone(),
            network: NETWORK,
            boot: machine.disk.boot,
            record: NodeRecord {
                name: format!("n{node}").parse().unwrap(),
                version: "1".into(),
                addresses: own.into_iter().collect(),
                draining: false,
            },
            connect: machine.connect.clone(),
            crypto_interval: 9000,
            timing: machine.timing,
        };
        let peers = machine.disk.peers.values().cloned().collect();
        let entries = machine.disk.entries.values().cloned().collect();
        machine.brain = Some(Brain::new(now, setup, peers, vec![], entries));
        self.with(node, |brain, now, rng| brain.handle_timeout(now, rng));
    }

    /// `kill -9`: nobody is told.
    pub(crate) fn kill(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        machine.brain = None;
        machine.process += 1;
        machine.turn += 1;
        machine.frozen = false;
        machine.backlog.clear();
        machine.view = None;
        for conn in std::mem::take(&mut machine.links).into_values() {
            self.shut(conn, node);
        }
    }

    pub(crate) fn restart(&mut self, node: usize) {
        if self.nodes[node].brain.is_some() {
            self.kill(node);
        }
        self.start(node);
    }

    /// Announces the departure; 50 ms later the process closes its links and ends.
    pub(crate) fn leave(&mut self, node: usize) {
        self.with(node, |brain, _, _| brain.leave());
        self.run(ms(50));
        let conns: Vec<usize> = self.nodes[node].links.values().copied().collect();
        for conn in conns {
            self.close(conn, node);
        }
        self.kill(node);
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self, node: usize) {
        self.nodes[node].frozen = true;
    }

    /// SIGCONT: everything that came meanwhile is there at once; the timer fires before or after.
    pub(crate) fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        let mut backlog = std::mem::take(&mut self.nodes[node].backlog);
        self.stats.slept_through += backlog.len() as u64;
        if self.rng.random() {
            backlog.sort_by_key(|event| !matches!(event, Event::Wake { .. }));
        } else {
            backlog.sort_by_key(|event| matches!(event, Event::Wake { .. }));
        }
        for event in backlog {
            self.push(self.time, event);
        }
    }

    /// No byte passes between the two sides until [`World::heal`].
    pub(crate) fn partition(&mut self, side: &[usize]) {
        for a in side.iter().copied() {
            for b in (0..self.nodes.len()).filter(|b| !side.contains(b)) {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }

    /// No byte passes between two nodes.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        for conn in 0..self.conns.len() {
            for end in 0..2 {
                for _ in 0..self.conns[conn].ends[end].queue.len() {
                    self.schedule_arrival(conn, end);
                }
            }
        }
    }

    /// Dials from `from` to `to` never arrive; the other way they do.
    pub(crate) fn refuse_dials(&mut self, from: usize, to: usize) {
        self.refused.insert((from, to));
    }

    /// Runs `call` on the brain of `node` and carries out what follows.
    pub(crate) fn with<T>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Brain, Now, &mut SmallRng) -> T,
    ) -> T {
        let now = self.now(node);
        let machine = &mut self.nodes[node];
        let mut brain = machine.brain.take().expect("a running node");
        let result = call(&mut brain, now, &mut machine.rng);
        loop {
            while let Some(effect) = brain.poll_effect() {
                self.carry_out(node, brain.alive(), effect);
            }
            let Some(view) = brain.take_view(now) else {
                break;
            };
            self.nodes[node].view = Some(view);
        }
        let machine = &mut self.nodes[node];
        machine.turn += 1;
        let turn = machine.turn;
        if let Some(at) = brain.poll_timeout() {
            let at = machine.started + at;
            self.push(at.max(self.time), Event::Wake { node, turn });
        }
        let machine = &mut self.nodes[node];
        let stays = !machine.cloned;
        machine.brain = Some(brain);
        if !stays {
            self.kill(node);
        }
        result
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.nodes[node].brain.is_some()
    }

    pub(crate) fn brain(&self, node: usize) -> &Brain {
        self.nodes[node].brain.as_ref().expect("a running node")
    }

    /// Writes or removes (`None`) a durable entry, committed before it spreads.
    pub(crate) fn put(&mut self, node: usize, key: &str, value: Option<&str>) -> Entry {
        let value = value.map(|value| value.as_bytes().to_vec());
        let bucket: Bucket = "config".parse().unwrap();
        let draft = self.with(node, |brain, now, _| {
            brain.draft(now, bucket, key.to_owned(), value)
        });
        let entry = draft.unwrap();
        let disk = &mut self.nodes[node].disk.entries;
        disk.insert(entry.slot.clone(), entry.clone());
        let spread = entry.clone();
        self.with(node, |brain, now, rng| brain.apply_own(now, rng, spread));
        entry
    }

    /// Announces or withdraws a service.
    pub(crate) fn expose(&mut self, node: usize, service: &str, on: bool) {
        let name: warren::mesh::name::Name = format!("n{node}").parse().unwrap();
        let record = ServiceRecord {
            id: display_id(&name, &self.id(node)),
            name,
            ready: true,
            target: "127.0.0.1:80".into(),
        };
        let bucket: Bucket = service.parse().unwrap();
        self.with(node, |brain, now, rng| {
            brain.set_service(now, rng, bucket, on.then_some(&record));
        });
    }

    /// Lets `span` pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.time + span;
        while let Some((&(at, sequence), _)) = self.heap.first_key_value() {
            if at > until {
                break;
            }
            let event = self.heap.remove(&(at, sequence)).expect("just seen");
            self.time = self.time.max(at);
            self.happen(event);
        }
        self.time = until;
    }

    /// Lets time pass until `condition` holds; panics after `limit`. Returns how long it took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.time;
        while !condition(self) {
            assert!(self.time - start < limit, "not within {limit:?}: {what}");
            self.run(ms(5));
        }
        self.time - start
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.heap.insert((at, self.sequence), event);
    }

    fn happen(&mut self, event: Event) {
        let (node, process) = self.whose(&event);
        if self.nodes[node].process != process {
            return;
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
                if self.is_cut(node, by) {
                    self.stats.held += 1;
                } else {
                    self.link_down(conn, end, "closed");
                }
            }
            Event::DialOver { dial, silent } => self.dial_over(dial, silent),
            Event::CloseBoth { conn, by } => self.close(conn, by),
        }
    }

    /// Which process an event is for.
    fn whose(&self, event: &Event) -> (usize, u64) {
        let end = |conn: usize, end: usize| {
            let end = &self.conns[conn].ends[end];
            (end.node, end.process)
        };
        match *event {
            Event::Wake { node, .. } | Event::Arrive { at: node, .. } => {
                (node, self.nodes[node].process)
            }
            Event::Arrival { conn, end: side }
            | Event::Closed {
                conn, end: side, ..
            } => end(conn, side),
            Event::DialOver { dial, .. } => (self.dials[dial].from, self.dials[dial].process),
            Event::CloseBoth { conn, by } => {
                let side = usize::from(self.conns[conn].ends[1].node == by);
                end(conn, side)
            }
        }
    }

    fn wake(&mut self, node: usize, turn: u64) {
        let machine = &mut self.nodes[node];
        if machine.turn != turn || machine.brain.is_none() {
            return;
        }
        let (at, spins) = &mut machine.spins;
        *spins = if *at == self.time { *spins + 1 } else { 0 };
        *at = self.time;
        assert!(*spins < MAX_SPINS, "node {node} spins at {:?}", self.time);
        self.with(node, |brain, now, rng| brain.handle_timeout(now, rng));
    }
}
