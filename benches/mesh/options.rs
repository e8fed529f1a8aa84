//! What the command line asks for.

use std::time::Duration;

use crate::Result;

/// The settings of a run; `benches/mesh.rs` says what each means.
pub(crate) struct Options {
    pub(crate) json: bool,
    pub(crate) rounds: usize,
    pub(crate) idle: Duration,
    /// Sizes of the networks whose traffic is measured.
    pub(crate) traffic: Vec<usize>,
    pub(crate) crowd: Option<usize>,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            json: false,
            rounds: 11,
            idle: Duration::from_secs(30),
            traffic: Vec::new(),
            crowd: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--idle" => options.idle = Duration::from_secs(value()?.parse::<u64>()?.max(1)),
                "--traffic" => options.traffic = sizes(&value()?)?,
                "--crowd" => options.crowd = Some(nodes(&value()?)?),
                // What cargo itself passes.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }

    /// Whether the small mesh is measured: what runs when nothing else was asked for.
    pub(crate) fn small(&self) -> bool {
        self.traffic.is_empty() && self.crowd.is_none()
    }
}

fn sizes(list: &str) -> Result<Vec<usize>> {
    list.split(',').map(nodes).collect()
}

fn nodes(text: &str) -> Result<usize> {
    match text.parse()? {
        nodes @ 2..=250 => Ok(nodes),
        nodes => Err(format!("{nodes} nodes; 2 to 250 can be started").into()),
    }
}
