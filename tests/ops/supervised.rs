//! What a service manager and its journal see. The manager is a socket that only listens.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{DEADLINE, Daemon, World, echo_server, finish, refusal};

/// The receiving end of `NOTIFY_SOCKET`.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self(socket)
    }

    /// The next message with a line that starts so and holds; those before are returned with it.
    pub(crate) fn wait(&self, start: &str, holds: impl Fn(&str) -> bool) -> Vec<String> {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while Instant::now() < end {
            seen.extend(self.next());
            let found = seen.last().is_some_and(|message: &String| {
                message
                    .lines()
                    .any(|line| line.starts_with(start) && holds(line))
            });
            if found {
                return seen;
            }
        }
        panic!("no {start} within {DEADLINE:?}: {seen:#?}");
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        match self.0.recv(&mut buffer) {
            Ok(len) => Some(String::from_utf8(buffer[..len].to_vec()).unwrap()),
            Err(error) => {
                let waited = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                assert!(waited.contains(&error.kind()), "{error}");
                None
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.next().is_none()
    }
}

fn terminate(daemon: &Daemon) {
    let pid = i32::try_from(daemon.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
}

#[test]
fn ready_is_said_when_usable_then_signs_of_life_then_the_end() {
    let world = World::new();
    let manager = Manager::new(&world.path("notify"));
    let expose = format!("chat={}", echo_server());
    let flags = ["--expose", &expose, "--ingress", "chat=127.0.0.1:0"];
    let mut command = world.up("data", &flags);
    command
        .env("NOTIFY_SOCKET", world.path("notify"))
        .env("WATCHDOG_USEC", "400000");
    let daemon = Daemon::start(command);
    manager.wait("READY=1", |_| true);
    assert!(TcpStream::connect(daemon.ingress()).is_ok());
    let status = world.json(&["status", "--json", "--data-dir", "data"]);
    assert_eq!(status["state"], "running");
    let network = status["network"].as_str().unwrap();
    manager.wait("STATUS=", |line| {
        line.contains("1/1 nodes online") && line.contains(network)
    });
    for _ in 0..3 {
        manager.wait("WATCHDOG=1", |_| true);
    }
    terminate(&daemon);
    manager.wait("STOPPING=1", |_| true);
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn the_end_through_the_admin_socket_is_told_too() {
    let world = World::new();
    let manager = Manager::new(&world.path("notify"));
    let mut command = world.up("data", &[]);
    command.env("NOTIFY_SOCKET", world.path("notify"));
    let daemon = Daemon::start(command);
    world.said(&["stop", "--data-dir", "data"]);
    let seen = manager.wait("STOPPING=1", |_| true);
    assert!(seen[0].contains("READY=1"), "{seen:?}");
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let world = World::new();
    let manager = Manager::new(&world.path("notify"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ingress = format!("chat={}", taken.local_addr().unwrap());
    let mut command = world.up("data", &["--ingress", &ingress]);
    command.env("NOTIFY_SOCKET", world.path("notify"));
    refusal(&mut command, 1, &["in use"]);
    assert!(manager.is_silent());
}

#[test]
fn json_logs_are_one_object_per_line() {
    let world = World::new();
    let flags = ["--log-format", "json", "--log-level", "debug"];
    let mut command = world.up("data", &flags);
    command.env("LOCALAI_P2P_TOKN", "line\n\"two\"");
    let (code, log) = Daemon::start(command).end();
    assert_eq!(code, Some(0));
    assert!(log.len() > 1, "{log:?}");
    for line in &log {
        let object: Value = serde_json::from_str(line).unwrap();
        for key in ["timestamp", "level", "target", "message"] {
            assert!(object[key].is_string(), "{key}: {line}");
        }
    }
}

/// stderr of a daemon that warns about a variable, ended by its standard input.
fn log_into(world: &World, file: &str, journal: Option<&str>) -> String {
    let log = fs::File::create(world.path(file)).unwrap();
    let meta = log.metadata().unwrap();
    let own = format!("{}:{}", meta.dev(), meta.ino());
    let mut command = world.up("data", &[]);
    command
        .env("LOCALAI_P2P_TOKN", "x")
        .env("JOURNAL_STREAM", journal.unwrap_or(&own));
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    fs::read_to_string(world.path(file)).unwrap()
}

#[test]
fn the_journal_gets_priorities_and_no_second_clock() {
    let world = World::new();
    let log = log_into(&world, "journal", None);
    let warning = log.lines().find(|line| line.contains("TOKN")).unwrap();
    assert!(warning.starts_with("<4>warren::"), "{warning}");
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    let info = log
        .lines()
        .find(|line| line.contains("standard input"))
        .unwrap();
    assert!(info.starts_with("<6>"), "{info}");
    // A variable inherited from somebody else's service changes nothing.
    let log = log_into(&world, "file", Some("1:2"));
    assert!(log.starts_with("20") && !log.contains("<4>"), "{log}");
}

#[test]
fn no_log_holds_the_token() {
    let world = World::new();
    let token = world.said(&["token", "new"]);
    let mut command = world.up("data", &["--log-level", "trace"]);
    command.env("WARREN_TOKEN", token.trim());
    let (_, log) = Daemon::start(command).end();
    let secret = &token.trim()[12..];
    assert!(log.len() > 1 && !log.iter().any(|line| line.contains(secret)));
}

#[test]
fn the_unit_starts_what_exists() {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dist/warren.service"));
    let unit = unit.unwrap();
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/warren"));
    let mut args: Vec<&str> = words.collect();
    args.push("--help");
    assert_eq!(
        finish(&mut World::new().command(&args)).status.code(),
        Some(0)
    );
    for line in ["Type=notify", "StateDirectory=warren", "DynamicUser=yes"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
