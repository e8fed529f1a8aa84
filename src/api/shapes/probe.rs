//! What `iptable probe --json` and `POST /v1/iptable/probe` say line by line.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::NodeError;
use super::ip_table::{control_free, method_word, source_word};
use crate::mesh::ip_table::{HostError, Measured, Place, State};
use crate::mesh::probe::{Found, Undecided, Verdict};
use crate::service::ip_table::{ProbeOptions, Probed};

/// Most machines that are named at once.
const MAX_NAMED: usize = 10_000;
/// Most servers asked at once: each takes a file descriptor.
const MAX_AT_ONCE: usize = 1_000;
/// Longest deadline.
const MAX_DEADLINE: Duration = Duration::from_secs(3600);

/// Body of `POST /v1/iptable/probe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeRequest {
    /// `HOST`, `HOST:PORT` or `[V6]:PORT`; all machines but the node itself if there are none.
    pub addresses: Vec<String>,
    /// Everything is reported after so many milliseconds.
    pub deadline_ms: u64,
    /// Servers asked at once.
    pub at_once: usize,
    /// Whether only round trips are measured.
    pub latency_only: bool,
}

impl Default for ProbeRequest {
    fn default() -> Self {
        let defaults = ProbeOptions::default();
        Self {
            addresses: Vec::new(),
            deadline_ms: u64::try_from(defaults.deadline.as_millis()).unwrap_or(u64::MAX),
            at_once: defaults.at_once,
            latency_only: defaults.latency_only,
        }
    }
}

impl ProbeRequest {
    /// What it asks for.
    ///
    /// # Errors
    /// `usage` for what is no address, and outside the bounds.
    pub fn options(&self) -> Result<ProbeOptions, NodeError> {
        let usage = |message: String| Err(NodeError::new("usage", message));
        let deadline = Duration::from_millis(self.deadline_ms);
        if deadline.is_zero() || deadline > MAX_DEADLINE {
            let most = MAX_DEADLINE.as_secs();
            return usage(format!("a probe takes from 1 ms to {most} s"));
        }
        if self.at_once == 0 || self.at_once > MAX_AT_ONCE {
            return usage(format!("1 to {MAX_AT_ONCE} machines are asked at once"));
        }
        if self.addresses.len() > MAX_NAMED {
            return usage(format!("at most {MAX_NAMED} machines are named at once"));
        }
        let places = self.addresses.iter().map(|text| {
            text.parse::<Place>().map_err(|error: HostError| {
                NodeError::new("usage", format!("address {text:?}: {error}"))
            })
        });
        Ok(ProbeOptions {
            places: places.collect::<Result<_, _>>()?,
            deadline,
            at_once: self.at_once,
            latency_only: self.latency_only,
        })
    }
}

/// One line of the answer to a [`ProbeRequest`]: how many there are, each machine as soon as what
/// came of it is on disk, then one of the others, last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeLine {
    /// It has begun.
    Probing(ProbeStart),
    /// What came of one machine.
    Machine(MachineProbed),
    /// Every machine was reported.
    Done(ProbeDone),
    /// It broke off.
    Error(NodeError),
}

impl ProbeLine {
    /// Writes it as a line of JSON without control characters.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        control_free(out, self)?;
        out.write_all(b"\n")
    }
}

/// How many machines are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStart {
    /// So many lines follow before the last.
    pub machines: usize,
}

/// What came of the machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeDone {
    /// All.
    pub machines: usize,
    /// Those that answered.
    pub answered: usize,
    /// Those that did not, while this machine was online.
    pub missed: usize,
    /// Those of which nothing is known.
    pub undecided: usize,
}

impl ProbeDone {
    /// Counts one machine more.
    pub fn count(&mut self, outcome: ProbeOutcome) {
        self.machines += 1;
        *match outcome {
            ProbeOutcome::Answered => &mut self.answered,
            ProbeOutcome::Missed => &mut self.missed,
            ProbeOutcome::Undecided => &mut self.undecided,
        } += 1;
    }
}

/// Whether a machine answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeOutcome {
    /// It did.
    Answered,
    /// It did not, and this machine was online.
    Missed,
    /// Nothing is known: what the table says of it stays.
    Undecided,
}

/// What came of one machine. What was not measured this time is null, never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineProbed {
    /// `HOST:PORT`.
    pub address: String,
    /// What it is called; empty where nobody said.
    pub name: String,
    /// Whether it answered.
    pub outcome: ProbeOutcome,
    /// Why not; null if it did.
    pub reason: Option<String>,
    /// How it was asked: `link` or `p2prc`.
    pub method: String,
    /// Least round trip in milliseconds.
    pub latency_ms: Option<f64>,
    /// Median round trip in milliseconds.
    pub median_ms: Option<f64>,
    /// Mbit/s (10⁶ bits) from there.
    pub download_mbps: Option<f64>,
    /// Why the download was not measured at a machine that answered.
    pub download_reason: Option<String>,
    /// Mbit/s to there.
    pub upload_mbps: Option<f64>,
    /// Why the upload was not measured at a machine that answered.
    pub upload_reason: Option<String>,
    /// What the table says of it now.
    pub state: State,
    /// Tries that failed since it last answered.
    pub misses: u32,
    /// `configured`, `imported` or `learnt`.
    pub source: String,
}

impl From<&Probed> for MachineProbed {
    fn from(probed: &Probed) -> Self {
        let Probed {
            row,
            method,
            verdict,
        } = probed;
        let (outcome, reason) = match verdict {
            Verdict::Answered(_) => (ProbeOutcome::Answered, None),
            Verdict::Missed(miss) => (ProbeOutcome::Missed, Some(miss.to_string())),
            Verdict::Undecided(why) => (ProbeOutcome::Undecided, Some(undecided(why))),
        };
        let mut line = Self {
            address: row.place.to_string(),
            name: row.name.clone(),
            outcome,
            reason,
            method: method_word(*method).to_owned(),
            latency_ms: None,
            median_ms: None,
            download_mbps: None,
            download_reason: None,
            upload_mbps: None,
            upload_reason: None,
            state: row.state(),
            misses: row.misses.count,
            source: source_word(row.source),
        };
        if let Verdict::Answered(found) = verdict {
            line.measured(found, &Measured::of(&found.measurement(), *method, 0));
        }
        line
    }
}

impl MachineProbed {
    fn measured(&mut self, found: &Found, kept: &Measured) {
        use crate::mesh::ip_table::{Latency, Speed};
        self.latency_ms = kept.least.map(Latency::as_ms);
        self.median_ms = kept.median.map(Latency::as_ms);
        self.download_mbps = kept.download.map(Speed::as_mbps);
        self.upload_mbps = kept.upload.map(Speed::as_mbps);
        self.download_reason = found.download.as_ref().err().map(ToString::to_string);
        self.upload_reason = found.upload.as_ref().err().map(ToString::to_string);
    }
}

fn undecided(why: &Undecided) -> String {
    match why {
        Undecided::Forbidden => {
            "another node told of it, and it is not an address of the internet; name it to probe it"
                .to_owned()
        }
        why => why.to_string(),
    }
}
