//! The nodes of the demo: child processes of this binary, waited for by their ready line.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::cli::fail::Failure;

/// LocalAI's name for what the demo offers.
pub(super) const SERVICE: &str = "federated";

/// How long a node may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a node may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(3);
/// Flags of every node: nothing outside loopback, and no life beyond ours.
const COMMON: &[&str] = &[
    "--print-ready",
    "--exit-with-stdin",
    "--no-mdns",
    "--http=off",
    "--listen=127.0.0.1:0",
    "--drain-timeout=1s",
    "--config=/dev/null",
];

/// How a node is started.
pub(super) struct Recipe {
    name: String,
    data_dir: PathBuf,
    token: Zeroizing<String>,
    args: Vec<OsString>,
}

impl Recipe {
    /// A node that offers the server at `target`.
    pub(super) fn node(
        home: &Path,
        name: &str,
        token: &Zeroizing<String>,
        first: Option<&str>,
        target: SocketAddr,
    ) -> Self {
        let expose = format!("--expose={SERVICE}={target}");
        Self::new(home, name, token, first, &["up".to_owned(), expose])
    }

    /// The node with the federated address.
    pub(super) fn gateway(
        home: &Path,
        token: &Zeroizing<String>,
        first: Option<&str>,
        listen: SocketAddr,
    ) -> Self {
        let address = format!("--address={listen}");
        Self::new(
            home,
            "gateway",
            token,
            first,
            &[SERVICE.to_owned(), address],
        )
    }

    fn new(
        home: &Path,
        name: &str,
        token: &Zeroizing<String>,
        first: Option<&str>,
        command: &[String],
    ) -> Self {
        let data_dir = home.join(name);
        let mut args: Vec<OsString> = command.iter().map(OsString::from).collect();
        args.extend(COMMON.iter().map(OsString::from));
        args.push(format!("--name={name}").into());
        args.extend(first.map(|peer| format!("--connect={peer}").into()));
        args.push("--data-dir".into());
        args.push(data_dir.clone().into());
        Self {
            name: name.to_owned(),
            data_dir,
            token: token.clone(),
            args,
        }
    }
}

/// The ready line, as far as it is used here.
#[derive(Deserialize)]
struct ReadyLine {
    node_id: String,
    udp: Vec<SocketAddr>,
    ingress: Vec<ReadyIngress>,
}

#[derive(Deserialize)]
struct ReadyIngress {
    listen: SocketAddr,
}

/// A running node. Dropping it kills the process.
pub(super) struct Member {
    /// Name, `node-1` and so on.
    pub(super) name: String,
    /// Its data directory.
    pub(super) data_dir: PathBuf,
    /// Its full id.
    pub(super) node_id: String,
    /// Where its ingress listens, if it has one.
    pub(super) ingress: Option<SocketAddr>,
    /// Requests served when it was last heard.
    pub(super) served: u64,
    udp: Option<SocketAddr>,
    child: Child,
    /// Held open: its end ends the child, whatever becomes of this process.
    stdin: Option<ChildStdin>,
    _stdout: BufReader<ChildStdout>,
}

impl Member {
    /// Starts a node and waits until it is ready.
    pub(super) async fn start(recipe: Recipe) -> Result<Self, Failure> {
        let log_path = recipe.data_dir.with_extension("log");
        let mut child = spawn(&recipe, &log_path)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| lost(&recipe.name, ""))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = timeout(START_LIMIT, stdout.read_line(&mut line)).await;
        let Ok(ready) = serde_json::from_str::<ReadyLine>(&line) else {
            let late = if read.is_err() { " in time" } else { "" };
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            return Err(lost(&recipe.name, late).hint(last_lines(&log)));
        };
        Ok(Self {
            name: recipe.name,
            data_dir: recipe.data_dir,
            node_id: ready.node_id,
            ingress: ready.ingress.first().map(|ingress| ingress.listen),
            served: 0,
            udp: ready.udp.first().copied(),
            child,
            stdin,
            _stdout: stdout,
        })
    }

    /// `ID@IP:PORT`, for `--connect` of the others.
    pub(super) fn dial_address(&self) -> String {
        match self.udp {
            Some(at) => format!("{}@{at}", self.node_id),
            None => String::new(),
        }
    }

    /// Process id; `None` once it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the process runs; also takes note of one that has ended.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL: no goodbye. Returns when it is gone.
    pub(super) async fn kill(&mut self) {
        // It may have ended this very moment.
        let _ = self.child.kill().await;
    }
}

fn spawn(recipe: &Recipe, log: &Path) -> Result<Child, Failure> {
    let refused = |what: &str, e: std::io::Error| Failure::failed("io", format!("{what}: {e}"));
    let program = std::env::current_exe().map_err(|e| refused("this program's file", e))?;
    let log = File::create(log).map_err(|e| refused("a log file", e))?;
    Command::new(&program)
        .args(&recipe.args)
        // The demo must not depend on what else is configured on this machine.
        .env_clear()
        .env("WARREN_TOKEN", recipe.token.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C in the terminal is for us alone; we end the children.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| refused(&program.display().to_string(), e))
}

fn lost(name: &str, how: &str) -> Failure {
    Failure::failed("demo", format!("{name} did not become ready{how}"))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    match lines
        .len()
        .checked_sub(5)
        .and_then(|from| lines.get(from..))
    {
        Some(last) => last.join("\n"),
        None => log.trim_end().to_owned(),
    }
}

/// Ends all of them: by closing their standard input, then by force; waits until they are gone.
pub(super) async fn end(mut members: Vec<Member>) {
    for member in &mut members {
        drop(member.stdin.take());
    }
    let ending = members.into_iter().map(|mut member| async move {
        if timeout(END_LIMIT, member.child.wait()).await.is_err() {
            // Waits, too. What cannot be killed cannot be helped.
            let _ = member.child.kill().await;
        }
    });
    futures_util::future::join_all(ending).await;
}
