//! Connections between processes: how they are dialled, come up and end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use warren::mesh::addr::HostPort;
use warren::mesh::alive::Alive;
use warren::mesh::brain::{Dialled, Input, LinkUp};
use warren::mesh::members::LinkId;
use warren::mesh::wire::Frame;

use super::cost::{self, Packets};
use super::{Event, World};

/// One-way trips from a client's Initial until the answering end has its Hello: Initial, answer,
/// Finished with Hello. One more, and the dialling end has the other's.
const TRIPS_TO_ANSWER: usize = 3;

/// One end of a connection: 0 dialled, 1 answered.
pub(super) struct End {
    pub(super) node: usize,
    pub(super) process: u64,
    pub(super) link: LinkId,
    /// What its Hello said of its life.
    pub(super) alive: Alive,
    pub(super) up: bool,
    pub(super) closed: bool,
    /// What is on its way to this end, and when it is there.
    pub(super) queue: VecDeque<Arriving>,
    pub(super) last_arrival: Duration,
    /// For when the newest [`Event::Arrival`] was planned.
    pub(super) planned: Option<Duration>,
    /// A cut keeps something back that has an arrival no longer.
    pub(super) held: bool,
    pub(super) packets: Packets,
    /// When an ACK of what this end sent is there, of which its brain was not told yet.
    pub(super) acked: Option<Duration>,
}

pub(super) struct Arriving {
    pub(super) at: Duration,
    /// Packets that this began.
    pub(super) packets: u64,
    pub(super) item: Item,
}

pub(super) enum Item {
    Up,
    Bytes(Vec<u8>),
    Frame(Frame),
}

pub(super) struct Conn {
    pub(super) ends: [End; 2],
    pub(super) dial: Option<usize>,
    pub(super) retired: bool,
}

impl Conn {
    pub(super) fn side_of(&self, node: usize) -> usize {
        usize::from(self.ends[1].node == node)
    }
}

/// A dial that is not over.
pub(super) struct Dial {
    pub(super) from: usize,
    pub(super) process: u64,
    alive: Alive,
    dialled: Dialled,
    since: Duration,
    /// Addresses that were sent an Initial.
    addresses: u64,
}

impl World {
    /// The connection behind a link that is up.
    pub(super) fn conn_of(&self, node: usize, link: LinkId) -> Option<usize> {
        let conn = usize::try_from(link.0 / 2).unwrap();
        let end = &self.conns.get(conn)?.as_ref()?.ends[usize::from(link.0 % 2 == 1)];
        (end.node == node && end.up && !end.closed).then_some(conn)
    }

    pub(super) fn dial(
        &mut self,
        from: usize,
        alive: Alive,
        dialled: Dialled,
        targets: Vec<HostPort>,
    ) {
        let resolve = |at: &HostPort| at.socket_addr().or_else(|| self.dns.get(at).copied());
        let addrs: Vec<SocketAddr> = targets.iter().filter_map(resolve).collect();
        // A dial bound to an id is noise to any other node.
        let answers = |node: &usize| match dialled {
            Dialled::Node(id) => self.nodes[*node].id == id,
            Dialled::Host(_) => *node != from,
        };
        let reached = addrs.iter().filter_map(|addr| self.machine_at(addr));
        let target = reached.into_iter().find(answers);
        let machine = &mut self.nodes[from];
        let process = machine.process;
        let addresses = addrs.len() as u64;
        machine.traffic.sent += addresses * cost::INITIAL;
        if self.detail.history {
            machine.dials.push((self.time, dialled.clone(), targets));
        }
        let dial = self.dials.len();
        self.dials.push(Some(Box::new(Dial {
            from,
            process,
            alive,
            dialled,
            since: self.time,
            addresses,
        })));
        let limit = self.time + self.net.dial_limit;
        self.push(limit, Event::DialOver { dial, silent: true });
        if let Some(at) = target {
            let mut arrival = self.time;
            for _ in 0..TRIPS_TO_ANSWER {
                arrival += self.flight(from, at, Some(cost::FIRST_PTO), cost::INITIAL);
            }
            self.push(arrival, Event::Arrive { dial, at });
        }
    }

    pub(super) fn dial_over(&mut self, dial: usize, silent: bool) {
        let Some(over) = self.dials[dial].take() else {
            return;
        };
        if silent {
            let repeated = cost::repeated_initials(self.time - over.since);
            let traffic = &mut self.nodes[over.from].traffic;
            traffic.sent += over.addresses * repeated * cost::INITIAL;
        }
        let input = Input::DialFailed {
            dialled: over.dialled,
            silent,
            reason: "no answer".into(),
        };
        self.with(over.from, |brain, now, rng| brain.handle(now, rng, input));
    }

    /// A dial reached `at`: it has checked the Hello, and now the dialler will.
    pub(super) fn answer(&mut self, dial: usize, at: usize) {
        let Some(Dial {
            from,
            process,
            alive,
            ..
        }) = self.dials[dial].as_deref()
        else {
            return;
        };
        let (from, process, alive) = (*from, *process, alive.clone());
        if self.nodes[from].process != process {
            return;
        }
        if self.faults.refuses(from, at) {
            self.stats.refused_dials += 1;
            return;
        }
        let machine = &self.nodes[at];
        let brain = machine.brain.as_ref();
        let hello = brain.map(|brain| brain.alive());
        let hello = hello.or_else(|| machine.hello.clone());
        let Some(hello) = hello.filter(|_| !self.faults.parts(from, at)) else {
            self.stats.lost_dials += 1;
            return;
        };
        let answerer = (at, self.nodes[at].process, hello);
        self.nodes[from].traffic.sent += cost::DIALLER_HANDSHAKE;
        self.nodes[from].traffic.received += cost::ANSWERER_HANDSHAKE;
        self.nodes[at].traffic.sent += cost::ANSWERER_HANDSHAKE;
        self.nodes[at].traffic.received += cost::INITIAL + cost::DIALLER_HANDSHAKE;
        let conn = self.connect((from, process, alive), answerer, Some(dial));
        for end in [1, 0] {
            let at = match end {
                1 => self.time,
                _ => self.time + self.flight_between(conn, 0),
            };
            self.enqueue(conn, end, at, 0, Item::Up);
        }
        self.arrive(conn, 1);
    }

    pub(super) fn connect(
        &mut self,
        from: (usize, u64, Alive),
        to: (usize, u64, Alive),
        dial: Option<usize>,
    ) -> usize {
        let conn = self.conns.len();
        let end = |side: u64, (node, process, alive): (usize, u64, Alive)| End {
            node,
            process,
            link: LinkId(2 * conn as u64 + side),
            alive,
            up: false,
            closed: false,
            queue: VecDeque::new(),
            last_arrival: Duration::ZERO,
            planned: None,
            held: false,
            packets: Packets::default(),
            acked: None,
        };
        self.conns.push(Some(Box::new(Conn {
            ends: [end(0, from), end(1, to)],
            dial,
            retired: false,
        })));
        conn
    }

    pub(super) fn link_up(&mut self, conn: usize, end: usize) {
        let Some(joined) = self.conns[conn].as_mut() else {
            return;
        };
        let [near, far] = [end, 1 - end].map(|side| joined.ends[side].node);
        let (link, alive) = (joined.ends[end].link, joined.ends[1 - end].alive.clone());
        let dialled = match joined.dial.filter(|_| end == 0) {
            Some(dial) => match self.dials[dial].take() {
                Some(dial) => Some(dial.dialled),
                // Given up meanwhile.
                None => return self.close(conn, near),
            },
            None => None,
        };
        joined.ends[end].up = true;
        self.nodes[near].links.insert(conn);
        if self.nodes[near].puppet {
            return;
        }
        let up = LinkUp {
            link,
            peer: self.nodes[far].id,
            alive,
            dialled,
            remote: self.nodes[far].addr,
            observed: self.nodes[near].addr,
            again: false,
        };
        self.with(near, |brain, now, rng| {
            brain.handle(now, rng, Input::LinkUp(up));
        });
    }

    /// The link is closed once its tunnels are over.
    pub(super) fn retire(&mut self, node: usize, link: LinkId) {
        let Some(conn) = self.conn_of(node, link) else {
            return;
        };
        self.stats.retired += 1;
        if let Some(retired) = self.conns[conn].as_mut() {
            retired.retired = true;
        }
        let after = self.rng.random_range(Duration::ZERO..=self.net.tunnel);
        self.push(self.time + after, Event::CloseBoth { conn, by: node });
    }

    /// `by` closes: it hears of it at once, the other end when the news arrives.
    pub(crate) fn close(&mut self, conn: usize, by: usize) {
        let Some(closing) = self.conns[conn].as_ref() else {
            return;
        };
        let end = closing.side_of(by);
        let other = 1 - end;
        if closing.ends[end].closed {
            return;
        }
        let last = closing.ends[other].last_arrival;
        self.nodes[by].traffic.sent += cost::CLOSE;
        let mut at = self.time + self.flight_between(conn, other);
        // The news may overtake what was said before, or follow it.
        if self.rng.random() {
            at = at.max(last);
        }
        let end_of = |end| Event::Closed { conn, end, by };
        self.push(at, end_of(other));
        self.push(self.time, end_of(end));
    }

    pub(super) fn link_down(&mut self, conn: usize, end: usize, reason: &str) {
        let Some(ended) = self.conns[conn].as_mut() else {
            return;
        };
        let dial = ended.dial;
        let End { node, link, up, .. } = ended.ends[end];
        if std::mem::replace(&mut ended.ends[end].closed, true) {
            return;
        }
        ended.ends[end].queue.clear();
        self.nodes[node].links.remove(&conn);
        self.forget(conn);
        if let (Some(dial), 0, false) = (dial, end, up) {
            self.dial_over(dial, false);
        }
        if up && !self.nodes[node].puppet {
            let reason = reason.to_owned();
            let input = Input::LinkDown {
                link,
                reason,
                let_go: false,
            };
            self.with(node, |brain, now, rng| brain.handle(now, rng, input));
        }
    }

    /// The end of a process that is gone.
    pub(super) fn shut(&mut self, conn: usize, node: usize) {
        if let Some(shut) = self.conns[conn].as_mut() {
            let end = shut.side_of(node);
            shut.ends[end].closed = true;
            shut.ends[end].queue.clear();
            self.forget(conn);
        }
    }

    /// What was meant for a process that is gone.
    pub(super) fn discard(&mut self, event: Event) {
        match event {
            Event::DialOver { dial, .. } => self.dials[dial] = None,
            Event::Arrival { conn, end } => {
                if let Some(joined) = self.conns[conn].as_mut() {
                    joined.ends[end].closed = true;
                    joined.ends[end].queue.clear();
                    self.forget(conn);
                }
            }
            _ => {}
        }
    }

    /// A connection that is over at both ends takes no memory.
    fn forget(&mut self, conn: usize) {
        let over = |conn: &Conn| conn.ends.iter().all(|end| end.closed);
        if self.conns[conn].as_deref().is_some_and(over) {
            self.conns[conn] = None;
        }
    }

    /// Links of `node` on which an ACK came since it was last asked, with their round trips.
    pub(super) fn heard(&mut self, node: usize) -> Vec<(LinkId, Duration)> {
        if !self.net.tell_acks {
            return Vec::new();
        }
        let mut heard = Vec::new();
        for conn in &self.nodes[node].links {
            let Some(conn) = self.conns[*conn].as_mut() else {
                continue;
            };
            let side = conn.side_of(node);
            let far = conn.ends[1 - side].node;
            let end = &mut conn.ends[side];
            if end.acked.is_some_and(|at| at <= self.time) {
                end.acked = None;
                heard.push((end.link, far));
            }
        }
        self.stats.heard += heard.len() as u64;
        let heard = heard.into_iter();
        heard
            .map(|(link, far)| (link, self.round_trip(node, far)))
            .collect()
    }
}
