//! HyParView and Plumtree: `iroh-gossip`'s state machine with one topic, over lasting links.
//!
//! HyParView repairs an overlay; whether somebody who is no neighbour lives it does not say. So a
//! failure detector of our own stands on top: a node whose link is silent for [`SILENT`]
//! broadcasts a suspicion; who hears it counts the accused as gone [`REFUTE`] later, unless the
//! accused has broadcast a newer incarnation. Whoever hears the accused itself ignores it.
//!
//! An id is 32 B; the addresses that a stranger would need to dial are not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iroh_gossip::proto::state::{InEvent, Message, OutEvent, Timer};
use iroh_gossip::proto::{Command, Config, Event as Told, PeerData, Scope, State, TopicId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

use crate::Result;
use crate::candidate::{Candidate, Overlay};
use crate::links::{Links, Pair};
use crate::news::News;
use crate::world::{Heap, MS, Micros, Network, SECOND, Watch};

/// A neighbour that is silent for so long is suspected.
pub(crate) const SILENT: Micros = 1_700 * MS;
/// What a suspect has to answer, at each node from when that node hears of it.
const REFUTE: Micros = 1_300 * MS;
/// Own traffic younger than this beats what others say.
const DIRECT: Micros = 1_500 * MS;
/// Between a goodbye and the end of the links, for neighbours that want it repeated.
const LINGER: Micros = SECOND;
/// Between two nodes that join.
const JOINS: Micros = 20 * MS;
/// From the last join until shuffles have filled the views.
const SETTLE: Micros = 130 * SECOND;

/// A node's number; 32 B on the wire, as an id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Peer(u32);

impl Peer {
    fn new(node: usize) -> Result<Self> {
        Ok(Self(u32::try_from(node)?))
    }

    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let mut id = [0_u8; 32];
        id[..4].copy_from_slice(&self.0.to_be_bytes());
        id.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let [a, b, c, d, ..] = <[u8; 32]>::deserialize(from)?;
        Ok(Self(u32::from_be_bytes([a, b, c, d])))
    }
}

pub(crate) enum Event {
    Join {
        node: usize,
        contact: Option<usize>,
    },
    Timer {
        node: usize,
        timer: Timer<Peer>,
    },
    /// Time to refute is over.
    Condemn {
        viewer: usize,
        about: usize,
        incarnation: u32,
    },
    Frame {
        from: usize,
        to: usize,
        message: Message<Peer>,
    },
    /// An acknowledgement or a ping of `peer` has come to `node`.
    Heard {
        node: usize,
        peer: usize,
        epoch: u64,
    },
    Connected {
        pair: Pair,
        epoch: u64,
    },
    DialFailed {
        from: usize,
        to: usize,
        epoch: u64,
    },
    Closed {
        node: usize,
        peer: usize,
    },
    KeepAlive {
        node: usize,
        peer: usize,
        epoch: u64,
        attempt: u32,
    },
    Silence {
        node: usize,
        peer: usize,
        epoch: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    Suspect,
    Gone,
}

/// What a node thinks of another.
#[derive(Clone, Copy)]
struct Opinion {
    incarnation: u32,
    standing: Standing,
}

struct Node {
    state: State<Peer, SmallRng>,
    neighbours: BTreeSet<usize>,
    incarnation: u32,
    opinions: Vec<Opinion>,
}

/// A mesh of iroh-gossip state machines.
pub(crate) struct Tree {
    pub(crate) heap: Heap<Event>,
    pub(crate) network: Network,
    pub(crate) links: Links,
    pub(crate) alive: Vec<bool>,
    pub(crate) now: Micros,
    watch: Watch,
    nodes: Vec<Node>,
    topic: TopicId,
    /// The instant of virtual time zero.
    origin: Instant,
    entries: u32,
}

impl Tree {
    /// A mesh that has joined and settled.
    pub(crate) fn new(nodes: usize, seed: u64, loss: f64) -> Result<Self> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let unknown = Opinion {
            incarnation: 0,
            standing: Standing::Member,
        };
        let mut heap = Heap::new();
        let mut all = Vec::with_capacity(nodes);
        for node in 0..nodes {
            all.push(Node {
                state: State::new(
                    Peer::new(node)?,
                    PeerData::default(),
                    config(),
                    SmallRng::from_rng(&mut rng),
                ),
                neighbours: BTreeSet::new(),
                incarnation: 0,
                opinions: vec![unknown; nodes],
            });
            let contact = (node > 0).then(|| rng.random_range(0..node));
            heap.put(node as Micros * JOINS, Event::Join { node, contact });
        }
        let mut tree = Self {
            heap,
            network: Network::new(seed, loss),
            links: Links::default(),
            alive: vec![true; nodes],
            now: 0,
            watch: Watch::new(nodes),
            nodes: all,
            topic: TopicId::from_bytes([7; 32]),
            origin: Instant::now(),
            entries: 0,
        };
        tree.run(nodes as Micros * JOINS + SETTLE)?;
        Ok(tree)
    }

    /// Gives `event` to a node's state machine and does what it answers.
    pub(crate) fn feed(&mut self, node: usize, event: InEvent<Peer>) -> Result<()> {
        let now = self.origin + Duration::from_micros(self.now);
        let answers: Vec<_> = self.nodes[node].state.handle(event, now, None).collect();
        for answer in answers {
            match answer {
                OutEvent::SendMessage(to, message) => self.send(node, to.index(), message)?,
                OutEvent::ScheduleTimer(after, timer) => {
                    let after = Micros::try_from(after.as_micros())?;
                    self.heap
                        .put(self.now + after, Event::Timer { node, timer });
                }
                OutEvent::DisconnectPeer(peer) => self.close(node, peer.index()),
                OutEvent::EmitEvent(_, Told::NeighborUp(peer)) => {
                    self.nodes[node].neighbours.insert(peer.index());
                }
                OutEvent::EmitEvent(_, Told::NeighborDown(peer)) => {
                    self.nodes[node].neighbours.remove(&peer.index());
                }
                OutEvent::EmitEvent(_, Told::Received(gossip)) => {
                    if let Some(news) = News::read(&gossip.content) {
                        self.learn(node, &news)?;
                    }
                }
                OutEvent::PeerData(..) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn disconnected(&mut self, node: usize, peer: usize) -> Result<()> {
        self.feed(node, InEvent::PeerDisconnected(Peer::new(peer)?))
    }

    fn command(&mut self, node: usize, command: Command<Peer>) -> Result<()> {
        self.feed(node, InEvent::Command(self.topic, command))
    }

    fn broadcast(&mut self, node: usize, news: &News) -> Result<()> {
        let content = news.write()?.into();
        self.command(node, Command::Broadcast(content, Scope::Swarm))
    }

    /// What `node` makes of news that has reached it.
    fn learn(&mut self, node: usize, news: &News) -> Result<()> {
        match *news {
            News::Entry(_) => self.watch.has_entry(self.now, node),
            News::Suspicion {
                about, incarnation, ..
            } if about == node => {
                let own = &mut self.nodes[node].incarnation;
                if incarnation < *own {
                    return Ok(());
                }
                *own = incarnation + 1;
                let incarnation = *own;
                return self.broadcast(node, &News::Alive { about, incarnation });
            }
            News::Suspicion {
                about, incarnation, ..
            } => {
                let hears = self
                    .links
                    .heard(node, about)
                    .is_some_and(|at| self.now.saturating_sub(at) < DIRECT);
                if !hears && self.nodes[node].opinions[about].incarnation <= incarnation {
                    self.suspect(node, about, incarnation);
                }
            }
            News::Alive { about, incarnation } => {
                let opinion = &mut self.nodes[node].opinions[about];
                if incarnation > opinion.incarnation {
                    *opinion = Opinion {
                        incarnation,
                        standing: Standing::Member,
                    };
                }
            }
            News::Leave { about } => self.give_up(node, about),
        }
        Ok(())
    }

    /// Starts the time to refute, once per incarnation; whether it was started.
    fn suspect(&mut self, viewer: usize, about: usize, incarnation: u32) -> bool {
        let opinion = &mut self.nodes[viewer].opinions[about];
        if opinion.standing != Standing::Member {
            return false;
        }
        *opinion = Opinion {
            incarnation,
            standing: Standing::Suspect,
        };
        let condemn = Event::Condemn {
            viewer,
            about,
            incarnation,
        };
        self.heap.put(self.now + REFUTE, condemn);
        true
    }

    /// The link from `node` to `about` is silent.
    pub(crate) fn accuse(&mut self, node: usize, about: usize) -> Result<()> {
        let incarnation = self.nodes[node].opinions[about].incarnation;
        if !self.suspect(node, about, incarnation) {
            return Ok(());
        }
        let by = node;
        self.broadcast(
            node,
            &News::Suspicion {
                about,
                incarnation,
                by,
            },
        )
    }

    fn give_up(&mut self, viewer: usize, about: usize) {
        let opinion = &mut self.nodes[viewer].opinions[about];
        opinion.standing = Standing::Gone;
        let incarnation = u64::from(opinion.incarnation);
        let lives = self.alive[about] && !self.links.leaving(about);
        self.watch.gone(self.now, viewer, about, incarnation, lives);
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Join { node, contact } => {
                let contact = contact.map(Peer::new).transpose()?;
                self.command(node, Command::Join(contact.into_iter().collect()))
            }
            Event::Timer { node, timer } if self.alive[node] => {
                self.feed(node, InEvent::TimerExpired(timer))
            }
            Event::Condemn {
                viewer,
                about,
                incarnation,
            } => {
                let opinion = self.nodes[viewer].opinions[about];
                let due = opinion.standing == Standing::Suspect
                    && opinion.incarnation == incarnation
                    && self.alive[viewer];
                if due {
                    self.give_up(viewer, about);
                }
                Ok(())
            }
            Event::Frame { from, to, message } if self.alive[to] => {
                self.links.hear(self.now, to, from, None);
                self.feed(to, InEvent::RecvMessage(Peer::new(from)?, message))
            }
            Event::Timer { .. } | Event::Frame { .. } => Ok(()),
            link => self.link_event(link),
        }
    }

    /// Neighbours of each living node that live.
    fn living_neighbours(&self) -> BTreeMap<usize, Vec<usize>> {
        let lives = |node: &usize| self.alive[*node];
        (0..self.nodes.len())
            .filter(lives)
            .map(|node| {
                let neighbours = self.nodes[node].neighbours.iter().copied();
                (node, neighbours.filter(lives).collect())
            })
            .collect()
    }
}

/// As published, but for three times that were guessed for a faster network than 50 ms one-way: a
/// graft is asked for when an announced message has had time to come by the tree.
fn config() -> Config {
    let mut config = Config::default();
    config.broadcast.graft_timeout_1 = Duration::from_millis(250);
    config.broadcast.graft_timeout_2 = Duration::from_millis(150);
    config.membership.neighbor_request_timeout = Duration::from_secs(1);
    config
}

impl Candidate for Tree {
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
        self.watch.has_entry(self.now, node);
        self.broadcast(node, &News::Entry(self.entries))
    }

    fn kill(&mut self, node: usize) {
        self.alive[node] = false;
    }

    fn leave(&mut self, node: usize) -> Result<()> {
        self.links.leave(node);
        self.broadcast(node, &News::Leave { about: node })?;
        self.run(LINGER)?;
        self.command(node, Command::Quit)?;
        self.alive[node] = false;
        Ok(())
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
        let graph = self.living_neighbours();
        let degrees = graph.values().map(Vec::len);
        let mut unseen: BTreeSet<usize> = graph.keys().copied().collect();
        let mut parts = 0;
        while let Some(first) = unseen.pop_first() {
            parts += 1;
            let mut open = vec![first];
            while let Some(node) = open.pop() {
                open.extend(graph[&node].iter().filter(|next| unseen.remove(next)));
            }
        }
        Some(Overlay {
            fewest: degrees.clone().min().unwrap_or(0),
            mean: degrees.sum::<usize>() as f64 / graph.len().max(1) as f64,
            parts,
        })
    }
}
