//! The same measurements for every candidate: what idleness, an entry, a goodbye and a death cost.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::Result;
use crate::candidate::Candidate;
use crate::swim::{Swim, Tuning};
use crate::tree::Tree;
use crate::world::{Micros, SECOND};

/// A protocol with its settings.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Swim(Tuning),
    Tree,
}

pub(crate) const PROTOCOLS: [Protocol; 3] = [
    Protocol {
        name: "foca, LAN",
        kind: Kind::Swim(Tuning::Lan),
    },
    Protocol {
        name: "foca, fast",
        kind: Kind::Swim(Tuning::Fast),
    },
    Protocol {
        name: "iroh-gossip",
        kind: Kind::Tree,
    },
];

/// How much of everything is measured at one size of the mesh.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Meshes built anew, each with its own seed.
    meshes: u64,
    /// Nodes killed in each mesh, and as many leave.
    deaths: usize,
    /// Entries published in each mesh.
    entries: usize,
    /// Time in which nothing happens but loss, in each mesh.
    quiet: Micros,
}

pub(crate) const FULL: &[Plan] = &[
    plan(10, 40, 1, 2, 90),
    plan(20, 20, 2, 4, 180),
    plan(100, 6, 8, 16, 600),
    plan(1_000, 1, 30, 12, 240),
];

/// `--quick`: less of it, and not the largest.
pub(crate) const QUICK: &[Plan] = &[
    plan(10, 20, 1, 2, 60),
    plan(20, 10, 2, 2, 60),
    plan(100, 2, 8, 8, 120),
];

const fn plan(nodes: usize, meshes: u64, deaths: usize, entries: usize, quiet: Micros) -> Plan {
    Plan {
        nodes,
        meshes,
        deaths,
        entries,
        quiet: quiet * SECOND,
    }
}

/// What was measured: times in seconds, sorted; an event somebody never noticed counts as missed.
#[derive(Default)]
struct Figures {
    idle: Spending,
    entry: Spending,
    entry_s: Vec<f64>,
    left_s: Vec<f64>,
    killed_s: Vec<f64>,
    missed_entries: usize,
    missed_leaves: usize,
    missed_deaths: usize,
    mistakes: usize,
    lived: Micros,
    lost: u64,
    overlay: Value,
}

/// Bytes per node, and per second or per entry.
#[derive(Default)]
struct Spending {
    bytes: f64,
    of: f64,
}

impl Spending {
    fn mean(&self) -> f64 {
        self.bytes / self.of
    }
}

/// Until the start of a mesh is forgotten.
const WARM_UP: Micros = 20 * SECOND;
/// Entries before the first that counts: a broadcast tree takes its shape by them.
const FIRST_ENTRIES: usize = 5;
/// How long an entry or a goodbye may take, and what is charged to an entry.
const NEWS: Micros = 6 * SECOND;
/// How long a death may take.
const DEATH: Micros = 30 * SECOND;
/// After everybody has noticed a death, before the next begins.
const AFTER: Micros = 4 * SECOND;

/// Runs a plan and gives one row of the report.
pub(crate) fn measure(protocol: Protocol, plan: Plan, loss: f64) -> Result<Value> {
    let mut figures = Figures::default();
    for mesh in 0..plan.meshes {
        let seed = (plan.nodes as u64) << 16 | mesh;
        match protocol.kind {
            Kind::Swim(tuning) => run(
                &mut Swim::new(tuning, plan.nodes, seed, loss)?,
                plan,
                seed,
                &mut figures,
            )?,
            Kind::Tree => run(
                &mut Tree::new(plan.nodes, seed, loss)?,
                plan,
                seed,
                &mut figures,
            )?,
        }
    }
    if loss > 0.0 && figures.lost == 0 {
        return Err("loss had no effect".into());
    }
    Ok(figures.row(protocol, plan, loss))
}

fn run(mesh: &mut impl Candidate, plan: Plan, seed: u64, figures: &mut Figures) -> Result<()> {
    let mut rng = SmallRng::seed_from_u64(!seed);
    mesh.run(WARM_UP)?;
    for _ in 0..FIRST_ENTRIES {
        mesh.publish(pick(mesh, &mut rng))?;
        mesh.run(NEWS)?;
    }
    let (start, mistakes) = (mesh.now(), mesh.watch().mistakes());
    let nodes = plan.nodes as f64;

    let (bytes, said) = (mesh.network().bytes, mesh.network().said());
    mesh.run(plan.quiet)?;
    let idle = (mesh.network().bytes - bytes) as f64 / nodes;
    let idle_said = (mesh.network().said() - said) as f64 / nodes;
    let seconds = plan.quiet as f64 / SECOND as f64;
    figures.idle.bytes += idle;
    figures.idle.of += seconds;

    for _ in 0..plan.entries {
        let node = pick(mesh, &mut rng);
        let now = mesh.now();
        mesh.watch().begin(now, None);
        let before = mesh.network().said();
        mesh.publish(node)?;
        mesh.run(NEWS)?;
        let spent = (mesh.network().said() - before) as f64 / nodes;
        // Links' pings that an entry makes needless are not set against it.
        figures.entry.bytes += spent - idle_said / seconds * (NEWS as f64 / SECOND as f64);
        figures.entry.of += 1.0;
        note(mesh, &mut figures.entry_s, &mut figures.missed_entries);
    }
    for _ in 0..plan.deaths {
        let node = pick(mesh, &mut rng);
        let now = mesh.now();
        mesh.watch().begin(now, Some(node));
        mesh.leave(node)?;
        mesh.run(NEWS)?;
        note(mesh, &mut figures.left_s, &mut figures.missed_leaves);
        death(mesh, &mut rng, figures)?;
    }
    figures.mistakes += mesh.watch().mistakes() - mistakes;
    figures.lived += mesh.now() - start;
    figures.lost += mesh.network().lost;
    figures.overlay = mesh.overlay().map_or(Value::Null, |overlay| {
        json!({
            "fewest_neighbours": overlay.fewest,
            "mean_neighbours": overlay.mean,
            "parts": overlay.parts,
        })
    });
    Ok(())
}

/// Kills a node and waits until all have noticed.
fn death(mesh: &mut impl Candidate, rng: &mut SmallRng, figures: &mut Figures) -> Result<()> {
    let node = pick(mesh, rng);
    // Not at the same place in everybody's period each time.
    mesh.run(rng.random_range(0..SECOND))?;
    let now = mesh.now();
    mesh.watch().begin(now, Some(node));
    mesh.kill(node);
    let noticed = |mesh: &mut dyn Candidate| {
        let living = living(mesh);
        mesh.watch().took(living.into_iter()).is_some()
    };
    while mesh.now() < now + DEATH && !noticed(mesh) {
        mesh.run(SECOND)?;
    }
    note(mesh, &mut figures.killed_s, &mut figures.missed_deaths);
    mesh.run(AFTER)
}

fn living(mesh: &dyn Candidate) -> Vec<usize> {
    let alive = mesh.alive();
    (0..alive.len()).filter(|&node| alive[node]).collect()
}

fn pick(mesh: &dyn Candidate, rng: &mut SmallRng) -> usize {
    let living = living(mesh);
    living[rng.random_range(0..living.len())]
}

/// Takes down how long it took, or that somebody has not noticed.
fn note(mesh: &mut dyn Candidate, times: &mut Vec<f64>, missed: &mut usize) {
    let living = living(mesh);
    match mesh.watch().took(living.into_iter()) {
        Some(took) => times.push(took as f64 / SECOND as f64),
        None => *missed += 1,
    }
}

impl Figures {
    fn row(mut self, protocol: Protocol, plan: Plan, loss: f64) -> Value {
        let hours = self.lived as f64 / (3_600.0 * SECOND as f64);
        json!({
            "protocol": protocol.name,
            "nodes": plan.nodes,
            "loss": loss,
            "idle_bytes_per_s": self.idle.mean(),
            "entry_bytes": self.entry.mean(),
            "entry_s": summary(&mut self.entry_s, self.missed_entries),
            "left_s": summary(&mut self.left_s, self.missed_leaves),
            "killed_s": summary(&mut self.killed_s, self.missed_deaths),
            "mistakes": self.mistakes,
            "simulated_hours": hours,
            "mistakes_per_hour": self.mistakes as f64 / hours,
            "overlay": self.overlay,
        })
    }
}

/// Of the events that all noticed, and how many were not noticed by all.
fn summary(times: &mut [f64], missed: usize) -> Value {
    times.sort_by(f64::total_cmp);
    // The nearest rank: of fewer than a hundred the 99th percentile is the largest.
    let rank = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index)
    };
    json!({
        "p50": rank(50),
        "p99": rank(99),
        "max": times.last(),
        "of": times.len() + missed,
        "missed": missed,
    })
}
