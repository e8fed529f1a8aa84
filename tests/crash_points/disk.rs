//! A disk that remembers what was asked of it, and the images that a crash can leave.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::RngExt;
use rand::rngs::SmallRng;
use redb::StorageBackend;

/// What a disk writes all of or nothing of.
const SECTOR: usize = 512;

/// One call that changes the disk or makes changes durable.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// A disk in memory. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    ops: Vec<Op>,
    /// Takes no more writes.
    full: bool,
}

impl Disk {
    pub(crate) fn new(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: image,
            ..State::default()
        })))
    }

    /// What is on it.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.state().now.clone()
    }

    /// How many operations there were.
    pub(crate) fn count(&self) -> usize {
        self.state().ops.len()
    }

    /// All of them, in order.
    pub(crate) fn ops(&self) -> Vec<Op> {
        self.state().ops.clone()
    }

    /// Whether writes are refused from now on.
    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let state = self.state();
        let there = state.now.get(at..at + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        set_len(&mut state.now, len);
        state.ops.push(Op::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().ops.push(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        write(&mut state.now, usize::try_from(offset).unwrap(), data);
        state.ops.push(Op::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// What became of the operations after the last sync.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    /// Each by itself kept, lost or torn.
    Mixed,
}

/// How often chance did what to an operation that was not synced.
#[derive(Debug, Default)]
pub(crate) struct Chance {
    pub(crate) kept: u64,
    pub(crate) lost: u64,
    pub(crate) torn: u64,
}

/// A recording played back: what is durable so far, and what is not yet.
pub(crate) struct Replay<'a> {
    durable: Vec<u8>,
    unsynced: Vec<&'a Op>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(base: &[u8]) -> Self {
        Self {
            durable: base.to_vec(),
            unsynced: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, op: &'a Op) {
        match op {
            Op::Sync => {
                for op in self.unsynced.drain(..) {
                    apply(&mut self.durable, op);
                }
            }
            op => self.unsynced.push(op),
        }
    }

    /// Operations of which a crash now may leave anything or nothing.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The disk after a crash now.
    pub(crate) fn crash(
        &self,
        unsynced: Unsynced,
        rng: &mut SmallRng,
        chance: &mut Chance,
    ) -> Vec<u8> {
        let mut image = self.durable.clone();
        match unsynced {
            Unsynced::Lost => {}
            Unsynced::Kept => {
                for op in &self.unsynced {
                    apply(&mut image, op);
                }
            }
            Unsynced::Mixed => {
                for op in &self.unsynced {
                    apply_perhaps(&mut image, op, rng, chance);
                }
            }
        }
        image
    }
}

fn apply_perhaps(image: &mut Vec<u8>, op: &Op, rng: &mut SmallRng, chance: &mut Chance) {
    match (rng.random_range(0..3), op) {
        (0, _) => chance.lost += 1,
        (1, Op::Write(offset, data)) if data.len() > SECTOR => {
            chance.torn += 1;
            let cut = SECTOR * rng.random_range(1..data.len().div_ceil(SECTOR));
            let at = usize::try_from(*offset).unwrap();
            if rng.random() {
                write(image, at, &data[..cut]);
            } else {
                write(image, at + cut, &data[cut..]);
            }
        }
        _ => {
            chance.kept += 1;
            apply(image, op);
        }
    }
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => write(image, usize::try_from(*offset).unwrap(), data),
        Op::SetLen(len) => set_len(image, *len),
        Op::Sync => {}
    }
}

fn write(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(data);
}

fn set_len(image: &mut Vec<u8>, len: u64) {
    image.resize(usize::try_from(len).unwrap(), 0);
}
