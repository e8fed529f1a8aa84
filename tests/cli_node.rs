//! The daemon's manners with a real node: what it prints, what a restart keeps, how it ends.

// clippy.toml lets tests panic; their helpers here are tests too.
#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

fn warren(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
    command
        .args(args)
        .env_clear()
        .env("HOME", dir)
        .env("WARREN_DATA_DIR", dir.join("data"))
        .env("WARREN_LISTEN", "127.0.0.1:0")
        .env("WARREN_HTTP", "off")
        .env("WARREN_NO_MDNS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(dir: &Path, args: &[&str]) -> Output {
    timeout(DEADLINE, warren(dir, args).output())
        .await
        .unwrap()
        .unwrap()
}

async fn said(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args).await;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

struct Daemon {
    process: Child,
    ready: Value,
}

impl Daemon {
    async fn start(dir: &Path, args: &[&str]) -> Self {
        let mut process = warren(dir, args).arg("--print-ready").spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("the daemon ended before it was ready");
        Self {
            process,
            ready: serde_json::from_str(&line).unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn exit_code(&mut self) -> Option<i32> {
        let status = timeout(DEADLINE, self.process.wait()).await.unwrap();
        status.unwrap().code()
    }
}

#[tokio::test]
async fn a_restart_keeps_network_and_identity_and_leaving_keeps_the_identity() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Daemon::start(dir.path(), &["up"]).await;
    assert_eq!(first.ready["event"], "ready");
    let network = said(dir.path(), &["status"]).await;
    let second = run(dir.path(), &["up"]).await;
    assert_eq!(second.status.code(), Some(1));
    let pid = first.process.id().unwrap().to_string();
    let reason = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(reason.contains(&pid), "names the first daemon: {reason}");
    assert_eq!(said(dir.path(), &["stop"]).await, "stopped\n");
    assert_eq!(first.exit_code().await, Some(0));

    let mut again = Daemon::start(dir.path(), &["up"]).await;
    assert_eq!(again.ready["node_id"], first.ready["node_id"]);
    let line = |text: &str| {
        let found = text.lines().find(|line| line.starts_with("network"));
        found.unwrap().to_owned()
    };
    assert_eq!(line(&said(dir.path(), &["status"]).await), line(&network));
    assert!(
        said(dir.path(), &["leave", "--yes"])
            .await
            .starts_with("left network")
    );
    assert_eq!(again.exit_code().await, Some(0));
    assert!(!dir.path().join("data/token").exists());
    assert!(dir.path().join("data/identity.key").exists());
}

#[tokio::test]
async fn the_shown_token_joins() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Daemon::start(dir.path(), &["up", "--name", "first"]).await;
    let token = said(dir.path(), &["token", "show"]).await;
    let other = tempfile::tempdir().unwrap();
    let _second = Daemon::start(other.path(), &["join", token.trim(), "--name", "second"]).await;
    let linked = async {
        let ping = ["ping", "first", "--count", "1"];
        while run(other.path(), &ping).await.status.code() != Some(0) {}
    };
    timeout(DEADLINE, linked)
        .await
        .expect("the nodes do not meet");
    // On a pipe the token is not printed, and never is it logged.
    let output = run(other.path(), &["up"]).await;
    assert!(!String::from_utf8_lossy(&output.stderr).contains("warren1"));
}

/// A daemon with one connection through itself that its server keeps open.
async fn busy_daemon(dir: &Path) -> (Daemon, TcpStream, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let expose = format!("chat={}", server.local_addr().unwrap());
    let args = ["up", "--expose", &expose, "--ingress", "chat=127.0.0.1:0"];
    let daemon = Daemon::start(dir, &args).await;
    let listen = daemon.ready["ingress"][0]["listen"].as_str().unwrap();
    let mut client = TcpStream::connect(listen).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    // Readiness is checked by connections that say nothing; ours says something.
    let mut far = loop {
        let (mut far, _) = timeout(DEADLINE, server.accept()).await.unwrap().unwrap();
        let mut bytes = [0; 5];
        if far.read_exact(&mut bytes).await.is_ok() {
            break far;
        }
    };
    far.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    (daemon, client, far)
}

#[tokio::test]
async fn a_signal_drains_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, mut client, mut far) = busy_daemon(dir.path()).await;
    daemon.signal(Signal::TERM);
    let listen = daemon.ready["ingress"][0]["listen"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = async { while TcpStream::connect(&listen).await.is_ok() {} };
    timeout(DEADLINE, refused)
        .await
        .expect("new connections are taken");
    far.write_all(b"y").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'y');
    drop((client, far));
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, client, far) = busy_daemon(dir.path()).await;
    daemon.signal(Signal::TERM);
    let listen = daemon.ready["ingress"][0]["listen"]
        .as_str()
        .unwrap()
        .to_owned();
    let draining = async { while TcpStream::connect(&listen).await.is_ok() {} };
    timeout(DEADLINE, draining).await.unwrap();
    daemon.signal(Signal::INT);
    let code = timeout(DEADLINE / 3, daemon.process.wait()).await.unwrap();
    assert_eq!(code.unwrap().code(), Some(130));
    drop((client, far));
}
