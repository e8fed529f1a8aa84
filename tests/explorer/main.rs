//! The explorer as its clients meet it: real processes asked over HTTP, by commands, and by a
//! browser. Nothing here leaves the machine.
#![cfg(target_os = "linux")]
// clippy.toml's allowance ends at the test functions; the helpers here are tests too.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    missing_docs
)]

mod browser;
#[path = "../common/schema.rs"]
mod closed;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod hostile;
mod life;
mod limits;
#[cfg(feature = "p2p")]
mod looks;
mod routes;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use common::http::{self, Answer};
use common::{Process, warren};

const JSON: &str = "Content-Type: application/json\r\n";

/// A process that serves an explorer on a directory of its own.
struct Board {
    home: TempDir,
    process: Process,
    ready: Value,
    at: SocketAddr,
}

impl Board {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        Self::on(TempDir::new().unwrap(), flags)
    }

    /// On a directory that may have been served before.
    fn on(home: TempDir, flags: &[&str]) -> Self {
        let dir = home.path().join("data");
        let log = home.path().join("log");
        let mut command = warren(&dir, &["explorer", "serve", "--address", "127.0.0.1:0"]);
        command
            .args(["--print-ready", "--exit-with-stdin"])
            .args(flags);
        let file = File::options().create(true).append(true).open(&log);
        command.stdin(Stdio::piped()).stderr(file.unwrap());
        let mut process = Process::start(command);
        let Some(line) = process.try_line() else {
            panic!(
                "no ready line\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self {
            at: ready["explorer"].as_str().unwrap().parse().unwrap(),
            home,
            process,
            ready,
        }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Stops it as a service manager does; its exit code, and the directory.
    fn stop(mut self) -> (i32, TempDir) {
        self.process.signal(rustix::process::Signal::TERM);
        let status = self.process.wait();
        (status.code().unwrap(), self.home)
    }

    fn get(&self, path: &str) -> Answer {
        http::get(self.at, path).unwrap()
    }

    fn get_with(&self, path: &str, headers: &str) -> Answer {
        http::get_with(self.at, path, headers).unwrap()
    }

    fn post(&self, body: &[u8]) -> Answer {
        http::post_with(self.at, "/network/add", JSON, body.to_vec()).unwrap()
    }

    fn add(&self, body: &Value) -> Answer {
        self.post(body.to_string().as_bytes())
    }

    /// Adds a network, and returns its token.
    fn added(&self, name: &str) -> String {
        let token = new_token();
        let answer = self.add(&json!({"token": token, "name": name, "description": "of a test"}));
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"message":"Token added"}"#)
        );
        token
    }

    fn networks(&self, query: &str) -> Value {
        let answer = self.get(&format!("/api/v1/networks{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// A command of the operator, on the directory that is being served.
    fn tokens(&self, args: &[&str]) -> Value {
        tokens(&self.dir(), args)
    }

    /// Takes in a document of LocalAI's.
    fn import(&self, document: &Value) {
        import(self.home.path(), &self.dir(), document);
    }
}

fn tokens(dir: &Path, args: &[&str]) -> Value {
    let args = [&["explorer", "tokens"], args, &["--json"]].concat();
    let output = warren(dir, &args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn import(home: &Path, dir: &Path, document: &Value) {
    let file = home.join("import.json");
    std::fs::write(&file, document.to_string()).unwrap();
    tokens(dir, &["import", file.to_str().unwrap()]);
}

fn new_token() -> String {
    let token = warren::Token::generate(&mut rand::rng(), 9_000, 360).unwrap();
    token.to_text().to_string()
}

/// A row of LocalAI's file with a cluster.
fn with_workers(name: &str, kind: &str, network_id: &str, workers: usize) -> Value {
    let workers: Vec<String> = (0..workers)
        .map(|n| format!("host{n}-AbCdEfGhIj"))
        .collect();
    json!({
        "name": name,
        "description": format!("about {name}"),
        "Clusters": [{"Workers": workers, "Type": kind, "NetworkID": network_id}],
        "Failures": 0,
    })
}
