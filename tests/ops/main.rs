//! The daemon as people who run machines meet it: refusals at the start, full and read-only
//! disks, service managers, logs, and what the documents promise. Real processes only.
#![cfg(all(feature = "p2p", target_os = "linux"))]
// clippy.toml's allowance ends at the test functions; the helpers here are tests too.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs
)]

mod disk;
mod documents;
mod names;
#[path = "../common/schema.rs"]
mod schema;
mod schemas;
mod start;
mod supervised;
mod tokens;
mod world;
