//! What a person sees of a probe: a table that grows, with the progress above it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::time::Instant;
use warren::api::shapes::{MachineProbed, ProbeDone, ProbeOutcome};
use warren::clock;
use warren::mesh::ip_table::State;

use crate::cli::fail::Failure;
use crate::cli::output::{Output, Table, Tone, plain};
use crate::cli::progress::Bar;
use crate::cli::redraw::Redraw;

/// How often the table is drawn again.
const FRAME: Duration = Duration::from_millis(100);
/// Most machines that are laid out for a table that is drawn again in a moment.
const LIVE_ROWS: usize = 200;
/// Characters of the progress bar.
const BAR_WIDTH: usize = 24;

/// The machines reported so far, and where they are drawn.
pub(super) struct Screen {
    /// Where the table is drawn while it grows; else progress is shown, if anybody sees it.
    place: Option<Redraw>,
    bar: Bar,
    machines: Vec<MachineProbed>,
    count: usize,
    began: Instant,
    due: Instant,
}

impl Screen {
    pub(super) fn new(live: bool) -> Result<Self, Failure> {
        let began = clock::instant();
        Ok(Self {
            place: live.then(Redraw::default),
            bar: Bar::new("probing", !live && io::stderr().is_terminal())?,
            machines: Vec::new(),
            count: 0,
            began,
            due: began + FRAME,
        })
    }

    /// When to call [`Screen::draw`].
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn start(&mut self, machines: usize) {
        self.count = machines;
        self.bar.start(machines);
    }

    pub(super) fn take(&mut self, machine: MachineProbed) {
        self.machines.push(machine);
        self.bar.step();
    }

    pub(super) fn draw(&mut self) -> Result<(), Failure> {
        self.due = clock::instant() + FRAME;
        if self.place.is_none() {
            return Ok(());
        }
        sort(&mut self.machines);
        let mut text = self.progress();
        if !self.machines.is_empty() {
            let shown = self.machines.len().min(LIVE_ROWS);
            text.push('\n');
            text.push_str(&table(&self.machines[..shown]).render(true));
            // No terminal has that many lines; they only have to be counted.
            text.push_str(&"\n-".repeat(self.machines.len() - shown));
        }
        if let Some(place) = &mut self.place {
            place.draw(&text)?;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        self.bar.clear();
        match &mut self.place {
            Some(place) => Ok(place.draw("")?),
            None => Ok(()),
        }
    }

    /// The whole table, which may be longer than the terminal.
    pub(super) fn end(&mut self, output: Output, done: ProbeDone) -> Result<(), Failure> {
        self.clear()?;
        sort(&mut self.machines);
        output.table(table(&self.machines))?;
        if done.machines == 0 {
            return Ok(());
        }
        let mut text = format!("{} answered, {} did not", done.answered, done.missed);
        if done.undecided > 0 {
            text.push_str(&format!(", nothing is known of {}", done.undecided));
        }
        let took = self.began.elapsed().as_secs_f64();
        output.line(format!("{text}; {took:.1} s"))
    }

    fn progress(&self) -> String {
        let done = self.machines.len();
        let full = (done * BAR_WIDTH).checked_div(self.count).unwrap_or(0);
        let full = full.min(BAR_WIDTH);
        format!(
            "probing {}{} {done}/{}  {:.1} s",
            "█".repeat(full),
            "░".repeat(BAR_WIDTH - full),
            self.count,
            self.began.elapsed().as_secs_f64()
        )
    }
}

/// Nearest first, then those of which nothing is known, then those that did not answer.
fn sort(machines: &mut [MachineProbed]) {
    let group = |one: &MachineProbed| match one.outcome {
        ProbeOutcome::Answered => 0,
        ProbeOutcome::Undecided => 1,
        ProbeOutcome::Missed => 2,
    };
    let near = |one: &MachineProbed| one.latency_ms.unwrap_or(f64::INFINITY);
    machines.sort_by(|a, b| {
        let order = group(a).cmp(&group(b)).then(near(a).total_cmp(&near(b)));
        order.then_with(|| a.address.cmp(&b.address))
    });
}

fn table(machines: &[MachineProbed]) -> Table {
    Table {
        header: &[
            "name",
            "address",
            "latency ms",
            "down mbit/s",
            "up mbit/s",
            "state",
            "why",
        ],
        rows: machines.iter().map(row).collect(),
        empty: "no machines",
    }
}

fn row(one: &MachineProbed) -> Vec<(String, Tone)> {
    let figure = |value: Option<f64>| match value {
        Some(value) => (format!("{value:.1}"), Tone::Plain),
        None => ("-".to_owned(), Tone::Faint),
    };
    let latency = match one.latency_ms {
        // Tenths tell nothing on a LAN.
        Some(ms) if ms < 10.0 => (format!("{ms:.2}"), Tone::Plain),
        other => figure(other),
    };
    let state = match (one.state, one.misses) {
        (State::Reachable, _) => ("reachable".to_owned(), Tone::Good),
        (State::Suspect, misses) => (format!("suspect ({misses})"), Tone::Bad),
        (State::Unreachable, misses) => (format!("unreachable ({misses})"), Tone::Bad),
        (State::Unknown, _) => ("unknown".to_owned(), Tone::Faint),
    };
    vec![
        plain(&one.name),
        plain(&one.address),
        latency,
        figure(one.download_mbps),
        figure(one.upload_mbps),
        state,
        (why(one), Tone::Faint),
    ]
}

/// Why a machine was not reached, or what was not measured at one that was.
fn why(one: &MachineProbed) -> String {
    if let Some(reason) = &one.reason {
        return reason.clone();
    }
    let parts = [
        ("download", &one.download_reason),
        ("upload", &one.upload_reason),
    ];
    let asked = parts.into_iter().filter_map(|(what, reason)| {
        let reason = reason.as_ref().filter(|reason| *reason != NOT_ASKED)?;
        Some(format!("{what}: {reason}"))
    });
    asked.collect::<Vec<_>>().join("; ")
}

/// What `--latency-only` leaves out needs no reason.
const NOT_ASKED: &str = "not asked for";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine(address: &str, outcome: &str, latency_ms: Option<f64>) -> MachineProbed {
        serde_json::from_value(json!({
            "address": address, "name": "", "outcome": outcome, "reason": null, "method": "p2prc",
            "latency_ms": latency_ms, "median_ms": null,
            "download_mbps": null, "download_reason": "not offered (status 404)",
            "upload_mbps": null, "upload_reason": NOT_ASKED,
            "state": "unknown", "misses": 0, "source": "imported",
        }))
        .unwrap()
    }

    #[test]
    fn the_nearest_is_first_and_who_did_not_answer_last() {
        let mut machines = vec![
            machine("a:1", "missed", None),
            machine("b:1", "undecided", None),
            machine("c:1", "answered", None),
            machine("d:1", "answered", Some(70.0)),
            machine("e:1", "answered", Some(9.5)),
        ];
        sort(&mut machines);
        let order: String = machines.iter().map(|one| &one.address[..1]).collect();
        assert_eq!(order, "edcba");
    }

    #[test]
    fn what_was_asked_for_and_not_measured_has_its_reason() {
        let text = why(&machine("a:1", "answered", None));
        assert_eq!(text, "download: not offered (status 404)");
        let mut shown = Screen::new(false).unwrap();
        shown.start(4);
        shown.take(machine("a:1", "missed", None));
        let progress = shown.progress();
        assert!(
            progress.contains("██████░░░") && progress.contains(" 1/4 "),
            "{progress}"
        );
    }
}
