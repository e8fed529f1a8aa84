//! `warren explorer sync`, with a process on the data directory and without one.

use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use warren::clock::Clock;

use crate::explorer::*;
use crate::rig::{DEADLINE, home};
use crate::schema::{assert_valid, validator};

fn warren(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
    command
        .args(args)
        .env_clear()
        .env("HOME", dir)
        .env("WARREN_DATA_DIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(dir: &Path, args: &[&str]) -> Output {
    let output = warren(dir, args).output();
    let output = tokio::time::timeout(DEADLINE, output).await;
    output.expect("the command does not end").unwrap()
}

async fn done(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args).await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn sync_json(dir: &Path) -> Value {
    let args = ["explorer", "sync", "--once", "--json", "--allow-private"];
    let text = done(dir, &args).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_valid(&validator("sync"), "sync", &document);
    document
}

/// `explorer sync` without `--once`, once it says that it looks.
async fn syncing(dir: &Path) -> Child {
    let args = ["explorer", "sync", "--allow-private"];
    let mut child = warren(dir, &args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(DEADLINE, lines.next_line()).await;
    let first = first.expect("it says nothing").unwrap().unwrap();
    assert_eq!(first, "looking at 2 networks");
    child
}

#[tokio::test]
async fn sync_looks_by_itself_and_through_the_process_that_looks() {
    let dir = home(98);
    let dir = dir.path();
    let nothing = done(dir, &["explorer", "sync", "--once"]).await;
    assert_eq!(nothing, "no networks\n");

    let pair = pair(1, Clock::default(), |builder| builder).await;
    serve(&pair.first, &pair.second, "worker").await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for (name, token, at) in [
        ("garage", token_of(1), pair.first.addr().to_string()),
        ("dead\u{1b}[31m", token_of(2), silent),
    ] {
        let add = [
            "explorer",
            "tokens",
            "add",
            &token.to_text(),
            "--name",
            name,
        ];
        done(dir, &[&add[..], &["--bootstrap", &at]].concat()).await;
    }

    let strict = run(dir, &["explorer", "sync", "--once"]).await;
    assert!(
        strict.status.success(),
        "a network that does not answer is a result"
    );
    let text = String::from_utf8(strict.stdout).unwrap();
    assert!(text.contains("is not an address of the internet"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "a name reached the terminal: {text}"
    );
    assert!(text.ends_with("0 with workers, 2 without\n"), "{text}");

    let report = sync_json(dir).await;
    let counts = json!({"networks": 2, "active": 1, "missed": 1, "hidden": 0, "removed": 0,
        "unknown": 0, "gone": 0});
    assert_eq!(report["sync"], counts);
    let named = |name| {
        let all = report["networks"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let garage = named("garage");
    assert_eq!(garage["clusters"][0]["kind"], "worker");
    assert_eq!(
        (&garage["nodes"], &garage["workers"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (&garage["state"], &garage["failures"]),
        (&json!("active"), &json!(0))
    );
    assert_eq!(named("dead\u{1b}[31m")["failures"], 2);

    let mut process = syncing(dir).await;
    assert_eq!(
        sync_json(dir).await["sync"]["active"],
        1,
        "through the process"
    );
    let listed = done(dir, &["explorer", "tokens", "ls", "--json"]).await;
    assert!(listed.contains("garage"), "{listed}");
    let second = run(dir, &["explorer", "sync"]).await;
    assert_eq!(second.status.code(), Some(1));
    let refused = String::from_utf8(second.stderr).unwrap();
    assert!(
        refused.contains("another process has this data directory"),
        "{refused}"
    );

    let pid = Pid::from_raw(process.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(DEADLINE, process.wait()).await;
    assert!(ended.expect("it does not end").unwrap().success());
    let after = done(dir, &["explorer", "tokens", "ls", "--json"]).await;
    assert!(after.contains("\"failures\":3"), "{after}");
}

#[tokio::test]
async fn wrong_figures_are_refused_before_anything_is_done() {
    let dir = home(97);
    for args in [
        ["--crawl-concurrency", "0"],
        ["--crawl-concurrency", "1001"],
        ["--connection-error-threshold", "4294967296"],
        ["--connection-timeout", "soon"],
    ] {
        let args = [&["explorer", "sync", "--once"], &args[..]].concat();
        assert_eq!(
            run(dir.path(), &args).await.status.code(),
            Some(2),
            "{args:?}"
        );
    }
    assert!(!dir.path().join("warren.redb").exists());
}
