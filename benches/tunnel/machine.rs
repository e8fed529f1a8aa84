//! What the machine gives: descriptors, and its processors, unless somebody else used them.

use std::fs;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;
use crate::process;

/// Above this share of the machine, in percent, a measurement is not to be trusted. What the
/// kernel's own threads do for a load counts as others' and stays below it: 0 to 2 in a calm run.
pub(crate) const DISTURBED: f64 = 5.0;
/// Descriptors of one end: three for each of ten thousand connections, and some.
const DESCRIPTORS: u64 = 32_768;
/// `USER_HZ`, the unit of `/proc/stat` on every Linux this runs on.
const TICKS: f64 = 100.0;

/// Lets children have as many descriptors as ten thousand connections need. As root the limit is
/// raised, otherwise as far as it goes.
pub(crate) fn raise_descriptors() -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    let all = now
        .maximum
        .map_or(DESCRIPTORS, |most| most.max(DESCRIPTORS));
    let wish = |most| Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, wish(Some(all)))
        .or_else(|_| setrlimit(Resource::Nofile, wish(now.maximum)))
        .map_err(Into::into)
}

/// The processors' time since it was started.
pub(crate) struct Meter {
    start: Instant,
    busy: f64,
    ours: f64,
}

impl Meter {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            start: Instant::now(),
            busy: busy()?,
            ours: ours()?,
        })
    }

    /// The share that went to others, in percent of all cores.
    pub(crate) fn others_percent(&self) -> Result<f64> {
        let cores = std::thread::available_parallelism()?.get();
        let all = self.start.elapsed().as_secs_f64() * f64::from(u32::try_from(cores)?);
        let others = (busy()? - self.busy) - (ours()? - self.ours);
        Ok((others / all * 100.0).max(0.0))
    }
}

/// Seconds in which some processor worked for anybody or was taken away (proc(5), `stat`).
fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [user, nice, system, _idle, _wait, irq, softirq, steal, ..] = fields[..] else {
        return Err("/proc/stat has fewer fields than known".into());
    };
    Ok((user + nice + system + irq + softirq + steal) / TICKS)
}

/// Seconds that this process, its running servers and tunnels, and its ended children worked.
fn ours() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses that may contain anything.
    let (_, fields) = stat
        .rsplit_once(')')
        .ok_or("/proc/self/stat without a name")?;
    // utime, stime, cutime and cstime are fields 14 to 17, and 3 is the first one here.
    let own: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(own / TICKS + process::running_cpu_seconds())
}
