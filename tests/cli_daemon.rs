//! The commands that ask a daemon, over one that is only pretended.

// clippy.toml lets tests panic; their helpers here are tests too.
#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "api/daemon.rs"]
mod daemon;
#[allow(dead_code)]
#[path = "api/fake.rs"]
mod fake;

use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use warren::api::Control;

use daemon::{DEADLINE, Daemon};
use fake::{entry, id};

fn warren(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
    command
        .args(args)
        .env_clear()
        .env("HOME", daemon.dir.path())
        .env("WARREN_DATA_DIR", daemon.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(daemon: &Daemon, args: &[&str]) -> Output {
    let output = warren(daemon, args).output();
    timeout(DEADLINE, output).await.unwrap().unwrap()
}

/// Stdout of a command that must succeed.
async fn said(daemon: &Daemon, args: &[&str]) -> String {
    let output = run(daemon, args).await;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

async fn json(daemon: &Daemon, args: &[&str]) -> Value {
    let text = said(daemon, args).await;
    assert_eq!(text.lines().count(), 1, "one document: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Error code of a command that must exit with `exit`.
async fn refused(daemon: &Daemon, exit: i32, args: &[&str]) -> String {
    let output = run(daemon, args).await;
    assert_eq!(output.status.code(), Some(exit), "{args:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["error"]["code"].as_str().unwrap().to_owned()
}

/// A command that goes on, and its lines.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let lines = BufReader::new(stdout).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line()).await.unwrap();
        line.unwrap().expect("the command ended its output")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn exit_code(&mut self) -> Option<i32> {
        let status = timeout(DEADLINE, self.child.wait()).await.unwrap();
        status.unwrap().code()
    }
}

#[tokio::test]
async fn status_says_problems_first() {
    let daemon = Daemon::start().await;
    let text = said(&daemon, &["status"]).await;
    assert!(
        text.starts_with("PROBLEM  clock: a clock is wrong\n"),
        "{text}"
    );
    assert!(
        text.contains("network  fingerprint, network id lab"),
        "{text}"
    );
    assert!(text.contains("refused  bad_signature 3"), "{text}");
    let document = json(&daemon, &["status", "--json"]).await;
    assert_eq!(document["problems"][0]["code"], "clock");
    assert_eq!(document["id"], id(1).to_string());
}

#[tokio::test]
async fn lists_are_tables_for_people_and_documents_for_programs() {
    let daemon = Daemon::start().await;
    let text = said(&daemon, &["nodes"]).await;
    assert!(
        text.starts_with("NAME") && text.contains("this node"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colours off a terminal");
    let nodes = json(&daemon, &["nodes", "--json"]).await;
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 3);

    let text = said(&daemon, &["services"]).await;
    assert!(
        text.contains("lab_federated") && text.contains("ready"),
        "{text}"
    );
    let services = json(&daemon, &["services", "--json"]).await;
    assert_eq!(services["services"][0]["nodes"][0]["served"], 40);

    assert!(
        said(&daemon, &["services", "--roles"])
            .await
            .contains("no roles")
    );
    assert_eq!(said(&daemon, &["token", "show"]).await, "warren1secret\n");
    let pings = json(&daemon, &["ping", "n2", "--count", "2", "--json"]).await;
    assert_eq!(pings["pings"][1]["rtt_ms"], 1.5);
    assert_eq!(
        refused(&daemon, 1, &["--json", "ping", "nobody"]).await,
        "not_found"
    );
}

#[tokio::test]
async fn a_bench_is_a_table_for_people_and_a_document_for_programs() {
    let daemon = Daemon::start().await;
    let text = said(&daemon, &["bench", "n3", "--bytes", "2M"]).await;
    let line = |what: &str| {
        let mut lines = text.lines().map(|line| line.split_whitespace());
        let mut line = lines
            .find(|line| line.clone().next() == Some(what))
            .unwrap();
        line.next();
        line.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("latency"), "1.500 ms least of 1, median 1.500 ms");
    assert_eq!(line("loss"), "10.00 % 1 of 10 packets");
    assert_eq!(line("download"), "16.0 Mbit/s 2000000 bytes in 1.00 s");
    let upload = "unknown too little arrived to tell, 50.00 % of packets lost";
    assert_eq!(line("upload"), upload);
    let document = json(&daemon, &["bench", "n3", "--json"]).await;
    assert_eq!(document["download_bytes"], 256_000_000);
    assert_eq!(document["upload_mbps"], serde_json::Value::Null);

    let ask = ["--json", "bench", "n2"];
    assert_eq!(refused(&daemon, 1, &ask).await, "unreachable");
    let ask = ["--json", "bench", "nobody"];
    assert_eq!(refused(&daemon, 1, &ask).await, "not_found");
    for flags in [["--bytes", "0"], ["--time", "31s"], ["--bytes", "5 M"]] {
        let ask = [&["--json", "bench", "n3"], &flags[..]].concat();
        assert_eq!(refused(&daemon, 2, &ask).await, "usage");
    }
}

#[tokio::test]
async fn a_role_lives_as_long_as_its_command() {
    let daemon = Daemon::start().await;
    let mut command = Running::start(warren(&daemon, &["expose", "llm", "127.0.0.1:8080"]));
    assert!(
        command
            .line()
            .await
            .contains("exposes llm at 127.0.0.1:8080")
    );
    assert_eq!(daemon.node.roles().len(), 1);
    command.signal(Signal::INT);
    assert_eq!(command.exit_code().await, Some(0));
    daemon.node.wait_removed(1).await;
}

#[tokio::test]
async fn a_role_ends_when_it_is_taken_away_or_the_daemon_stops() {
    let daemon = Daemon::start().await;
    let mut first = Running::start(warren(&daemon, &["federated", "--print-ready"]));
    let ready: Value = serde_json::from_str(&first.line().await).unwrap();
    assert_eq!(ready["event"], "ready");
    assert_eq!(ready["node_id"], id(1).to_string());
    assert_eq!(ready["ingress"][0]["service"], "federated");
    assert_eq!(ready["ingress"][0]["listen"], "127.0.0.1:40404");
    assert!(said(&daemon, &["role", "rm", "1"]).await.contains("gone"));
    assert_eq!(first.exit_code().await, Some(1));

    let mut second = Running::start(warren(&daemon, &["ingress", "llm", "127.0.0.1:0"]));
    assert!(second.line().await.contains("leads to llm"));
    daemon.cancel.cancel();
    assert_eq!(second.exit_code().await, Some(1));
}

#[tokio::test]
async fn bg_leaves_the_role_with_the_daemon() {
    let daemon = Daemon::start().await;
    let role = json(&daemon, &["--json", "federated", "--random-worker", "--bg"]).await;
    assert_eq!(role["kept"], true);
    assert_eq!(role["spec"]["strategy"], "random");
    assert_eq!(role["spec"]["failover"], "replay");
    assert_eq!(role["spec"]["listen"], "[::]:8080");
    assert!(
        said(&daemon, &["services", "--roles"])
            .await
            .contains("kept")
    );
    let refusal = ["--json", "expose", "refused", "h:1", "--bg"];
    assert_eq!(refused(&daemon, 1, &refusal).await, "unreachable");
}

#[tokio::test]
async fn a_role_is_not_given_to_a_daemon_of_another_network() {
    let daemon = Daemon::start().await;
    let token = said(&daemon, &["token", "new"]).await;
    let mut command = warren(&daemon, &["expose", "llm", "h:1", "--json"]);
    let output = command
        .env("WARREN_TOKEN", token.trim())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("other_network"));
    let other_id = ["--json", "expose", "llm", "h:1", "--network-id", "other"];
    assert_eq!(refused(&daemon, 1, &other_id).await, "other_network");
    assert!(daemon.node.roles().is_empty());
}

#[tokio::test]
async fn the_ledger_is_read_and_written() {
    let daemon = Daemon::start().await;
    assert_eq!(said(&daemon, &["ledger", "put", "b", "k", "-v"]).await, "");
    assert_eq!(said(&daemon, &["ledger", "get", "b", "k"]).await, "-v\n");
    daemon.node.take(entry(2, "b", "k", b"\xff\x00"));
    let value = json(&daemon, &["ledger", "get", "b", "k", "--json"]).await;
    assert_eq!(value["value"], "-v");
    assert_eq!(value["others"][0]["value"]["base64"], "/wA=");
    assert!(
        said(&daemon, &["ledger", "ls", "b"])
            .await
            .contains("(2 bytes)")
    );

    let mut command = warren(&daemon, &["ledger", "put", "b", "in", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"from\nstdin\n").await.unwrap();
    drop(stdin);
    assert!(child.wait().await.unwrap().success());
    assert_eq!(
        said(&daemon, &["ledger", "get", "b", "in"]).await,
        "from\nstdin\n\n"
    );

    assert_eq!(said(&daemon, &["ledger", "rm", "b", "k"]).await, "");
    assert_eq!(
        refused(&daemon, 1, &["--json", "ledger", "rm", "b", "k"]).await,
        "not_found"
    );
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(
        refused(&daemon, 2, &["--json", "ledger", "put", "b", "k", &long]).await,
        "usage"
    );
}

#[tokio::test]
async fn an_export_can_be_imported() {
    let daemon = Daemon::start().await;
    daemon.node.take(entry(2, "b", "k", b"v"));
    let file = daemon.dir.path().join("export.json");
    let path = file.to_str().unwrap();
    assert!(
        said(&daemon, &["ledger", "export", path])
            .await
            .starts_with("1 entries")
    );
    let imported = json(&daemon, &["ledger", "import", path, "--json"]).await;
    assert_eq!(imported["taken"], 1);
    std::fs::write(&file, "{").unwrap();
    assert_eq!(
        refused(&daemon, 2, &["--json", "ledger", "import", path]).await,
        "usage"
    );
}

#[tokio::test]
async fn streams_are_flushed_line_by_line_and_end_without_a_reader() {
    let daemon = Daemon::start().await;
    let mut watch = Running::start(warren(&daemon, &["ledger", "watch", "b", "--json"]));
    let mut events = Running::start(warren(&daemon, &["events"]));
    // Nothing says that the commands watch already; so it happens until they have seen it.
    let (change, event) = timeout(DEADLINE, async {
        loop {
            daemon.node.take(entry(2, "b", "k", b"v"));
            let both = async { tokio::join!(watch.line(), events.line()) };
            if let Ok(lines) = timeout(DEADLINE / 100, both).await {
                break lines;
            }
        }
    })
    .await
    .unwrap();
    let change: Value = serde_json::from_str(&change).unwrap();
    assert_eq!(change["event"], "ledger");
    assert_eq!(change["value"], "v");
    assert!(event.contains("b k written by"), "{event}");

    drop(events.lines);
    let mut stderr = events.child.stderr.take().unwrap();
    let ended = async {
        while events.child.try_wait().unwrap().is_none() {
            daemon.node.take(entry(2, "b", "k", b"v"));
            tokio::task::yield_now().await;
        }
        events.child.wait().await.unwrap().code()
    };
    assert_eq!(timeout(DEADLINE, ended).await.unwrap(), Some(0));
    let mut text = String::new();
    stderr.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "");
}

#[tokio::test]
async fn a_watch_of_nodes_shows_them_come_and_go() {
    let daemon = Daemon::start().await;
    let mut watch = Running::start(warren(&daemon, &["nodes", "--watch", "--json"]));
    let first: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(first["event"], "nodes");
    assert_eq!(
        first["nodes"],
        json(&daemon, &["nodes", "--json"]).await["nodes"]
    );
    for online in [true, false] {
        daemon.node.set_online(2, online);
        let change: Value = serde_json::from_str(&watch.line().await).unwrap();
        assert_eq!(change["event"], "node");
        assert_eq!(change["node"]["id"], id(2).to_string());
        assert_eq!(change["node"]["online"], online);
    }
    daemon.node.change(|view| {
        view.nodes.remove(&id(3));
    });
    let change: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(change["event"], "node_removed");
    watch.signal(Signal::INT);
    assert_eq!(watch.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_watch_of_services_off_a_terminal_is_lines_of_json_until_the_daemon_stops() {
    let daemon = Daemon::start().await;
    let mut watch = Running::start(warren(&daemon, &["services", "--watch"]));
    let first: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(first["event"], "services");
    daemon.node.serve_one();
    let change: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(
        (&change["event"], &change["service"]),
        (&"service".into(), &"lab_federated".into())
    );
    daemon.cancel.cancel();
    assert_eq!(watch.exit_code().await, Some(1));
    let both = ["services", "--watch", "--roles", "--json"];
    assert_eq!(run(&daemon, &both).await.status.code(), Some(2));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_watch_on_a_terminal_draws_its_table_anew() {
    let daemon = Daemon::start().await;
    let program = env!("CARGO_BIN_EXE_warren");
    for no_colour in ["", "1"] {
        // util-linux's script gives the command a terminal. A shell that stayed between the two
        // would take the Ctrl-C as well, and end with its own code.
        let mut command = Command::new("script");
        command
            .args([
                "-qec",
                &format!("exec {program} nodes --watch"),
                "/dev/null",
            ])
            .env("WARREN_DATA_DIR", daemon.dir.path())
            .env("NO_COLOR", no_colour)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let Ok(mut script) = command.spawn() else {
            return;
        };
        let mut stdout = script.stdout.take().unwrap();
        let mut shown = String::new();
        read_until(&mut stdout, &mut shown, DRAWN).await;
        assert!(shown.contains("gone since 2023"), "{shown:?}");
        shown.clear();
        daemon.node.set_online(2, true);
        read_until(&mut stdout, &mut shown, DRAWN).await;
        assert!(shown.contains("\u{1b}[4F"), "over the last one: {shown:?}");
        assert!(!shown.contains("2023"), "nobody is gone since: {shown:?}");
        let is_coloured = shown.contains("\u{1b}[38;5;10m");
        assert_eq!(is_coloured, no_colour.is_empty(), "{shown:?}");
        // Ctrl-C.
        script
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\x03")
            .await
            .unwrap();
        let code = timeout(DEADLINE, script.wait()).await.unwrap().unwrap();
        assert_eq!(code.code(), Some(0));
        daemon.node.set_online(2, false);
    }
}

/// What ends a drawing: lines wrap again.
const DRAWN: &str = "\u{1b}[?7h";

/// Reads on until `text` is there.
async fn read_until(from: &mut ChildStdout, shown: &mut String, text: &str) {
    let mut buffer = [0; 4096];
    while !shown.contains(text) {
        let read = timeout(DEADLINE, from.read(&mut buffer)).await.unwrap();
        let len = read.unwrap();
        assert!(len > 0, "no {text:?} in {shown:?}");
        shown.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
}

#[tokio::test]
async fn drain_is_switched() {
    let daemon = Daemon::start().await;
    assert!(said(&daemon, &["drain"]).await.starts_with("draining"));
    assert_eq!(daemon.node.status().state, "draining");
    let document = json(&daemon, &["drain", "--off", "--json"]).await;
    assert_eq!(document["draining"], false);
    assert_eq!(daemon.node.status().state, "running");
}
