//! A crash at every operation of the disk: the store opens again, holds what it had acknowledged,
//! holds every transaction wholly or not at all, and the mesh gives back the rest.
//!
//! A life of the store is recorded on a disk in memory. Each prefix of its operations is a crash;
//! what was not synced by then is lost, kept, or each write by itself kept, lost or torn. What
//! opening such a disk does to it is recorded too, and crashes in turn.
//!
//! `WARREN_LONG=1` takes every point many times over, and not a few hundred of them.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "crash_points/disk.rs"]
mod disk;
#[path = "crash_points/mesh.rs"]
mod mesh;
#[path = "crash_points/story.rs"]
mod story;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Runtime};

use disk::{Chance, Disk, Op, Replay, Unsynced};
use story::{Held, Recording, Session, Step, before_floors, check_floors, meta, put, tell, voids};

/// How much of all that could happen is tried.
struct Effort {
    /// One in so many points of the story, besides those around a sync.
    every: usize,
    /// Mixed images of each point.
    mixed: usize,
    /// One in so many crashes is followed by one while its damage is repaired.
    again: usize,
}

impl Effort {
    fn of_this_run() -> Self {
        if std::env::var_os("WARREN_LONG").is_some_and(|value| value == "1") {
            Self {
                every: 1,
                mixed: 12,
                again: 2,
            }
        } else {
            Self {
                every: 3,
                mixed: 1,
                again: 16,
            }
        }
    }
}

/// What was seen, over all crashes.
#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    in_repair: u64,
    /// Something begun and not acknowledged was there.
    more: u64,
    /// Nothing of what was begun and not acknowledged was there.
    less: u64,
    /// Floors were there.
    floors: u64,
    chance: Chance,
}

impl Seen {
    fn assert_everything_happened(&self) {
        println!("{self:?}");
        let Chance { kept, lost, torn } = self.chance;
        assert!(self.crashes > 200 && self.in_repair > 20, "{self:?}");
        assert!(self.more > 10 && self.less > 10, "{self:?}");
        assert!(self.floors > 20, "{self:?}");
        assert!(kept.min(lost).min(torn) > 20, "{self:?}");
    }
}

struct Check<'a> {
    runtime: &'a Runtime,
    rng: SmallRng,
    seen: Seen,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

impl<'a> Check<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        Self {
            runtime,
            rng: SmallRng::seed_from_u64(11),
            seen: Seen::default(),
        }
    }

    /// Opens `image`, which a crash before operation `point` left, compares, and uses the store.
    fn recover(
        &mut self,
        recording: &Recording,
        point: usize,
        image: Vec<u8>,
    ) -> Result<(Held, Recording), String> {
        self.seen.crashes += 1;
        let possible = recording.possible(point);
        let disk = Disk::new(image.clone());
        let mut session = Session::open(self.runtime, &disk, 0)?;
        let boot = session.held().boot;
        let found = Held {
            boot: boot - 1,
            ..session.held().clone()
        };
        check_floors(&found)?;
        self.seen.floors += u64::from(!found.floors.is_empty());
        let Some(which) = possible.iter().position(|step| step.held == found) else {
            return Err(difference(possible, &found));
        };
        if possible.len() > 1 {
            let seen = &mut self.seen;
            *(if which == 0 {
                &mut seen.less
            } else {
                &mut seen.more
            }) += 1;
        }
        session.commit(vec![vec![put(1, "after", 50, 3_000), put(1, "own", 51, 9)]]);
        let mut steps = vec![Step {
            begun: 0,
            acknowledged: 0,
            held: found.clone(),
        }];
        steps.extend(session.close());
        let ops = disk.ops();
        let rows = [("boot".to_owned(), boot), ("schema".to_owned(), 4)];
        let meta = meta(&disk);
        if meta != BTreeMap::from(rows) {
            return Err(format!("meta holds {meta:?}, the boot is {boot}"));
        }
        let base = image;
        Ok((found, Recording { base, ops, steps }))
    }

    /// Crashes while the damage of a crash is repaired, at about one point in eight.
    fn crash_again(&mut self, repair: &Recording) -> Result<(), String> {
        let mut replay = Replay::new(&repair.base);
        for (point, op) in repair.ops.iter().enumerate() {
            if self.rng.random_range(0..8) == 0 {
                let image = replay.crash(Unsynced::Mixed, &mut self.rng, &mut self.seen.chance);
                self.seen.in_repair += 1;
                self.recover(repair, point, image)
                    .map_err(|error| format!("operation {point} of the repair: {error}"))?;
            }
            replay.step(op);
        }
        Ok(())
    }
}

/// What was found, for people, beside what may be there.
fn difference(possible: &[Step], found: &Held) -> String {
    let (first, last) = (&possible[0].held, &possible[possible.len() - 1].held);
    let keys = |held: &Held| -> BTreeSet<String> {
        let entries = held.ledger.values();
        entries
            .map(|e| format!("{}@{}", e.slot.key, e.version))
            .collect()
    };
    format!(
        "found none of {} states: boot {} of {}..={}, lost entries {:?}, foreign entries {:?}, \
         floors {:?}, counts {:?}, {} peers, knocks {:?}, roles {:?}, {} machines",
        possible.len(),
        found.boot,
        first.boot,
        last.boot,
        &keys(first) - &keys(found),
        &keys(found) - &keys(last),
        found.floors.values().map(|f| f.floor).collect::<Vec<_>>(),
        found.counts.values(),
        found.peers.len(),
        found.knocks,
        found.roles.keys(),
        found.machines.len(),
    )
}

/// What a mesh holds in which nothing was lost: each author's greatest floor there ever was, and
/// of each slot the newest entry that no floor voids.
fn everything(recording: &Recording) -> Held {
    let mut all = Held::default();
    for held in recording.steps.iter().map(|step| &step.held) {
        for (author, floor) in &held.floors {
            let known = all.floors.entry(*author).or_insert(*floor);
            if floor.floor > known.floor {
                *known = *floor;
            }
        }
        for (slot, entry) in &held.ledger {
            let newest = all.ledger.entry(slot.clone()).or_insert(entry.clone());
            if entry.version > newest.version {
                *newest = entry.clone();
            }
        }
    }
    let floors = &all.floors;
    all.ledger.retain(|slot, entry| {
        let floor = floors.get(&slot.author);
        floor.is_none_or(|floor| !voids(floor, entry))
    });
    all
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    let effort = Effort::of_this_run();
    let runtime = runtime();
    let recording = tell(&runtime);
    let mut check = Check::new(&runtime);
    let everything = everything(&recording);
    let mut converged: Vec<Held> = Vec::new();
    let mut replay = Replay::new(&recording.base);
    let end = recording.ops.len();
    for point in 0..=end {
        let is_sync = recording
            .ops
            .get(point)
            .is_none_or(|op| matches!(op, Op::Sync));
        if point % effort.every == 0 || is_sync {
            // With nothing under way all images are one.
            let images = if replay.unsynced() == 0 {
                1
            } else {
                2 + effort.mixed
            };
            for n in 0..images {
                let how = [Unsynced::Lost, Unsynced::Kept][..]
                    .get(n)
                    .copied()
                    .unwrap_or(Unsynced::Mixed);
                let said = |error| format!("operation {point} of {end}, {how:?} {n}: {error}");
                let image = replay.crash(how, &mut check.rng, &mut check.seen.chance);
                let recovered = check.recover(&recording, point, image);
                let (found, repair) = recovered.map_err(said).unwrap();
                if !converged.contains(&found) {
                    mesh::converges(&found, &everything).map_err(said).unwrap();
                    converged.push(found);
                }
                if check.rng.random_range(0..effort.again) == 0 {
                    check.crash_again(&repair).map_err(said).unwrap();
                }
            }
        }
        if let Some(op) = recording.ops.get(point) {
            replay.step(op);
        }
    }
    println!("{end} operations, {} steps", recording.steps.len());
    check.seen.assert_everything_happened();
}

#[test]
fn a_crash_while_a_database_of_schema_1_is_upgraded_loses_nothing() {
    let runtime = runtime();
    let (base, held) = before_floors(&runtime);
    let disk = Disk::new(base.clone());
    let upgraded = Session::open(&runtime, &disk, 0).unwrap();
    let mut steps = vec![Step {
        begun: 0,
        acknowledged: 0,
        held,
    }];
    steps.extend(upgraded.close());
    let ops = disk.ops();
    let recording = Recording { base, ops, steps };
    let mut check = Check::new(&runtime);
    let mut replay = Replay::new(&recording.base);
    for point in 0..=recording.ops.len() {
        for how in [Unsynced::Lost, Unsynced::Kept, Unsynced::Mixed] {
            let image = replay.crash(how, &mut check.rng, &mut check.seen.chance);
            let recovered = check.recover(&recording, point, image);
            recovered
                .map_err(|error| format!("operation {point}, {how:?}: {error}"))
                .unwrap();
        }
        if let Some(op) = recording.ops.get(point) {
            replay.step(op);
        }
    }
    println!("{:?}", check.seen);
    assert!(check.seen.more > 0 && check.seen.less > 0);
}

/// A disk whose sync does nothing: what the checks above are worth.
#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let runtime = runtime();
    let mut recording = tell(&runtime);
    // Operations keep their numbers, so that acknowledgements keep their places.
    for op in &mut recording.ops {
        if matches!(op, Op::Sync) {
            *op = Op::Write(0, Vec::new());
        }
    }
    let mut check = Check::new(&runtime);
    let mut replay = Replay::new(&recording.base);
    let mut found_out = 0;
    for (point, op) in recording.ops.iter().enumerate() {
        if point % 40 == 39 {
            let image = replay.crash(Unsynced::Lost, &mut check.rng, &mut check.seen.chance);
            found_out += u64::from(check.recover(&recording, point, image).is_err());
        }
        replay.step(op);
    }
    assert!(found_out > 2, "{found_out}");
    assert!(found_out * 2 > check.seen.crashes, "{found_out}");
}
