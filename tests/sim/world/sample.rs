//! Networks too large for every brain to know every member.
//!
//! A brain takes some 2.5 KB for each member it knows; ten thousand of them that all know each
//! other would take 250 GB. But what a node does for a pulse, a word or an entry follows from its
//! neighbours, and the nearest of all members on a ring is the nearest of any few as well. So here
//! most brains are told of their neighbours only, and keep the very links they would keep if they
//! knew everybody; a sample is told of all members.
//!
//! What that leaves out: most reconciliations, since ledgers always differ in the records of the
//! members, and the handshake with a new random neighbour every two minutes (4 KB).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use warren::mesh::brain::Input;
use warren::mesh::entry::{Class, Entry};
use warren::mesh::id::NodeId;
use warren::mesh::records::is_node_record;
use warren::mesh::rings::{RINGS, Rings, Way};
use warren::mesh::wire::{Frame, MAX_ALIVE, entry_frames};

use super::{NETWORK, World};

impl World {
    /// `count` machines that start within `span`, each told of its neighbours and of one more
    /// member. [`World::tell_all`] makes a sample of them.
    pub(crate) fn acquainted(&mut self, count: usize, span: Duration) {
        let all: Vec<usize> = (0..count).map(|_| self.machine()).collect();
        let mut known = self.neighbours(&all);
        for node in &all {
            let other = self.rng.random_range(0..count);
            if other != *node {
                known[*node].insert(other);
                known[other].insert(*node);
            }
        }
        for (node, known) in known.iter().enumerate() {
            // Who starts later dials.
            let connect = known.range(..node).map(|other| self.pinned(*other));
            self.nodes[node].connect = connect.collect();
            self.nodes[node].knows = Some(known.iter().map(|other| self.id(*other)).collect());
        }
        let pause = span / u32::try_from(count.max(1)).unwrap();
        for node in all {
            self.start(node);
            self.run(pause);
        }
    }

    /// Next and previous of each on each ring.
    fn neighbours(&self, all: &[usize]) -> Vec<BTreeSet<usize>> {
        let mut rings = Rings::new(NETWORK);
        let mut index = BTreeMap::new();
        for node in all {
            rings.insert(self.id(*node));
            index.insert(self.id(*node), *node);
        }
        let nearest = |node: &usize| {
            let ways = [Way::Next, Way::Previous];
            let places = (0..RINGS).flat_map(|ring| ways.map(|way| (ring, way)));
            let near =
                places.filter_map(|(ring, way)| rings.walk(ring, way, self.id(*node)).next());
            near.map(|id| index[&id]).collect()
        };
        all.iter().map(nearest).collect()
    }

    /// Lets time pass until everybody counts those it was told of as online; how long it took.
    pub(crate) fn settle_acquainted(&mut self, limit: Duration) -> Option<Duration> {
        self.wait(limit, super::ms(100), |world| {
            let content = |node: usize| {
                let known = world.nodes[node].knows.iter().flatten();
                let brain = world.brain(node);
                known.into_iter().all(|other| brain.is_online(other))
            };
            (0..world.nodes.len()).all(content)
        })
    }

    /// Tells the machines of `sample` of every member, over one link of each.
    pub(crate) fn tell_all(&mut self, sample: &[usize]) {
        let brains: Vec<_> = self.running().into_iter().map(|n| self.brain(n)).collect();
        let words: Vec<_> = brains.iter().map(|brain| brain.alive()).collect();
        let record = |entry: &&Entry| is_node_record(&entry.slot.bucket, &entry.slot.key);
        let own = brains.iter().flat_map(|brain| {
            let me = brain.me();
            let mine = move |entry: &&Entry| entry.slot.author == me;
            brain.ledger().entries().filter(record).filter(mine)
        });
        let records: Vec<Entry> = own.cloned().collect();
        let words = words
            .chunks(MAX_ALIVE)
            .map(|some| Frame::Alive(some.to_vec()));
        let frames: Vec<Frame> = words.chain(entry_frames(records)).collect();
        for node in sample {
            self.nodes[*node].knows = None;
            let conn = *self.nodes[*node].links.first().expect("a neighbour");
            let ends = &self.conns[conn].as_ref().expect("is up").ends;
            let link = ends.iter().find(|end| end.node == *node).unwrap().link;
            for frame in frames.clone() {
                let input = Input::Frame { link, frame };
                self.with(*node, |brain, now, rng| brain.handle(now, rng, input));
            }
        }
    }

    /// What of a frame a machine that is told of few takes in. Its ledger always differs from that
    /// of one that knows more, which a reconciliation would only find again.
    pub(super) fn heard_of(&self, from: usize, to: usize, frame: Frame) -> Option<Frame> {
        let few = [from, to].map(|node| self.nodes[node].knows.is_some());
        match &frame {
            Frame::Digest(_) if few != [false; 2] => return None,
            Frame::SyncOpen(_) if few != [few[0]; 2] => return None,
            _ => {}
        }
        let Some(knows) = &self.nodes[to].knows else {
            return Some(frame);
        };
        let me = self.id(to);
        let known = |id: &NodeId| knows.contains(id) || *id == me;
        Some(match frame {
            Frame::Alive(all) => Frame::Alive(kept(all, |word| known(&word.node))),
            Frame::Suspicions(all) => Frame::Suspicions(kept(all, |doubt| known(&doubt.subject))),
            Frame::Entries(all) => Frame::Entries(kept(all, |entry| {
                entry.slot.class == Class::Durable || known(&entry.slot.author)
            })),
            frame => frame,
        })
    }
}

fn kept<T>(mut all: Vec<T>, keep: impl FnMut(&T) -> bool) -> Vec<T> {
    all.retain(keep);
    all
}
