//! An empty world for the command: its own home, no variables of whoever runs the tests, and
//! nothing that outlives the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a loaded machine; a test that is right never waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct World {
    home: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Stdout of a command that must succeed.
    pub(crate) fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(args)).unwrap()
    }

    /// A new network: starts a daemon of it in a directory, with more flags.
    pub(crate) fn network(&self) -> impl Fn(&str, &[&str]) -> Daemon + '_ {
        let token = self.said(&["token", "new"]).trim().to_owned();
        move |data, more| {
            let mut command = self.up(data, more);
            command.env("WARREN_TOKEN", &token);
            Daemon::start(command)
        }
    }

    /// A daemon that would say so if it became ready; nothing of it needs the default ports.
    pub(crate) fn up(&self, data: &str, more: &[&str]) -> Command {
        let mut args = vec!["up", "--data-dir", data, "--no-mdns", "--print-ready"];
        for (flag, value) in [("--listen", "127.0.0.1:0"), ("--http", "off")] {
            if !more.contains(&flag) {
                args.extend([flag, value]);
            }
        }
        args.extend(more);
        let mut command = self.command(&args);
        command.arg("--exit-with-stdin");
        command
    }
}

/// What a refusal said, after the checks that hold for every one of them: nothing was started,
/// nothing fell over, there is one error with its cause and what to do.
pub(crate) fn refusal(command: &mut Command, code: i32, words: &[&str]) -> String {
    let output = finish(command);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    assert_eq!(output.stdout, b"", "a refused start is not ready");
    assert!(!text.contains("panicked"), "{text}");
    let errors = text.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    text
}

/// Like `output`, with a deadline: a daemon that starts against the test's will must not hang it.
pub(crate) fn finish(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(child.spawn().unwrap());
    let out = drain(child.0.stdout.take().unwrap());
    let err = drain(child.0.stderr.take().unwrap());
    let mut status = None;
    eventually("the command ends", || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    Output {
        status: status.unwrap(),
        stdout: out.join().unwrap(),
        stderr: err.join().unwrap(),
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Waits until `what` holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        thread::sleep(POLL);
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running daemon; killed when dropped, and by the end of its standard input before that.
pub(crate) struct Daemon {
    child: Killed,
    stdin: Option<ChildStdin>,
    ready: Value,
    log: Receiver<String>,
}

impl Daemon {
    /// Starts `command` and waits for its ready line.
    pub(crate) fn start(mut command: Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = pipes.stderr(Stdio::piped()).spawn().unwrap();
        let mut child = Killed(child);
        let stdin = child.0.stdin.take();
        let log = lines(child.0.stderr.take().unwrap());
        let out = lines(child.0.stdout.take().unwrap());
        let ready = out.recv_timeout(DEADLINE).unwrap_or_else(|error| {
            let log: Vec<String> = log.try_iter().collect();
            panic!("not ready ({error}): {log:#?}")
        });
        Self {
            child,
            stdin,
            ready: serde_json::from_str(&ready).unwrap(),
            log,
        }
    }

    /// Its ready line.
    pub(crate) fn ready(&self) -> &Value {
        &self.ready
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn udp(&self) -> String {
        self.ready["udp"][0].as_str().unwrap().to_owned()
    }

    pub(crate) fn id(&self) -> String {
        self.ready["node_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn ingress(&self) -> String {
        let listen = &self.ready["ingress"][0]["listen"];
        listen.as_str().unwrap().to_owned()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// Its exit code, after its standard input was closed; and every line of its log.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        drop(self.stdin.take());
        let mut code = None;
        eventually("the daemon ends", || {
            let status = self.child.0.try_wait().unwrap();
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        (code, self.log.iter().collect())
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// A server that answers every line with the same line.
pub(crate) fn echo_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut to = stream.try_clone().unwrap();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if writeln!(to, "{line}").is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// Names in a directory; empty if it is not there.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
