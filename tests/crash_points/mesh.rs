//! Two brains and a link between them, without a network: what one lost the other gives back.

use std::collections::VecDeque;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use warren::mesh::brain::{Brain, Dialled, Effect, Input, LinkUp, Save, Setup, Timing};
use warren::mesh::entry::{Class, Entry};
use warren::mesh::members::LinkId;
use warren::mesh::records::NodeRecord;
use warren::mesh::time::Now;
use warren::mesh::wire::Frame;
use warren::store::Change;

use super::story::{Held, NETWORK, identity};

/// The node whose disk the story is about.
const CRASHED: u8 = 1;
/// A node that lost nothing.
const WHOLE: u8 = 20;
/// Frames between two brains that have come to an agreement long before.
const MAX_FRAMES: usize = 500;

struct Pair {
    brains: [Brain; 2],
    /// What the disk of the first keeps.
    kept: Held,
    rng: SmallRng,
    mono: Duration,
    frames: usize,
}

/// Loads a brain from `held`, in a new boot, and links it with one that holds `everything`.
///
/// # Errors
/// They do not end in the same ledger, `everything`, on disk too, or do not take a write of the
/// loaded one.
pub(crate) fn converges(held: &Held, everything: &Held) -> Result<(), String> {
    let crashed = brain(CRASHED, held.boot + 1, held);
    let whole = brain(WHOLE, 1, everything);
    for brain in [&crashed, &whole] {
        if !brain.refused().is_empty() {
            return Err(format!("not loaded: {:?}", brain.refused()));
        }
    }
    if durable(&crashed) != shared(held) {
        return Err("the brain loaded another ledger".to_owned());
    }
    let mut pair = Pair {
        brains: [crashed, whole],
        kept: held.clone(),
        rng: SmallRng::seed_from_u64(1),
        mono: Duration::ZERO,
        frames: 0,
    };
    pair.link();
    pair.settle()?;
    let [crashed, whole] = &pair.brains;
    for ledger in [durable(crashed), durable(whole), shared(&pair.kept)] {
        if ledger != *everything {
            return Err("the ledgers differ after a reconciliation".to_owned());
        }
    }
    // What it writes now must win over everything it ever wrote, remembered or not.
    for key in ["own", "a", "b"] {
        let written = pair.write(key)?;
        pair.settle()?;
        for brain in &pair.brains {
            if brain.ledger().get(&written.slot) != Some(&written) {
                return Err(format!("a new write of {key:?} did not win"));
            }
        }
    }
    Ok(())
}

fn brain(n: u8, boot: u64, held: &Held) -> Brain {
    let setup = Setup {
        identity: identity(n),
        network: NETWORK,
        boot,
        record: NodeRecord {
            name: format!("n{n}").parse().unwrap(),
            version: String::new(),
            addresses: vec![],
            draining: false,
        },
        connect: vec![],
        crypto_interval: 9_000,
        timing: Timing::default(),
    };
    let peers = held.peers.values().cloned().collect();
    let floors = held.floors.values().copied().collect();
    let entries = held.ledger.values().cloned().collect();
    Brain::new(at(Duration::ZERO), setup, peers, floors, entries)
}

/// The wall clock stands still at its beginning: versions rise only by what a node remembers and
/// hears.
fn at(mono: Duration) -> Now {
    Now { mono, unix_ms: 0 }
}

/// What of `held` every node holds.
fn shared(held: &Held) -> Held {
    Held {
        ledger: held.ledger.clone(),
        floors: held.floors.clone(),
        ..Held::default()
    }
}

fn durable(brain: &Brain) -> Held {
    let entries = brain.ledger().entries();
    let entries = entries.filter(|entry| entry.slot.class == Class::Durable);
    let floors = brain.ledger().floors();
    Held {
        ledger: entries.map(|e| (e.slot.clone(), e.clone())).collect(),
        floors: floors.map(|f| (f.author, *f)).collect(),
        ..Held::default()
    }
}

impl Pair {
    fn link(&mut self) {
        let ups = [1, 0].map(|other| {
            let peer = &self.brains[other];
            let remote = format!("192.0.2.{}:7717", other + 1).parse().unwrap();
            let observed = format!("192.0.2.{}:7717", 2 - other).parse().unwrap();
            LinkUp {
                link: LinkId(1),
                peer: peer.me(),
                alive: peer.alive(),
                dialled: (other == 1).then(|| Dialled::Node(peer.me())),
                remote,
                observed,
                again: false,
            }
        });
        for (brain, up) in self.brains.iter_mut().zip(ups) {
            brain.handle(at(self.mono), &mut self.rng, Input::LinkUp(up));
        }
    }

    /// Carries frames until neither has anything to say.
    fn settle(&mut self) -> Result<(), String> {
        let mut under_way: VecDeque<(usize, Frame)> = VecDeque::new();
        loop {
            for from in 0..2 {
                while let Some(effect) = self.brains[from].poll_effect() {
                    match effect {
                        Effect::Send { frame, .. } => under_way.push_back((1 - from, frame)),
                        Effect::Close { code, .. } => return Err(format!("closed: {code:?}")),
                        Effect::Lose { .. } => return Err("closed: silent".to_owned()),
                        Effect::Save(save) if from == 0 => self.kept.apply(&change(save)),
                        Effect::Cloned => return Err("it takes itself for a clone".to_owned()),
                        _ => {}
                    }
                }
            }
            let Some((to, frame)) = under_way.pop_front() else {
                return Ok(());
            };
            self.frames += 1;
            if self.frames > MAX_FRAMES {
                return Err("they never come to an end".to_owned());
            }
            self.mono += Duration::from_millis(1);
            let link = LinkId(1);
            let input = Input::Frame { link, frame };
            self.brains[to].handle(at(self.mono), &mut self.rng, input);
        }
    }

    fn write(&mut self, key: &str) -> Result<Entry, String> {
        let now = at(self.mono);
        let bucket = "story".parse().unwrap();
        let value = Some(b"new".to_vec());
        let drafted = self.brains[0].draft(now, bucket, key.to_owned(), value);
        let entry = drafted.map_err(|error| error.to_string())?;
        self.brains[0].apply_own(now, entry.clone());
        Ok(entry)
    }
}

/// What the driver asks of the store.
fn change(save: Save) -> Change {
    match save {
        Save::Entry(entry) => Change::PutEntry(entry),
        Save::Drop(slot) => Change::DropEntry(slot),
        Save::Floor(floor) => Change::PutFloor(floor),
        Save::ForgetFloor(author) => Change::DropFloor(author),
        Save::Peer(peer) => Change::Peer(peer),
    }
}
