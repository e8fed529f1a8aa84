//! The demo with real processes: it serves, survives a killed node, and leaves nothing behind.

// clippy.toml lets tests panic; their helpers here are tests too.
#![cfg(all(feature = "p2p", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(60);

struct Demo {
    process: Child,
    federated: String,
    nodes: Vec<Value>,
    temp: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_warren"))
            .args(["demo", "--json"])
            .env_clear()
            .env("HOME", temp.path())
            .env("TMPDIR", temp.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap();
        let ready: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        Self {
            process,
            federated: ready["federated"].as_str().unwrap().to_owned(),
            nodes: ready["nodes"].as_array().unwrap().clone(),
            temp,
        }
    }

    fn pids(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .map(|node| node["pid"].as_u64().unwrap())
            .collect()
    }

    /// The node that answered a chat request.
    async fn ask(&self) -> String {
        let body = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(&self.federated).await?;
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(DEADLINE, exchange).await.unwrap().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let document: Value = serde_json::from_str(body).expect(&answer);
        document["system_fingerprint"].as_str().unwrap().to_owned()
    }

    fn homes(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.temp.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_string_lossy().contains("warren-demo"))
            .collect()
    }
}

fn signal(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

async fn all_gone(pids: &[u64]) {
    let gone = async {
        while pids
            .iter()
            .any(|pid| Path::new(&format!("/proc/{pid}")).exists())
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, gone)
        .await
        .expect("nodes outlived the demo");
}

#[tokio::test]
async fn it_serves_survives_a_killed_node_and_leaves_nothing_behind() {
    let mut demo = Demo::start().await;
    assert_eq!(demo.nodes.len(), 4, "three nodes and the federated address");
    let mut answered: Vec<String> = Vec::new();
    for _ in 0..3 {
        answered.push(demo.ask().await);
    }
    answered.sort();
    assert_eq!(
        answered,
        ["node-1", "node-2", "node-3"],
        "the least used one answers"
    );

    signal(demo.nodes[1]["pid"].as_u64().unwrap(), Signal::KILL);
    for _ in 0..6 {
        assert_ne!(demo.ask().await, "node-2", "a killed node answered");
    }

    let pids = demo.pids();
    signal(u64::from(demo.process.id().unwrap()), Signal::TERM);
    let status = timeout(DEADLINE, demo.process.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    all_gone(&pids).await;
    assert_eq!(demo.homes(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn its_nodes_do_not_outlive_it_when_it_is_killed() {
    let mut demo = Demo::start().await;
    let pids = demo.pids();
    demo.process.kill().await.unwrap();
    all_gone(&pids).await;
}
