//! What tests with real processes share: daemons on data directories of their own, commands
//! against them, small servers and clients, and waiting for a condition with a deadline.
//!
//! Nothing here outlives the test: a daemon is killed when its handle is dropped, and ends by
//! itself when the test process is gone. A test that fails prints the logs of its daemons.

pub(crate) mod http;
pub(crate) mod server;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a machine that has much else to do.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);
/// Between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(20);

/// Looks at a condition until it holds, and returns what it found.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(GLANCE);
    }
}

/// A network: one token, and a directory in which every node has its own.
pub(crate) struct Mesh {
    home: TempDir,
    token: String,
}

impl Mesh {
    /// A new network.
    pub(crate) fn new() -> Self {
        let new = warren(&std::env::temp_dir(), &["token", "new"]).output();
        let output = new.unwrap();
        assert!(output.status.success(), "{output:?}");
        Self::of(String::from_utf8(output.stdout).unwrap().trim())
    }

    /// The network of a token that is known.
    pub(crate) fn of(token: &str) -> Self {
        Self {
            home: TempDir::new().unwrap(),
            token: token.to_owned(),
        }
    }

    /// Its token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Where files of the test may lie.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Data directory of the node of that name.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `warren up` for a node of that name. A second one takes up where the first ended.
    pub(crate) fn node(&self, name: &str) -> Recipe {
        self.daemon(name, &["up"])
    }

    /// `warren federated` on a free port, as a daemon.
    pub(crate) fn federated(&self, name: &str) -> Recipe {
        self.daemon(name, &["federated", "--address", "127.0.0.1:0"])
    }

    /// Any command that becomes a daemon.
    pub(crate) fn daemon(&self, name: &str, command: &[&str]) -> Recipe {
        let mut recipe = Recipe {
            dir: self.dir(name),
            command: warren(&self.dir(name), command),
            listens: false,
            serves_http: false,
        };
        recipe.command.env("WARREN_TOKEN", &self.token);
        recipe.args(&["--name", name, "--no-mdns", "--print-ready"])
    }

    /// `count` nodes that expose a server each as `federated`, and an address for them on one
    /// more, that sees them all.
    pub(crate) fn served_by(&self, backends: &[server::Backend]) -> (Vec<Daemon>, Daemon) {
        self.served_by_with(backends, &[])
    }

    /// The same, with more flags for the address.
    pub(crate) fn served_by_with(
        &self,
        backends: &[server::Backend],
        flags: &[&str],
    ) -> (Vec<Daemon>, Daemon) {
        let mut nodes: Vec<Daemon> = Vec::new();
        for (at, backend) in backends.iter().enumerate() {
            let recipe = self.node(&format!("n{at}"));
            let recipe = recipe.expose("federated", backend.addr());
            nodes.push(match nodes.first() {
                Some(first) => recipe.connect(first).start(),
                None => recipe.start(),
            });
        }
        let gateway = self.federated("gateway").args(flags).connect(&nodes[0]);
        let gateway = gateway.start();
        gateway.wait_ready("federated", backends.len());
        (nodes, gateway)
    }
}

/// This program, for a data directory, with nothing of the environment of the test but how many
/// shards daemons have that were not told.
pub(crate) fn warren(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
    command
        .args(args)
        .env_clear()
        .envs(std::env::var_os("WARREN_SHARDS").map(|count| ("WARREN_SHARDS", count)))
        .env("HOME", dir)
        .env("WARREN_DATA_DIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A daemon about to start.
pub(crate) struct Recipe {
    dir: PathBuf,
    command: Command,
    listens: bool,
    serves_http: bool,
}

impl Recipe {
    /// More flags.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Offers a server.
    pub(crate) fn expose(self, service: &str, server: SocketAddr) -> Self {
        self.args(&["--expose", &format!("{service}={server}")])
    }

    /// Knows the id and the address of another.
    pub(crate) fn connect(self, other: &Daemon) -> Self {
        self.args(&["--connect", &other.dial()])
    }

    /// Listens there instead of on a free port.
    pub(crate) fn listen(mut self, at: SocketAddr) -> Self {
        self.listens = true;
        self.args(&["--listen", &at.to_string()])
    }

    /// Serves HTTP on a free loopback port.
    pub(crate) fn http(mut self) -> Self {
        self.serves_http = true;
        self.args(&["--http", "127.0.0.1:0"])
    }

    /// Starts it and waits for its ready line.
    pub(crate) fn start(self) -> Daemon {
        let mut recipe = self.args(&["--exit-with-stdin"]);
        if !recipe.listens {
            recipe = recipe.args(&["--listen", "127.0.0.1:0"]);
        }
        if !recipe.serves_http {
            recipe = recipe.args(&["--http", "off"]);
        }
        let log = recipe.dir.with_extension("log");
        let file = File::options().create(true).append(true).open(&log);
        recipe.command.stdin(Stdio::piped()).stderr(file.unwrap());
        let mut process = Process::start(recipe.command);
        let Some(line) = process.try_line() else {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("no ready line\n{log}");
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        Daemon {
            id: ready["node_id"].as_str().unwrap().to_owned(),
            ready,
            dir: recipe.dir,
            log,
            process,
        }
    }

    /// Runs it to its end: for a daemon that does not start.
    pub(crate) fn output(mut self) -> Output {
        self.command.output().unwrap()
    }
}

/// A child process and the lines that it prints. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a command whose standard output is a pipe.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, lines) = channel();
        // A thread of its own: a pipe cannot be read with a deadline.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            stdin: child.stdin.take(),
            child,
        }
    }

    /// Its next line; `None` when it has closed its output.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited in vain for a line"),
        }
    }

    /// Its next line, if it comes that soon.
    pub(crate) fn line_within(&mut self, limit: Duration) -> Option<String> {
        self.lines.recv_timeout(limit).ok()
    }

    /// Its next line.
    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("no more lines")
    }

    /// The first of its lines that is a JSON document which `is_it`.
    pub(crate) fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let document = serde_json::from_str(&self.line()).unwrap();
            if is_it(&document) {
                return document;
            }
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("end of a process", || self.child.try_wait().unwrap())
    }

    /// What it wrote on standard error; waits for its end.
    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may be gone, or stopped; SIGKILL reaches a stopped process, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number that signals are sent to.
pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// A running daemon.
pub(crate) struct Daemon {
    /// Full node id.
    pub(crate) id: String,
    /// Its ready line.
    pub(crate) ready: Value,
    /// Its data directory.
    pub(crate) dir: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Daemon {
    /// Short id, as people see it.
    pub(crate) fn short(&self) -> String {
        self.id.chars().take(12).collect()
    }

    /// `ID@IP:PORT`.
    pub(crate) fn dial(&self) -> String {
        format!("{}@{}", self.id, self.udp())
    }

    /// Its UDP address.
    pub(crate) fn udp(&self) -> SocketAddr {
        address(&self.ready["udp"][0])
    }

    /// Where its first ingress listens.
    pub(crate) fn ingress(&self) -> SocketAddr {
        address(&self.ready["ingress"][0]["listen"])
    }

    /// Where it serves HTTP.
    pub(crate) fn http(&self) -> SocketAddr {
        address(&self.ready["http"])
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.process.wait();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A command against this daemon.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        warren(&self.dir, args)
    }

    /// Runs a command against this daemon.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts a command against this daemon that goes on.
    pub(crate) fn running(&self, args: &[&str]) -> Process {
        Process::start(self.command(args))
    }

    /// The stream of its events, `events --json`, once it is sure to flow.
    pub(crate) fn events(&self) -> Process {
        let mut events = self.running(&["events", "--json"]);
        // Nothing says that the command listens already; so something happens until it does.
        until("events", || {
            self.said(&["ledger", "put", "test", "events", "?"]);
            events.line_within(GLANCE)
        });
        events
    }

    /// Stdout of a command that must succeed.
    pub(crate) fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {out}{err}");
        out
    }

    /// The one document of a command with `--json` that must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.said(&[args, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "one document: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The error of a command that must end with this exit code.
    pub(crate) fn refused(&self, exit: i32, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {out}");
        let document: Value = serde_json::from_str(&out).unwrap();
        document["error"].clone()
    }

    /// Providers of a service, as this daemon knows them.
    pub(crate) fn providers(&self, service: &str) -> Vec<Value> {
        let document = self.json(&["services"]);
        let services = document["services"].as_array().unwrap();
        let ours = services.iter().find(|one| one["service"] == service);
        ours.map_or(vec![], |one| one["nodes"].as_array().unwrap().clone())
    }

    /// Names of the nodes that this daemon would choose for a service.
    pub(crate) fn usable(&self, service: &str) -> Vec<String> {
        let providers = self.providers(service);
        let usable = providers
            .iter()
            .filter(|one| one["online"] == true && one["ready"] == true && one["draining"] == false)
            .map(|one| one["name"].as_str().unwrap().to_owned());
        let mut usable: Vec<String> = usable.collect();
        usable.sort();
        usable
    }

    /// Waits until this daemon would choose among that many nodes.
    pub(crate) fn wait_ready(&self, service: &str, count: usize) {
        until(&format!("{count} nodes of {service}"), || {
            (self.usable(service).len() == count).then_some(())
        });
    }

    /// Waits until this daemon sees that many nodes online, itself included.
    pub(crate) fn wait_online(&self, count: u64) {
        until(&format!("{count} nodes online"), || {
            (self.json(&["status"])["nodes_online"] == count).then_some(())
        });
    }
}

impl Drop for Daemon {
    #[allow(clippy::print_stderr, reason = "the harness shows it with the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            let name = self.dir.file_name().unwrap_or_default().display();
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            #[allow(clippy::print_stderr)] // it explains the failure
            {
                eprintln!("--- log of {name}\n{log}");
            }
        }
    }
}

fn address(value: &Value) -> SocketAddr {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("no address: {value}"));
    text.parse().unwrap()
}
