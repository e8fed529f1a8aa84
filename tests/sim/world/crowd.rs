//! Many machines at once.

use std::time::Duration;

use rand::RngExt;

use super::{Traffic, World, ms};

/// Machines a newcomer is told of, at most.
const CONTACTS: usize = 3;

impl World {
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

    /// `count` machines that start one by one within `span`, each with one to three contacts
    /// among those before it.
    pub(crate) fn crowd(&mut self, count: usize, span: Duration) {
        let pause = span / u32::try_from(count.max(1)).unwrap();
        for _ in 0..count {
            let node = self.machine();
            for _ in 0..self.rng.random_range(1..=CONTACTS).min(node) {
                let contact = self.rng.random_range(0..node);
                let contact = self.pinned(contact);
                if !self.nodes[node].connect.contains(&contact) {
                    self.nodes[node].connect.push(contact);
                }
            }
            self.start(node);
            self.run(pause);
        }
    }

    /// Lets time pass until every running node counts every other as online; how long it took,
    /// or `None` after `limit`.
    pub(crate) fn settle(&mut self, limit: Duration) -> Option<Duration> {
        let running = self.running();
        // Who was not content last is asked first.
        let mut asked = 0;
        self.wait(limit, ms(20), |world| {
            let content = |node: usize| {
                let all = running.iter();
                all.filter(|other| **other != node)
                    .all(|other| world.online(node, *other))
            };
            while let Some(node) = running.get(asked) {
                if !content(*node) {
                    return false;
                }
                asked += 1;
            }
            asked = 0;
            running.iter().all(|node| content(*node))
        })
    }

    /// Starts counting bytes anew.
    pub(crate) fn reset_traffic(&mut self) {
        for machine in &mut self.nodes {
            machine.traffic = Traffic::default();
        }
    }

    /// Bytes that running machines have sent since [`World::reset_traffic`], in rising order.
    pub(crate) fn sent(&self) -> Vec<u64> {
        let running = self.running().into_iter();
        let mut all: Vec<u64> = running.map(|n| self.nodes[n].traffic.sent).collect();
        all.sort_unstable();
        all
    }
}
