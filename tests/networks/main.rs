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
#[path = "../common/group.rs"]
mod group;
#[path = "../ops/world.rs"]
mod world;

use std::ops::Deref;
use std::process::Stdio;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use closed::{assert_valid, validator};
use group::Group;
use world::World;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator("networks"));

/// Written by LocalAI.
const EXPLORER: &str = include_str!("../fixtures/explorer.json");

/// One directory and the networks in it.
struct Tokens<'w>(Group<'w>);

impl<'w> Deref for Tokens<'w> {
    type Target = Group<'w>;

    fn deref(&self) -> &Group<'w> {
        &self.0
    }
}

impl<'w> Tokens<'w> {
    fn new(world: &'w World, data: &'static str) -> Self {
        Self(Group {
            world,
            data,
            words: &["explorer", "tokens"],
            check: |document| assert_valid(&SCHEMA, "networks", document),
        })
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
