//! One node: a process of the binary under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::namespace::Namespace;
use crate::process::{Process, output};
use crate::{PATIENCE, Result};

const BINARY: &str = env!("CARGO_BIN_EXE_warren");

/// A daemon; killed when dropped.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    dir: PathBuf,
    ready: Value,
}

impl Daemon {
    /// Starts one on loopback and waits until it is ready.
    pub(crate) fn start(dir: &Path, token: &str, args: &[&str]) -> Result<Self> {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        Self::run(Command::new(BINARY), dir, token, &args)
    }

    /// Starts one inside a namespace and waits until it is ready.
    pub(crate) fn start_in(
        namespace: &Namespace,
        dir: &Path,
        token: &str,
        args: &[&str],
    ) -> Result<Self> {
        Self::run(namespace.command(BINARY.as_ref()), dir, token, args)
    }

    fn run(mut command: Command, dir: &Path, token: &str, args: &[&str]) -> Result<Self> {
        command
            .args(["up", "--print-ready", "--no-mdns", "--http", "off"])
            .arg("--data-dir")
            .arg(dir)
            .args(args)
            .env("WARREN_TOKEN", token);
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let parent = dir.parent().ok_or("a data directory without parent")?;
        let mut process = Process::start(&name, command, parent)?;
        let ready = process.line(PATIENCE, |line| serde_json::from_str(line).ok())?;
        Ok(Self {
            process,
            dir: dir.to_owned(),
            ready,
        })
    }

    /// How others dial it.
    pub(crate) fn peer(&self) -> Result<String> {
        let id = self.ready["node_id"].as_str().ok_or("no node id")?;
        let udp = self.ready["udp"][0].as_str().ok_or("no UDP address")?;
        Ok(format!("{id}@{udp}"))
    }

    /// Where its first ingress listens.
    pub(crate) fn ingress(&self) -> Result<SocketAddr> {
        Ok(self.ready["ingress"][0]["listen"]
            .as_str()
            .ok_or("no ingress")?
            .parse()?)
    }

    /// How many nodes it counts as online, itself included.
    pub(crate) fn online(&self) -> Result<usize> {
        let mut command = Command::new(BINARY);
        command
            .args(["nodes", "--json", "--data-dir"])
            .arg(&self.dir);
        let nodes: Value = serde_json::from_str(&output(&mut command, PATIENCE)?)?;
        let nodes = nodes["nodes"].as_array().ok_or("no nodes")?;
        Ok(nodes.iter().filter(|node| node["online"] == true).count())
    }
}

/// A token of a new network.
pub(crate) fn new_token() -> Result<String> {
    let out = output(Command::new(BINARY).args(["token", "new"]), PATIENCE)?;
    Ok(out.trim().to_owned())
}
