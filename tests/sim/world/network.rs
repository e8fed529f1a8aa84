//! What the network does with bytes, dials and closings.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use warren::mesh::addr::HostPort;
use warren::mesh::brain::{Dialled, Effect, Input, LinkUp, Save};
use warren::mesh::entry::Alive;
use warren::mesh::members::LinkId;
use warren::mesh::wire::{Frame, decode_frame};

use super::{Conn, DIAL_TIMEOUT, Dial, End, Event, Item, World};

impl World {
    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b))
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.net.latency;
        let mut delay = self.rng.random_range(least..=most);
        if self.net.loss.0 > 0.0 && self.rng.random_bool(self.net.loss.0) {
            self.stats.delayed += 1;
            delay += self.net.loss.1;
        }
        delay
    }

    pub(super) fn carry_out(&mut self, node: usize, alive: Alive, effect: Effect) {
        match effect {
            Effect::Send { link, frame } => {
                if let Some(conn) = self.nodes[node].links.get(&link).copied() {
                    self.send(conn, node, &frame);
                }
            }
            Effect::Dial { dialled, targets } => self.dial(node, alive, dialled, targets),
            Effect::Close { link, .. } => {
                if let Some(conn) = self.nodes[node].links.get(&link).copied() {
                    self.close(conn, node);
                }
            }
            Effect::Retire { link } => {
                let conn = self.nodes[node].links[&link];
                self.stats.retired += 1;
                self.conns[conn].retired = true;
                let after = self.rng.random_range(Duration::ZERO..=self.net.tunnel);
                let at = self.time + after;
                self.push(at, Event::CloseBoth { conn, by: node });
            }
            Effect::Save(save) => {
                let disk = &mut self.nodes[node].disk;
                match save {
                    Save::Entry(entry) => {
                        disk.entries.insert(entry.slot.clone(), entry);
                    }
                    Save::Drop(slot) => {
                        disk.entries.remove(&slot);
                    }
                    Save::Peer(peer) => {
                        disk.peers.insert(peer.id, peer);
                    }
                }
            }
            Effect::Event(what) => self.nodes[node].events.push((self.time, what)),
            Effect::SearchClock { .. } => self.nodes[node].searches.push(self.time),
            Effect::OwnAddresses(_) | Effect::OwnAlive(_) => {}
            Effect::Trim { link } => {
                if let Some(conn) = self.nodes[node].links.get(&link).copied() {
                    self.close(conn, node);
                }
            }
            Effect::Cloned => self.nodes[node].cloned = true,
            other => panic!("an effect this world does not know: {other:?}"),
        }
    }

    pub(super) fn send(&mut self, conn: usize, from: usize, frame: &Frame) {
        let bytes = frame.encode();
        self.stats.frames += 1;
        self.stats.bytes += bytes.len() as u64;
        let to = usize::from(self.conns[conn].ends[0].node == from);
        if !self.conns[conn].ends[to].closed {
            self.conns[conn].ends[to]
                .queue
                .push_back(Item::Bytes(bytes));
            self.schedule_arrival(conn, to);
        }
    }

    pub(super) fn schedule_arrival(&mut self, conn: usize, end: usize) {
        let at = self.time + self.delay();
        let last = &mut self.conns[conn].ends[end].last_arrival;
        *last = at.max(*last);
        let at = *last;
        self.push(at, Event::Arrival { conn, end });
    }

    pub(super) fn dial_over(&mut self, dial: usize, silent: bool) {
        if std::mem::replace(&mut self.dials[dial].over, true) {
            return;
        }
        let input = Input::DialFailed {
            dialled: self.dials[dial].dialled.clone(),
            silent,
            reason: "no answer".into(),
        };
        let node = self.dials[dial].from;
        self.with(node, |brain, now, rng| brain.handle(now, rng, input));
    }

    fn dial(&mut self, from: usize, alive: Alive, dialled: Dialled, targets: Vec<HostPort>) {
        let resolve = |at: &HostPort| at.socket_addr().or_else(|| self.dns.get(at).copied());
        let addrs: Vec<SocketAddr> = targets.iter().filter_map(resolve).collect();
        // A dial bound to an id is noise to any other node.
        let answers = |node: &usize| match dialled {
            Dialled::Node(id) => self.nodes[*node].id == id,
            Dialled::Host(_) => *node != from,
        };
        let at = |addr: &SocketAddr| self.nodes.iter().position(|node| node.addr == *addr);
        let target = addrs.iter().filter_map(at).find(answers);
        let machine = &mut self.nodes[from];
        machine.dials.push((self.time, dialled.clone(), targets));
        let process = machine.process;
        let dial = self.dials.len();
        self.dials.push(Dial {
            from,
            process,
            alive,
            dialled,
            over: false,
        });
        self.push(
            self.time + DIAL_TIMEOUT,
            Event::DialOver { dial, silent: true },
        );
        if let Some(at) = target {
            let arrival = self.time + self.delay();
            self.push(arrival, Event::Arrive { dial, at });
        }
    }

    /// A dial reached `at`: it has checked the Hello, and now the dialler will.
    pub(super) fn answer(&mut self, dial: usize, at: usize) {
        let Dial {
            from,
            process,
            alive,
            over,
            ..
        } = self.dials[dial];
        if over {
            return;
        }
        if self.refused.contains(&(from, at)) {
            self.stats.refused_dials += 1;
            return;
        }
        let Some(brain) = self.nodes[at]
            .brain
            .as_ref()
            .filter(|_| !self.is_cut(from, at))
        else {
            self.stats.lost_dials += 1;
            return;
        };
        let answerer = (at, self.nodes[at].process, brain.alive());
        let conn = self.connect((from, process, alive), answerer, Some(dial));
        for end in &mut self.conns[conn].ends {
            end.queue.push_back(Item::Up);
        }
        self.arrive(conn, 1);
        self.schedule_arrival(conn, 0);
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
        };
        self.conns.push(Conn {
            ends: [end(0, from), end(1, to)],
            dial,
            retired: false,
        });
        conn
    }

    pub(super) fn arrive(&mut self, conn: usize, end: usize) {
        let [ours, theirs] = [end, 1 - end].map(|end| self.conns[conn].ends[end].node);
        if self.conns[conn].ends[end].closed {
            return;
        }
        if self.is_cut(ours, theirs) {
            self.stats.held += 1;
            return;
        }
        match self.conns[conn].ends[end].queue.pop_front() {
            Some(Item::Up) => self.link_up(conn, end),
            Some(Item::Bytes(bytes)) => {
                let (frame, len) = decode_frame(&bytes).unwrap().unwrap();
                assert_eq!(len, bytes.len());
                self.frame(conn, end, frame);
            }
            None => {}
        }
    }

    fn link_up(&mut self, conn: usize, end: usize) {
        let (node, link) = (
            self.conns[conn].ends[end].node,
            self.conns[conn].ends[end].link,
        );
        let dial = self.conns[conn].dial.filter(|_| end == 0);
        if let Some(dial) = dial
            && std::mem::replace(&mut self.dials[dial].over, true)
        {
            // Given up meanwhile.
            return self.close(conn, node);
        }
        self.conns[conn].ends[end].up = true;
        self.nodes[node].links.insert(link, conn);
        let other = &self.conns[conn].ends[1 - end];
        let up = LinkUp {
            link,
            peer: self.nodes[other.node].id,
            alive: other.alive,
            dialled: dial.map(|dial| self.dials[dial].dialled.clone()),
            remote: self.nodes[other.node].addr,
            observed: self.nodes[node].addr,
        };
        self.with(node, |brain, now, rng| {
            brain.handle(now, rng, Input::LinkUp(up));
        });
    }

    fn frame(&mut self, conn: usize, end: usize, frame: Frame) {
        let (node, link) = (
            self.conns[conn].ends[end].node,
            self.conns[conn].ends[end].link,
        );
        if self.nodes[node].puppet {
            if let Frame::Ping(number) = frame {
                self.send(conn, node, &Frame::Pong(number));
            }
            self.nodes[node].inbox.push(frame);
            return;
        }
        let input = Input::Frame { link, frame };
        self.with(node, |brain, now, rng| brain.handle(now, rng, input));
    }

    /// `by` closes: it hears of it at once, the other end when the news arrives.
    pub(crate) fn close(&mut self, conn: usize, by: usize) {
        let end = usize::from(self.conns[conn].ends[1].node == by);
        if self.conns[conn].ends[end].closed {
            return;
        }
        let mut at = self.time + self.delay();
        let end_other = 1 - end;
        // The news may overtake what was said before, or follow it.
        if self.rng.random() {
            at = at.max(self.conns[conn].ends[end_other].last_arrival);
        }
        self.push(
            at,
            Event::Closed {
                conn,
                end: end_other,
                by,
            },
        );
        self.push(self.time, Event::Closed { conn, end, by });
    }

    pub(super) fn link_down(&mut self, conn: usize, end: usize, reason: &str) {
        let (node, link) = (
            self.conns[conn].ends[end].node,
            self.conns[conn].ends[end].link,
        );
        let was_up = self.conns[conn].ends[end].up;
        if std::mem::replace(&mut self.conns[conn].ends[end].closed, true) {
            return;
        }
        self.conns[conn].ends[end].queue.clear();
        self.nodes[node].links.remove(&link);
        if let (Some(dial), 0, false) = (self.conns[conn].dial, end, was_up) {
            self.dial_over(dial, false);
        }
        if was_up && !self.nodes[node].puppet {
            let reason = reason.to_owned();
            let input = Input::LinkDown { link, reason };
            self.with(node, |brain, now, rng| brain.handle(now, rng, input));
        }
    }

    /// The end of a process that is gone.
    pub(super) fn shut(&mut self, conn: usize, node: usize) {
        let end = usize::from(self.conns[conn].ends[1].node == node);
        self.conns[conn].ends[end].closed = true;
        self.conns[conn].ends[end].queue.clear();
    }
}
