//! The order in which everything runs: rounds, in each the groups, in each the loads, and each
//! load over every tunnel before the next load.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::load::{self, Group, Load};
use crate::machine::{DISTURBED, Meter};
use crate::options::Options;
use crate::peers::{Lineup, Peer, Tunnel};
use crate::place::Place;
use crate::process::{Process, interrupted};
use crate::servers::Servers;

/// A tunnel that carries nothing by then has failed. edgevpn needs up to 20 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the start of the last tunnel and the first load: probes of path and MTU are over.
const SETTLE: Duration = Duration::from_secs(1);

/// The measure of every load that says how much of the machine others used.
pub(crate) const OTHERS: &str = "others_percent";

/// How often a disturbed load runs with `--calm`.
const TRIES: usize = 5;

/// What was measured in one place.
#[derive(Default)]
pub(crate) struct Results {
    samples: BTreeMap<(&'static str, String), Vec<f64>>,
    /// What went wrong, with the tunnel's name. Such a measure is missing from its round.
    pub(crate) failures: Vec<(&'static str, String)>,
    /// Tunnels that cannot run in this place, and why.
    pub(crate) unfit: Vec<(&'static str, &'static str)>,
}

impl Results {
    /// A tunnel's values of a measure, one for each round that succeeded, ascending.
    pub(crate) fn values(&self, tunnel: &'static str, measure: &str) -> &[f64] {
        self.samples
            .get(&(tunnel, measure.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// Every tunnel and measure with its values.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &str, &[f64])> {
        self.samples
            .iter()
            .map(|((tunnel, measure), values)| (*tunnel, measure.as_str(), values.as_slice()))
    }

    fn add(&mut self, tunnel: &'static str, measure: String, value: f64) {
        let values = self.samples.entry((tunnel, measure)).or_default();
        values.push(value);
        values.sort_by(f64::total_cmp);
    }

    fn fail(&mut self, tunnel: &'static str, error: &dyn std::fmt::Display) {
        if interrupted() {
            return;
        }
        say(&format!("  {tunnel} FAILED: {error}"));
        self.failures.push((tunnel, error.to_string()));
    }
}

/// Everything that was asked for, in one place.
pub(crate) fn all(
    place: &Place,
    options: &Options,
    lineup: &Lineup,
    scratch: &Path,
) -> Result<Results> {
    let mut results = Results::default();
    let mut peers = Vec::new();
    for peer in &lineup.present {
        match peer.unfit(place, options) {
            Some(why) => results.unfit.push((peer.name, why)),
            None => peers.push(*peer),
        }
    }
    let scratch = scratch.join(place.name);
    std::fs::create_dir_all(&scratch)?;
    let servers = Servers::start(place, &scratch)?;
    for round in 0..options.rounds {
        for group in Group::ALL
            .iter()
            .filter(|group| options.wants_group(**group))
        {
            say(&format!(
                "{}, round {} of {}, {}",
                place.name,
                round + 1,
                options.rounds,
                group.name()
            ));
            let stage = Stage {
                place,
                group: *group,
                time: options.time,
                tries: if options.calm { TRIES } else { 1 },
                scratch: scratch.join(format!("{round}-{}", group.name())),
            };
            stage.run(&peers, &servers, &mut results)?;
        }
        peers.rotate_left(1);
    }
    Ok(results)
}

/// One group of loads in one round.
struct Stage<'a> {
    place: &'a Place,
    group: Group,
    time: Duration,
    tries: usize,
    scratch: std::path::PathBuf,
}

impl Stage<'_> {
    fn run(&self, peers: &[&'static Peer], servers: &Servers, results: &mut Results) -> Result<()> {
        let mut up = Vec::new();
        for peer in peers {
            match self.start(peer, servers) {
                Ok(tunnel) => up.push((peer.name, tunnel)),
                Err(error) => results.fail(peer.name, &error),
            }
            stop_if_interrupted()?;
        }
        std::thread::sleep(SETTLE);
        self.remember(&up, results, "idle_mib", |tunnel| {
            tunnel.over(Process::resident_mib, f64::max)
        });
        for load in load::ALL.iter().filter(|load| load.group == self.group) {
            for (name, tunnel) in &mut up {
                match self.calmest(load, tunnel) {
                    Ok(measures) => {
                        let (measure, value) = measures[0];
                        say(&format!("  {} over {name}: {value:.2} {measure}", load.key));
                        for (measure, value) in measures {
                            results.add(name, format!("{}.{measure}", load.key), value);
                        }
                    }
                    Err(error) => results.fail(name, &format!("{}: {error}", load.key)),
                }
                stop_if_interrupted()?;
            }
        }
        self.remember(&up, results, "peak_mib", |tunnel| {
            tunnel.over(Process::peak_mib, |sum, one| sum + one)
        });
        Ok(())
    }

    /// Notes the memory of every tunnel that has processes.
    fn remember(
        &self,
        up: &[(&'static str, Tunnel)],
        results: &mut Results,
        name: &str,
        measure: impl Fn(&Tunnel) -> Result<f64>,
    ) {
        let with_processes = up.iter().filter(|(_, tunnel)| !tunnel.processes.is_empty());
        for (tunnel_name, tunnel) in with_processes {
            match measure(tunnel) {
                Ok(mib) => results.add(tunnel_name, format!("{}.{name}", self.group.name()), mib),
                Err(error) => results.fail(tunnel_name, &error),
            }
        }
    }

    fn start(&self, peer: &Peer, servers: &Servers) -> Result<Tunnel> {
        let dir = self.scratch.join(peer.name);
        let mut tunnel = peer.start(self.place, servers.target(self.group), &dir)?;
        let entry = tunnel.entry;
        load::wait_for_answer(self.group, self.place, entry, &dir, PATIENCE, || {
            tunnel.check()
        })?;
        Ok(tunnel)
    }

    /// The first undisturbed measurement, else the least disturbed one.
    fn calmest(&self, load: &Load, tunnel: &mut Tunnel) -> Result<Vec<(&'static str, f64)>> {
        let others = |measures: &[(&str, f64)]| {
            let found = measures.iter().find(|(name, _)| *name == OTHERS);
            found.map_or(f64::MAX, |(_, percent)| *percent)
        };
        let mut best = self.measure(load, tunnel)?;
        for _ in 1..self.tries {
            if others(&best) <= DISTURBED {
                break;
            }
            let again = self.measure(load, tunnel)?;
            if others(&again) < others(&best) {
                best = again;
            }
        }
        Ok(best)
    }

    fn measure(&self, load: &Load, tunnel: &mut Tunnel) -> Result<Vec<(&'static str, f64)>> {
        tunnel.check()?;
        let sum = |sum, one| sum + one;
        let meter = Meter::start()?;
        let before = tunnel.over(Process::cpu_seconds, sum)?;
        let outcome = load.run(self.place, tunnel.entry, self.time, &self.scratch)?;
        let spent = tunnel.over(Process::cpu_seconds, sum)? - before;
        tunnel.check()?;
        let mut measures = outcome.measures;
        measures.push((OTHERS, meter.others_percent()?));
        if outcome.keeper.is_some() && !tunnel.processes.is_empty() {
            std::thread::sleep(SETTLE);
            tunnel.check()?;
            measures.push(("rss_mib", tunnel.over(Process::resident_mib, sum)?));
            measures.push(("larger_mib", tunnel.over(Process::resident_mib, f64::max)?));
            measures.push(("pss_mib", tunnel.over(Process::proportional_mib, sum)?));
        }
        if let Some((name, work)) = outcome.work
            && !tunnel.processes.is_empty()
        {
            if work <= 0.0 {
                return Err("nothing came through".into());
            }
            measures.push((name, spent / work));
        }
        Ok(measures)
    }
}

fn stop_if_interrupted() -> Result<()> {
    if interrupted() {
        return Err("interrupted".into());
    }
    Ok(())
}

/// Progress, on standard error. Nobody may be listening.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
