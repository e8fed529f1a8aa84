//! What the command line asks for.

use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::load::Group;
use crate::peers;

/// The settings of a run; `benches/tunnel.rs` says what each means.
pub(crate) struct Options {
    pub(crate) json: bool,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) veth: bool,
    pub(crate) calm: bool,
    groups: Vec<Group>,
    tunnels: Vec<String>,
}

impl Options {
    pub(crate) fn parse(args: Vec<String>) -> Result<Self> {
        let mut options = Self {
            json: false,
            svg: None,
            rounds: 3,
            time: Duration::from_secs(5),
            veth: false,
            calm: false,
            groups: Vec::new(),
            tunnels: Vec::new(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--svg" => options.svg = Some(value()?.into()),
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--seconds" => options.time = Duration::from_secs(value()?.parse::<u64>()?.max(1)),
                "--only" => options.only(&value()?)?,
                "--calm" => options.calm = true,
                "--veth" => options.veth = true,
                // What cargo itself passes.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }

    fn only(&mut self, list: &str) -> Result<()> {
        for name in list.split(',').map(str::trim) {
            if let Some(group) = Group::ALL.iter().find(|group| group.name() == name) {
                self.groups.push(*group);
            } else if peers::ALL.iter().any(|peer| peer.name == name) {
                self.tunnels.push(name.to_owned());
            } else {
                let groups = Group::ALL.iter().map(|group| group.name());
                let names: Vec<&str> = groups
                    .chain(peers::ALL.iter().map(|peer| peer.name))
                    .collect();
                return Err(format!("--only {name}: there are {}", names.join(", ")).into());
            }
        }
        Ok(())
    }

    /// Whether this tunnel was asked for by name.
    pub(crate) fn names_tunnel(&self, name: &str) -> bool {
        self.tunnels.iter().any(|named| named == name)
    }

    /// Whether loads of this group run; all do unless some are named.
    pub(crate) fn wants_group(&self, group: Group) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }

    /// Whether this tunnel runs; all do unless some are named.
    pub(crate) fn wants_tunnel(&self, name: &str) -> bool {
        self.tunnels.is_empty() || self.tunnels.iter().any(|wanted| wanted == name)
    }
}
