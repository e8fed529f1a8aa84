//! What the command line asks for.

use std::time::Duration;

use crate::Result;
use crate::impairer::{PATHS, Path};

/// The settings of a run; `benches/path.rs` says what each means.
pub(crate) struct Options {
    pub(crate) json: bool,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) paths: Vec<&'static Path>,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            json: false,
            rounds: 3,
            time: Duration::from_secs(10),
            paths: PATHS.iter().collect(),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--seconds" => options.time = Duration::from_secs(value()?.parse::<u64>()?.max(1)),
                "--only" => {
                    let list = value()?;
                    let named = list.split(',').map(named);
                    options.paths = named.collect::<Result<_>>()?;
                }
                // What cargo itself passes.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

fn named(name: &str) -> Result<&'static Path> {
    let found = PATHS.iter().find(|path| path.name == name.trim());
    let names: Vec<&str> = PATHS.iter().map(|path| path.name).collect();
    found.ok_or_else(|| format!("--only {name}: there are {}", names.join(", ")).into())
}
