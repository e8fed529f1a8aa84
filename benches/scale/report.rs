//! Goals, figures, and whether the ones were reached by the others.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Result;

/// What a figure is counted in.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Milliseconds,
    BytesPerSecond,
    Microseconds,
    Times,
    Count,
}

impl Unit {
    fn key(self) -> &'static str {
        match self {
            Self::Milliseconds => "_ms",
            Self::BytesPerSecond => "_bytes_per_s",
            Self::Microseconds => "_us",
            Self::Times => "_ratio",
            Self::Count => "",
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::BytesPerSecond => format!("{value:.0} B/s"),
            Self::Microseconds => format!("{value:.2} µs"),
            Self::Times => format!("{value:.2} ×"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// One number, and the greatest it may be if it is a goal.
struct Figure {
    name: String,
    value: f64,
    unit: Unit,
    goal: Option<f64>,
}

/// What a scenario found.
pub(crate) struct Outcome {
    nodes: usize,
    figures: Vec<Figure>,
    problem: Option<String>,
}

impl Outcome {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            figures: Vec::new(),
            problem: None,
        }
    }

    pub(crate) fn figure(mut self, name: impl Into<String>, value: f64, unit: Unit) -> Self {
        let name = name.into();
        self.figures.push(Figure {
            name,
            value,
            unit,
            goal: None,
        });
        self
    }

    /// A figure that must not exceed `most`.
    pub(crate) fn goal(self, name: impl Into<String>, value: f64, unit: Unit, most: f64) -> Self {
        let mut outcome = self.figure(name, value, unit);
        if let Some(last) = outcome.figures.last_mut() {
            last.goal = Some(most);
        }
        outcome
    }

    /// Why the goals are missed whatever the figures say.
    pub(crate) fn problem(mut self, what: impl Into<String>) -> Self {
        self.problem = Some(what.into());
        self
    }

    pub(crate) fn reached(&self) -> bool {
        let kept = |figure: &Figure| figure.goal.is_none_or(|most| figure.value <= most);
        self.problem.is_none() && self.figures.iter().all(kept)
    }

    pub(crate) fn json(&self, name: &str, seed: u64, wall: Duration) -> Value {
        let mut figures = Map::new();
        let mut goals = Map::new();
        for figure in &self.figures {
            let key = format!(
                "{}{}",
                figure.name.replace([' ', '-'], "_"),
                figure.unit.key()
            );
            if let Some(most) = figure.goal {
                goals.insert(key.clone(), json!(most));
            }
            figures.insert(key, json!(figure.value));
        }
        json!({
            "scenario": name,
            "nodes": self.nodes,
            "seed": seed,
            "goals": goals,
            "figures": figures,
            "problem": self.problem,
            "reached": self.reached(),
            "wall_s": wall.as_secs_f64(),
        })
    }

    pub(crate) fn row(&self, out: &mut impl Write, name: &str, wall: Duration) -> Result<()> {
        let text =
            |figure: &Figure, value: f64| format!("{} {}", figure.name, figure.unit.text(value));
        let goals = self.figures.iter().filter_map(|f| Some((f, f.goal?)));
        let goals: Vec<String> = goals.map(|(f, most)| text(f, most)).collect();
        let figures = self.figures.iter().map(|f| text(f, f.value));
        let figures: Vec<String> = figures.chain(self.problem.clone()).collect();
        let reached = if self.reached() { "yes" } else { "**no**" };
        writeln!(
            out,
            "| {name} | {} | {} | {} | {reached} | {:.0} s |",
            self.nodes,
            goals.join(", "),
            figures.join(", "),
            wall.as_secs_f64(),
        )?;
        Ok(())
    }
}

/// Head of the table.
pub(crate) fn header(out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "| scenario | nodes | at most | measured | reached | took |"
    )?;
    writeln!(out, "|---|---:|---|---|---|---:|")?;
    Ok(())
}
