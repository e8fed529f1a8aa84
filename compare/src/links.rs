//! Links as QUIC keeps them: dialled when there is something to say, reliable and in order each
//! way, kept alive by pings, and noticed when they fall silent.
//!
//! What is counted, with IP and UDP: a handshake 4 KB for both ends; a frame its bytes, its length
//! and 59 B; an acknowledgement 65 B for each frame; a ping and its answer 65 B each. Both ends keep
//! a link alive and often ping at the same time, so that 0.7 s of silence cost about 210 B. A lost
//! packet is sent again, and counted again, after a probe timeout that doubles; from the second
//! timeout on a ping is sent twice, as quinn does.

use std::collections::{BTreeMap, BTreeSet};

use iroh_gossip::proto::state::Message;

use crate::Result;
use crate::tree::{Event, Peer, SILENT, Tree};
use crate::world::{MS, Micros, SECOND};

/// Each end's half of the bytes of a handshake.
const HANDSHAKE: usize = 2_000;
/// What a dial to a dead node costs: first packets, repeated.
const VAIN_DIAL: usize = 4 * 1_228;
const DIAL_PATIENCE: Micros = 3 * SECOND;
/// A handshake has no measured round trip yet; its first packet is repeated after this.
const FIRST_TIMEOUT: Micros = SECOND;
/// IP and UDP, and what QUIC puts round a frame.
const FRAME: usize = 28 + 31;
const LENGTH: usize = 4;
/// The topic goes once per stream and not with each message, as its size would say.
const TOPIC: usize = 32;
const ACK: usize = 65;
const PING: usize = 65;
/// An end that has heard nothing for so long sends a ping.
const KEEP_ALIVE: Micros = 700 * MS;
/// A link that is silent for so long is over.
const LOST: Micros = 3 * SECOND;

/// Two nodes, the smaller first.
pub(crate) type Pair = (usize, usize);

fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

/// Which of its link's two ends `node` is.
fn end(node: usize, peer: usize) -> usize {
    usize::from(node > peer)
}

pub(crate) struct Link {
    epoch: u64,
    up: bool,
    /// Frames for when it is up: sender, receiver, message.
    waiting: Vec<(usize, usize, Message<Peer>)>,
    /// Who wants it closed once these are sent.
    closing: Option<usize>,
    /// When each end last heard the other.
    heard: [Micros; 2],
    /// When the latest frame to each end arrives.
    arrives: [Micros; 2],
}

/// All links of a mesh.
#[derive(Default)]
pub(crate) struct Links {
    links: BTreeMap<Pair, Link>,
    /// Distinguishes a link from an earlier one of the same pair.
    epochs: u64,
    leaving: BTreeSet<usize>,
}

impl Links {
    /// When `node` last heard `peer`, if they are linked.
    pub(crate) fn heard(&self, node: usize, peer: usize) -> Option<Micros> {
        let link = self.links.get(&pair(node, peer))?;
        link.up.then(|| link.heard[end(node, peer)])
    }

    pub(crate) fn hear(&mut self, at: Micros, node: usize, peer: usize, epoch: Option<u64>) {
        if let Some(link) = self.links.get_mut(&pair(node, peer))
            && epoch.is_none_or(|epoch| epoch == link.epoch)
        {
            link.heard[end(node, peer)] = at;
        }
    }

    /// `node` has said goodbye; to call it gone is no mistake.
    pub(crate) fn leave(&mut self, node: usize) {
        self.leaving.insert(node);
    }

    pub(crate) fn leaving(&self, node: usize) -> bool {
        self.leaving.contains(&node)
    }

    fn standing(&mut self, pair: Pair, epoch: u64) -> Option<&mut Link> {
        self.links.get_mut(&pair).filter(|link| link.epoch == epoch)
    }
}

impl Tree {
    /// Sends a message, over a new link if there is none.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message<Peer>) -> Result<()> {
        match self.links.links.get_mut(&pair(from, to)) {
            Some(link) if link.up => return self.transmit(from, to, message),
            Some(link) => link.waiting.push((from, to, message)),
            None => self.dial(from, to, message),
        }
        Ok(())
    }

    fn dial(&mut self, from: usize, to: usize, message: Message<Peer>) {
        self.links.epochs += 1;
        let epoch = self.links.epochs;
        let link = Link {
            epoch,
            up: false,
            waiting: vec![(from, to, message)],
            closing: None,
            heard: [self.now; 2],
            arrives: [self.now; 2],
        };
        self.links.links.insert(pair(from, to), link);
        if !self.alive[to] {
            self.network.bytes += VAIN_DIAL as u64;
            self.network.upkeep += VAIN_DIAL as u64;
            let at = self.now + DIAL_PATIENCE;
            self.heap.put(at, Event::DialFailed { from, to, epoch });
            return;
        }
        let before = self.network.bytes;
        let mut at = self.now;
        let mut timeout = FIRST_TIMEOUT;
        loop {
            let there = self.network.send(from, to, HANDSHAKE);
            let back = self.network.send(to, from, HANDSHAKE);
            if let (Some(there), Some(back)) = (there, back) {
                at += there + back;
                break;
            }
            at += timeout;
            timeout *= 2;
        }
        self.network.upkeep += self.network.bytes - before;
        let pair = pair(from, to);
        self.heap.put(at, Event::Connected { pair, epoch });
    }

    /// Puts a frame on a link that is up.
    fn transmit(&mut self, from: usize, to: usize, message: Message<Peer>) -> Result<()> {
        let encoded = postcard::to_allocvec(&message)?;
        let bytes = encoded.len() - TOPIC + LENGTH + FRAME;
        let before = self.network.bytes;
        let delivered = self.deliver(from, to, bytes);
        // The kind comes after the topic: 0 is of the overlay, 1 of the broadcast.
        if encoded.get(TOPIC) == Some(&0) {
            self.network.upkeep += self.network.bytes - before;
        }
        let link = self.links.links.get_mut(&pair(from, to));
        let (Some((arrival, acknowledged)), Some(link)) = (delivered, link) else {
            return Ok(());
        };
        let epoch = link.epoch;
        let arrives = &mut link.arrives[end(to, from)];
        *arrives = arrival.max(*arrives + 1);
        self.heap.put(*arrives, Event::Frame { from, to, message });
        if let Some(at) = acknowledged {
            let (node, peer) = (from, to);
            self.heap.put(at, Event::Heard { node, peer, epoch });
        }
        Ok(())
    }

    /// Sends a packet until it arrives; when it does, and when its sender knows. The dead
    /// acknowledge nothing, and are given up when their link is.
    fn deliver(
        &mut self,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> Option<(Micros, Option<Micros>)> {
        let mut timeout = self.probe_timeout(from, to);
        let mut at = self.now;
        let arrival = loop {
            let latency = self.network.send(from, to, bytes);
            if let Some(latency) = latency.filter(|_| self.alive[to]) {
                break at + latency;
            }
            at += timeout;
            timeout *= 2;
            if at > self.now + LOST {
                return None;
            }
        };
        let acknowledged = self.network.send(to, from, ACK).or_else(|| {
            let again = self.network.send(from, to, bytes)?;
            let back = self.network.send(to, from, ACK)?;
            Some(timeout + again + back)
        });
        Some((arrival, acknowledged.map(|back| arrival + back)))
    }

    fn probe_timeout(&self, a: usize, b: usize) -> Micros {
        3 * self.network.latency(a, b) + 25 * MS
    }

    /// Closes the link after what was sent on it; the other end is told.
    pub(crate) fn close(&mut self, by: usize, peer: usize) {
        let key = pair(by, peer);
        match self.links.links.get_mut(&key) {
            Some(link) if !link.up => link.closing = Some(by),
            Some(link) => {
                let last = link.arrives[end(peer, by)];
                self.links.links.remove(&key);
                let at = last.max(self.now + self.network.latency(by, peer)) + 1;
                let (node, peer) = (peer, by);
                self.heap.put(at, Event::Closed { node, peer });
            }
            None => {}
        }
    }

    pub(crate) fn link_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Heard { node, peer, epoch } => {
                self.links.hear(self.now, node, peer, Some(epoch));
                Ok(())
            }
            Event::Connected { pair, epoch } => self.connected(pair, epoch),
            Event::DialFailed { from, to, epoch } => {
                let key = pair(from, to);
                if self.links.standing(key, epoch).is_none() {
                    return Ok(());
                }
                self.links.links.remove(&key);
                self.disconnected_if_alive(from, to)
            }
            Event::Closed { node, peer } => {
                if self.links.links.contains_key(&pair(node, peer)) {
                    return Ok(());
                }
                self.disconnected_if_alive(node, peer)
            }
            Event::KeepAlive {
                node,
                peer,
                epoch,
                attempt,
            } => {
                self.keep_alive(node, peer, epoch, attempt);
                Ok(())
            }
            Event::Silence { node, peer, epoch } => self.silence(node, peer, epoch),
            Event::Join { .. }
            | Event::Timer { .. }
            | Event::Condemn { .. }
            | Event::Frame { .. } => Ok(()),
        }
    }

    fn disconnected_if_alive(&mut self, node: usize, peer: usize) -> Result<()> {
        if self.alive[node] {
            self.disconnected(node, peer)?;
        }
        Ok(())
    }

    fn connected(&mut self, pair: Pair, epoch: u64) -> Result<()> {
        let now = self.now;
        let Some(link) = self.links.standing(pair, epoch) else {
            return Ok(());
        };
        link.up = true;
        link.heard = [now; 2];
        let waiting = std::mem::take(&mut link.waiting);
        let closing = link.closing;
        for (from, to, message) in waiting {
            self.transmit(from, to, message)?;
        }
        if let Some(by) = closing {
            self.close(by, if by == pair.0 { pair.1 } else { pair.0 });
            return Ok(());
        }
        for (node, peer) in [pair, (pair.1, pair.0)] {
            let keep_alive = Event::KeepAlive {
                node,
                peer,
                epoch,
                attempt: 0,
            };
            self.heap.put(now + KEEP_ALIVE, keep_alive);
            self.heap
                .put(now + SILENT, Event::Silence { node, peer, epoch });
        }
        Ok(())
    }

    /// Sends a ping if it is time; `attempt` counts those since `node` last heard its peer.
    fn keep_alive(&mut self, node: usize, peer: usize, epoch: u64, attempt: u32) {
        let Some(link) = self.links.standing(pair(node, peer), epoch) else {
            return;
        };
        let due = link.heard[end(node, peer)] + KEEP_ALIVE;
        if !self.alive[node] {
            return;
        }
        let (at, attempt) = if self.now < due {
            (due, 0)
        } else {
            self.ping(node, peer, epoch);
            if attempt >= 2 {
                self.ping(node, peer, epoch);
            }
            let timeout = self.probe_timeout(node, peer) << attempt.min(5);
            (self.now + timeout, attempt + 1)
        };
        let next = Event::KeepAlive {
            node,
            peer,
            epoch,
            attempt,
        };
        self.heap.put(at, next);
    }

    fn ping(&mut self, node: usize, peer: usize, epoch: u64) {
        let there = self.network.send(node, peer, PING);
        self.network.upkeep += PING as u64;
        let Some(there) = there.filter(|_| self.alive[peer]) else {
            return;
        };
        let heard = |node, peer| Event::Heard { node, peer, epoch };
        let at = self.now + there;
        self.heap.put(at, heard(peer, node));
        self.network.upkeep += PING as u64;
        if let Some(back) = self.network.send(peer, node, PING) {
            self.heap.put(at + back, heard(node, peer));
        }
    }

    /// Looks whether `node` has heard of `peer` lately: accuses, and later gives the link up.
    fn silence(&mut self, node: usize, peer: usize, epoch: u64) -> Result<()> {
        let key = pair(node, peer);
        let Some(link) = self.links.standing(key, epoch) else {
            return Ok(());
        };
        let heard = link.heard[end(node, peer)];
        if !self.alive[node] {
            return Ok(());
        }
        let quiet = self.now.saturating_sub(heard);
        if quiet >= LOST {
            self.links.links.remove(&key);
            let at = self.now + self.network.latency(node, peer);
            let (other, one) = (peer, node);
            let closed = Event::Closed {
                node: other,
                peer: one,
            };
            self.heap.put(at, closed);
            return self.disconnected(node, peer);
        }
        let next = if quiet >= SILENT { LOST } else { SILENT };
        self.heap
            .put(heard + next, Event::Silence { node, peer, epoch });
        if quiet >= SILENT {
            self.accuse(node, peer)?;
        }
        Ok(())
    }
}
