//! `explorer tokens` with real processes, with a daemon and without one, and under kill -9.
#![cfg(target_os = "linux")]
// clippy.toml's allowance ends at the test functions; the helpers here are tests too.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs
)]

#[path = "../common/schema.rs"]
mod closed;
mod commands;
mod crash;
#[path = "../ops/world.rs"]
mod world;

use std::process::{Output, Stdio};
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use closed::{assert_valid, validator};
use world::World;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator("networks"));

/// Written by LocalAI.
const EXPLORER: &str = include_str!("../fixtures/explorer.json");

/// One directory and the networks in it.
struct Tokens<'w> {
    world: &'w World,
    data: &'static str,
}

impl<'w> Tokens<'w> {
    fn new(world: &'w World, data: &'static str) -> Self {
        Self { world, data }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["explorer", "tokens"], args, &["--data-dir", self.data]].concat()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.world.run(&self.args(args))
    }

    fn said(&self, args: &[&str]) -> String {
        self.world.said(&self.args(args))
    }

    /// The document of a command that must succeed, which keeps to the schema.
    fn json(&self, args: &[&str]) -> Value {
        let document = self.world.json(&self.args(&[args, &["--json"]].concat()));
        assert_valid(&SCHEMA, "networks", &document);
        document
    }

    /// What a command says that must end with `code`.
    fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains("error: "), "{text}");
        text
    }

    fn import(&self, document: &str, more: &[&str]) -> Value {
        std::fs::write(self.world.path("given.json"), document).unwrap();
        self.json(&[&["import", "given.json"], more].concat())
    }

    /// Adds the network of a token that comes from standard input; its fingerprint.
    fn add(&self, token: &str, more: &[&str]) -> String {
        std::fs::write(self.world.path("stdin"), token).unwrap();
        let args = [&["add", "-", "--json"], more].concat();
        let mut command = self.world.command(&self.args(&args));
        let stdin = std::fs::File::open(self.world.path("stdin")).unwrap();
        let output = command
            .stdin(stdin)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_valid(&SCHEMA, "networks", &document);
        document["fingerprint"].as_str().unwrap().to_owned()
    }

    fn rows(&self) -> Vec<Value> {
        let list = self.json(&["ls", "--sort", "name"]);
        list["networks"].as_array().unwrap().clone()
    }
}

fn new_token(world: &World) -> String {
    world.said(&["token", "new"]).trim().to_owned()
}
