//! What was asked for.

use std::cell::RefCell;

use crate::world::World;
use crate::{Result, SCENARIOS};

/// Options of one run; see the head of the program.
pub(crate) struct Options {
    pub(crate) nodes: Option<usize>,
    pub(crate) seed: u64,
    pub(crate) runs: u64,
    pub(crate) json: bool,
    pub(crate) check: bool,
    only: Vec<String>,
    /// A settled world that the next scenario may go on with: to make one of a thousand nodes
    /// takes longer than most of what is measured in it.
    kept: RefCell<Option<World>>,
}

impl Options {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            nodes: None,
            seed: 1,
            runs: 1_000,
            json: false,
            check: false,
            only: Vec::new(),
            kept: RefCell::default(),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--nodes" => options.nodes = Some(value()?.parse::<usize>()?.max(4)),
                "--seed" => options.seed = value()?.parse()?,
                "--runs" => options.runs = value()?.parse::<u64>()?.max(1),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--json" => options.json = true,
                "--check" => options.check = true,
                // What cargo itself passes.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        let known = |name: &String| SCENARIOS.iter().any(|(known, _)| known == name);
        match options.only.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("no scenario is called {name}").into()),
            None => Ok(options),
        }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Leaves a world in which all is well again to the next scenario.
    pub(crate) fn keep(&self, world: World) {
        self.kept.replace(Some(world));
    }

    /// The world that was left, if it has as many nodes.
    pub(crate) fn kept(&self, nodes: usize) -> Option<World> {
        let kept = self.kept.take();
        kept.filter(|world| world.running().len() == nodes)
    }

    /// How many nodes a scenario has.
    pub(crate) fn nodes_or(&self, own: usize) -> usize {
        self.nodes.unwrap_or(own)
    }
}
