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
#[path = "../common/group.rs"]
mod group;
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

use std::ops::Deref;

use serde_json::{Value, json};

use group::Group;
use world::World;

/// One directory and the table in it.
struct Table<'w>(Group<'w>);

impl<'w> Deref for Table<'w> {
    type Target = Group<'w>;

    fn deref(&self) -> &Group<'w> {
        &self.0
    }
}

impl<'w> Table<'w> {
    fn new(world: &'w World, data: &'static str) -> Self {
        Self(Group {
            world,
            data,
            words: &["iptable"],
            check: schema::assert_iptable,
        })
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
