//! What the network does with packets.

use std::time::Duration;

use rand::RngExt;
use warren::mesh::brain::Input;
use warren::mesh::wire::{Frame, decode_frame};

use super::cost;
use super::links::{Arriving, Item};
use super::{Event, World};

/// Losses of one packet in a row, at most.
const MAX_LOSSES: u32 = 8;

impl World {
    /// One-way delay between two machines, without what each packet adds.
    fn distance(&self, a: usize, b: usize) -> Duration {
        let (least, most) = self.net.distance;
        if most.is_zero() {
            return most;
        }
        let pair = (a.min(b) as u64) << 32 | a.max(b) as u64;
        let chance = mixed(self.seed ^ mixed(pair)) >> 11;
        least + (most - least).mul_f64(chance as f64 / (1_u64 << 53) as f64)
    }

    /// What QUIC measures between two machines.
    pub(super) fn round_trip(&self, a: usize, b: usize) -> Duration {
        let (least, most) = self.net.latency;
        2 * self.distance(a, b) + least + most
    }

    /// How long one packet takes from `from` to `to`, with its losses; `len` bytes of it are
    /// sent again each time. Without a measured round trip `pto` is the first timeout.
    pub(super) fn flight(
        &mut self,
        from: usize,
        to: usize,
        pto: Option<Duration>,
        len: u64,
    ) -> Duration {
        let (least, most) = self.net.latency;
        let mut delay = self.distance(from, to) + self.rng.random_range(least..=most);
        if self.net.loss == 0.0 {
            return delay;
        }
        let measured = || self.round_trip(from, to).mul_f64(1.5) + self.net.repair;
        let mut wait = pto.unwrap_or_else(measured);
        for _ in 0..MAX_LOSSES {
            if !self.rng.random_bool(self.net.loss) {
                break;
            }
            self.stats.delayed += 1;
            self.nodes[from].traffic.sent += len;
            delay += wait;
            wait *= 2;
        }
        delay
    }

    /// How long a small packet takes to `end` of a connection.
    pub(super) fn flight_between(&mut self, conn: usize, end: usize) -> Duration {
        let Some(joined) = self.conns[conn].as_ref() else {
            return Duration::ZERO;
        };
        let (from, to) = (joined.ends[1 - end].node, joined.ends[end].node);
        self.flight(from, to, None, cost::CLOSE)
    }

    pub(super) fn send(&mut self, conn: usize, from: usize, frame: Frame) {
        let (len, item) = if self.detail.codec {
            let bytes = frame.encode();
            (bytes.len(), Item::Bytes(bytes))
        } else {
            (frame.encode().len(), Item::Frame(frame))
        };
        self.stats.frames += 1;
        self.stats.bytes += len as u64;
        let Some(joined) = self.conns[conn].as_mut() else {
            return;
        };
        let side = joined.side_of(from);
        let to = joined.ends[1 - side].node;
        let added = joined.ends[side].packets.send(self.time, len);
        self.stats.packets += added.packets;
        self.stats.acks += added.acks;
        self.nodes[from].traffic.sent += added.bytes;
        let queued = self.leave_line(from, added.bytes);
        let mut at = self.time;
        for _ in 0..added.packets {
            at = at.max(self.time + self.flight(from, to, None, cost::lost_packet(len)));
        }
        let Some(joined) = self.conns[conn].as_ref() else {
            return;
        };
        if joined.ends[1 - side].closed {
            return;
        }
        self.nodes[to].traffic.received += added.bytes;
        self.enqueue(conn, 1 - side, at + queued, added.packets, item);
    }

    /// How long `bytes` wait until they have left a slow line.
    fn leave_line(&mut self, node: usize, bytes: u64) -> Duration {
        let Some(bandwidth) = self.net.bandwidth else {
            return Duration::ZERO;
        };
        let line = &mut self.nodes[node].line_free;
        if *line > self.time {
            self.stats.queued += 1;
        }
        *line = self.time.max(*line) + Duration::from_secs_f64(bytes as f64 / bandwidth as f64);
        *line - self.time
    }

    /// Puts `item` behind what is on its way to `end`: a stream keeps its order.
    pub(super) fn enqueue(
        &mut self,
        conn: usize,
        end: usize,
        at: Duration,
        packets: u64,
        item: Item,
    ) {
        let Some(joined) = self.conns[conn].as_mut() else {
            return;
        };
        let to = &mut joined.ends[end];
        let at = at.max(to.last_arrival);
        to.last_arrival = at;
        to.queue.push_back(Arriving { at, packets, item });
        if to.planned != Some(at) {
            to.planned = Some(at);
            self.push(at, Event::Arrival { conn, end });
        }
    }

    /// Everything that is due at `end`, in order.
    pub(super) fn arrive(&mut self, conn: usize, end: usize) {
        let Some(joined) = self.conns[conn].as_mut() else {
            return;
        };
        let [ours, theirs] = [end, 1 - end].map(|end| joined.ends[end].node);
        let to = &mut joined.ends[end];
        if to.closed {
            return;
        }
        if self.faults.cuts(theirs, ours) {
            self.stats.held += 1;
            to.held = true;
            return;
        }
        if to.planned == Some(self.time) {
            to.planned = None;
        }
        let process = to.process;
        // What is handed over may close the link, or end the process.
        while let Some(joined) = self.conns[conn].as_mut()
            && self.nodes[ours].process == process
        {
            let due = joined.ends[end].queue.front();
            if due.is_none_or(|next| next.at > self.time) {
                break;
            }
            let Some(next) = joined.ends[end].queue.pop_front() else {
                break;
            };
            // Before what it carries is answered: the ACK rides with the answer.
            self.acknowledge(conn, end, next.packets);
            match next.item {
                Item::Up => self.link_up(conn, end),
                Item::Bytes(bytes) => {
                    let (frame, len) = decode_frame(&bytes).unwrap().unwrap();
                    assert_eq!(len, bytes.len());
                    self.frame(conn, end, frame);
                }
                Item::Frame(frame) => self.frame(conn, end, frame),
            }
        }
    }

    /// `end` received `packets`: what that costs it, and what the other end learns from it.
    fn acknowledge(&mut self, conn: usize, end: usize, packets: u64) {
        let Some(joined) = self.conns[conn].as_mut().filter(|_| packets > 0) else {
            return;
        };
        let [ours, theirs] = [end, 1 - end].map(|end| joined.ends[end].node);
        let (acks, bytes) = joined.ends[end].packets.receive(self.time, packets);
        self.stats.acks += acks;
        self.nodes[ours].traffic.sent += bytes;
        self.nodes[theirs].traffic.received += bytes;
        let back = self.distance(ours, theirs) + self.net.latency.1;
        if self.faults.cuts(ours, theirs) {
            return;
        }
        if let Some(joined) = self.conns[conn].as_mut() {
            let there = self.time + back;
            joined.ends[1 - end].acked.get_or_insert(there);
        }
    }

    fn frame(&mut self, conn: usize, end: usize, frame: Frame) {
        let Some(joined) = self.conns[conn].as_ref() else {
            return;
        };
        let (node, link) = (joined.ends[end].node, joined.ends[end].link);
        let Some(frame) = self.heard_of(joined.ends[1 - end].node, node, frame) else {
            return;
        };
        if self.nodes[node].puppet {
            return self.puppet_hears(conn, node, frame);
        }
        let input = Input::Frame { link, frame };
        self.with(node, |brain, now, rng| brain.handle(now, rng, input));
    }
}

/// Spreads a number over all 64 bits (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
