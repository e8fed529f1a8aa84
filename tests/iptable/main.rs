//! The IP table as a user of P2PRC meets it: real processes, with a daemon and without one. The
//! numbers in names are the cases of P2PRC's behaviour that are kept or mended.
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
mod crash;
mod documents;
#[cfg(feature = "p2p")]
mod mesh;
mod offline;
mod probe;
#[cfg(feature = "p2p")]
mod refresh;
mod schema;
#[path = "../probe/server.rs"]
mod server;
#[path = "../ops/world.rs"]
mod world;

use std::process::Output;

use serde_json::{Value, json};

use world::World;

/// One directory and the table in it.
struct Table<'w> {
    world: &'w World,
    data: &'static str,
}

impl<'w> Table<'w> {
    fn new(world: &'w World, data: &'static str) -> Self {
        Self { world, data }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["iptable"], args, &["--data-dir", self.data]].concat()
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
        schema::assert_iptable(&document);
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

    /// A table that must be refused, and what is said about it.
    fn refuses(&self, document: impl AsRef<[u8]>) -> String {
        std::fs::write(self.world.path("given.json"), document).unwrap();
        let text = self.refused(2, &["import", "given.json"]);
        assert!(text.contains("given.json: "), "no file: {text}");
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n'),
            "{text:?}"
        );
        text
    }

    fn rows(&self) -> Vec<Value> {
        let list = self.json(&["ls", "--sort", "address"]);
        list["ip_table"].as_array().unwrap().clone()
    }

    /// One field of each row.
    fn all(&self, field: &str) -> Value {
        let rows = self.rows();
        rows.iter().map(|row| row[field].clone()).collect()
    }

    fn export(&self) -> String {
        self.said(&["export"])
    }
}

/// A table of P2PRC with these rows.
fn document(rows: &Value) -> String {
    json!({ "ip_address": rows }).to_string()
}
