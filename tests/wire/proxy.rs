//! A UDP proxy between a dialler and a node: it captures, delays, swallows, or moves, and keeps
//! order unless it is told not to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::rig::LOOPBACK;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    ToNode,
    ToDialler,
}

#[derive(Clone)]
pub(crate) struct Captured {
    pub(crate) way: Way,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    captured: Mutex<Vec<Captured>>,
    count: AtomicU64,
    deaf: AtomicBool,
    cut: AtomicBool,
    /// How often the proxy has changed where it sends from.
    moves: AtomicU64,
    /// Of so many datagrams to the node one is lost; 0: none.
    one_in: AtomicU64,
    /// Of a hundred datagrams, either way, so many are lost, and as many are overtaken.
    rough: AtomicU64,
    lost: AtomicU64,
    overtaken: AtomicU64,
}

/// Runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(node: SocketAddr, delay: Duration) -> Self {
        let front = Arc::new(UdpSocket::bind(LOOPBACK).await.unwrap());
        let addr = front.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let run = run(front, node, delay, Arc::clone(&shared));
        tasks.spawn(run);
        Self {
            addr,
            shared,
            _tasks: tasks,
        }
    }

    /// Everything that came by, in order.
    pub(crate) fn captured(&self) -> Vec<Captured> {
        self.shared.captured.lock().unwrap().clone()
    }

    pub(crate) fn went(&self, way: Way) -> Vec<Vec<u8>> {
        let captured = self.captured().into_iter();
        let some = captured.filter(|one| one.way == way);
        some.map(|one| one.bytes).collect()
    }

    /// The dialler's first packet.
    pub(crate) fn first(&self) -> Vec<u8> {
        self.went(Way::ToNode).swap_remove(0)
    }

    /// Datagrams that came by.
    pub(crate) fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// From now on nothing gets back to the dialler.
    pub(crate) fn swallow_answers(&self) {
        self.shared.deaf.store(true, Ordering::Relaxed);
    }

    /// Whether everything is lost from now on, both ways.
    pub(crate) fn cut(&self, on: bool) {
        self.shared.cut.store(on, Ordering::Relaxed);
    }

    /// From now on diallers come from another port, and nothing gets back through the old one: a
    /// NAT that has forgotten them.
    pub(crate) fn forget(&self) {
        self.shared.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on one of so many datagrams to the node is lost.
    pub(crate) fn lose_one_in(&self, datagrams: u64) {
        self.shared.one_in.store(datagrams, Ordering::Relaxed);
    }

    /// From now on, of a hundred datagrams either way so many are lost, and as many are overtaken.
    pub(crate) fn be_rough(&self, percent: u64) {
        self.shared.rough.store(percent, Ordering::Relaxed);
    }

    /// How many datagrams that cost, and how many came late.
    pub(crate) fn roughness(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.lost), count(&self.shared.overtaken))
    }

    /// Whether nothing came by for `span`.
    pub(crate) async fn is_quiet_for(&self, span: Duration) -> bool {
        let before = self.count();
        tokio::time::sleep(span).await;
        self.count() == before
    }
}

async fn run(front: Arc<UdpSocket>, node: SocketAddr, delay: Duration, shared: Arc<Shared>) {
    let mut diallers: HashMap<SocketAddr, Mapping> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = front.recv_from(&mut buffer).await {
        let moves = shared.moves.load(Ordering::Relaxed);
        if diallers.get(&from).is_none_or(|known| known.moves != moves) {
            let mut tasks = JoinSet::new();
            let back = Arc::new(UdpSocket::bind(LOOPBACK).await.unwrap());
            let forth = Later::start(&mut tasks, &back, node, delay);
            let answers = Later::start(&mut tasks, &front, from, delay);
            tasks.spawn(listen(back, answers, Arc::clone(&shared)));
            let mapping = Mapping {
                moves,
                forth,
                _tasks: tasks,
            };
            diallers.insert(from, mapping);
        }
        shared.note(Way::ToNode, &buffer[..len]);
        if !shared.loses() && !shared.cut.load(Ordering::Relaxed) {
            shared.pass(&diallers[&from].forth, &buffer[..len]);
        }
    }
}

/// What a dialler comes from.
struct Mapping {
    moves: u64,
    forth: Later,
    _tasks: JoinSet<()>,
}

/// The way back to one dialler.
async fn listen(socket: Arc<UdpSocket>, answers: Later, shared: Arc<Shared>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(len) = socket.recv(&mut buffer).await {
        shared.note(Way::ToDialler, &buffer[..len]);
        let lost = [&shared.deaf, &shared.cut];
        if !lost.iter().any(|lost| lost.load(Ordering::Relaxed)) {
            shared.pass(&answers, &buffer[..len]);
        }
    }
}

impl Shared {
    /// Whether the datagram that came by last is lost.
    fn loses(&self) -> bool {
        let one_in = self.one_in.load(Ordering::Relaxed);
        one_in > 0 && self.count.load(Ordering::Relaxed).is_multiple_of(one_in)
    }

    /// Gives a datagram on, or loses it, or has others overtake it.
    fn pass(&self, later: &Later, bytes: &[u8]) {
        let rough = self.rough.load(Ordering::Relaxed);
        let chance = rand::random_range(0..100);
        if chance < rough {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if chance < 2 * rough {
            self.overtaken.fetch_add(1, Ordering::Relaxed);
            later.send(1, bytes);
        } else {
            later.send(0, bytes);
        }
    }

    fn note(&self, way: Way, bytes: &[u8]) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut captured = self.captured.lock().unwrap();
        // The beginning is what tests look at; a transfer would fill the memory.
        if captured.len() < 10_000 {
            let bytes = bytes.to_vec();
            captured.push(Captured { way, bytes });
        }
    }
}

/// What others overtake comes so much later.
const OVERTAKEN: Duration = Duration::from_millis(5);

type Queue = mpsc::UnboundedSender<(Instant, Vec<u8>)>;

/// Two queues that give each datagram on when its delay is over, the second one later.
struct Later([(Queue, Duration); 2]);

impl Later {
    fn start(
        tasks: &mut JoinSet<()>,
        socket: &Arc<UdpSocket>,
        to: SocketAddr,
        delay: Duration,
    ) -> Self {
        let mut start = |delay| (queue(tasks, Arc::clone(socket), to), delay);
        Self([start(delay), start(delay + OVERTAKEN)])
    }

    fn send(&self, which: usize, bytes: &[u8]) {
        let (queue, delay) = &self.0[which];
        let _ = queue.send((Instant::now() + *delay, bytes.to_vec()));
    }
}

fn queue(tasks: &mut JoinSet<()>, socket: Arc<UdpSocket>, to: SocketAddr) -> Queue {
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tasks.spawn(async move {
        while let Some((at, bytes)) = queued.recv().await {
            if at > Instant::now() {
                tokio::time::sleep_until(at).await;
            }
            let _ = socket.send_to(&bytes, to).await;
        }
    });
    queue
}
