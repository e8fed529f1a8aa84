//! Network namespaces of a bench's own, and the program that makes them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::process::{output, required};

/// How long `ip` may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace by name; removed when dropped, and its ends of all cables with it.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    /// Makes it. `end` tells it from the others of this run.
    pub(crate) fn new(end: &str) -> Result<Self> {
        let name = format!("warren-bench-{}-{end}", std::process::id());
        ip(&["netns", "add", &name])
            .map_err(|error| format!("{error}; network namespaces need root (or CAP_SYS_ADMIN)"))?;
        Ok(Self(name))
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Not through `output`: it refuses to wait after an interrupt. Nothing is left to tell.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Runs `ip`.
pub(crate) fn ip(args: &[&str]) -> Result<()> {
    let mut command = Command::new(required("ip", "apt install iproute2")?);
    command.args(args);
    output(&mut command, PATIENCE)
        .map(drop)
        .map_err(|error| format!("ip {}: {error}", args.join(" ")).into())
}
