//! A machine's disk: what brains save is committed in groups, and a crash takes what was not.

use std::collections::BTreeMap;

use warren::mesh::brain::Save;
use warren::mesh::entry::{Entry, Slot};
use warren::mesh::floor::Floor;
use warren::mesh::id::NodeId;
use warren::mesh::members::KnownPeer;

use super::{Event, World};

/// What a node keeps across its processes.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) entries: BTreeMap<Slot, Entry>,
    pub(crate) floors: BTreeMap<NodeId, Floor>,
    pub(crate) peers: BTreeMap<NodeId, KnownPeer>,
    pub(crate) boot: u64,
    /// What waits for the next commit.
    waiting: Vec<Save>,
}

impl Disk {
    fn commit(&mut self) {
        for save in std::mem::take(&mut self.waiting) {
            match save {
                Save::Entry(entry) => drop(self.entries.insert(entry.slot.clone(), entry)),
                Save::Drop(slot) => drop(self.entries.remove(&slot)),
                Save::Floor(floor) => {
                    let voided = |slot: &Slot, entry: &mut Entry| {
                        slot.author == floor.author && entry.version < floor.floor
                    };
                    self.entries.extract_if(.., voided).for_each(drop);
                    self.floors.insert(floor.author, floor);
                }
                Save::ForgetFloor(author) => drop(self.floors.remove(&author)),
                Save::Peer(peer) => drop(self.peers.insert(peer.id, peer)),
            }
        }
    }

    /// How many changes a crash took.
    pub(super) fn crash(&mut self) -> u64 {
        std::mem::take(&mut self.waiting).len() as u64
    }
}

impl World {
    pub(super) fn save(&mut self, node: usize, save: Save) {
        if !self.detail.disks {
            return;
        }
        let machine = &mut self.nodes[node];
        let process = machine.process;
        machine.disk.waiting.push(save);
        if machine.disk.waiting.len() == 1 {
            let at = self.time + self.commit_after;
            self.push(at, Event::Commit { node, process });
        }
    }

    /// All that waits goes to the disk in one transaction.
    pub(super) fn commit(&mut self, node: usize) {
        let disk = &mut self.nodes[node].disk;
        if !disk.waiting.is_empty() {
            disk.commit();
            self.stats.commits += 1;
        }
    }

    /// A write that is not acknowledged before it is durable; what waits goes with it.
    pub(super) fn commit_now(&mut self, node: usize, entry: Entry) {
        if self.detail.disks {
            self.nodes[node].disk.waiting.push(Save::Entry(entry));
            self.commit(node);
        }
    }
}
