//! The explorer's crawler against real nodes on loopback: what one pass finds out, and what it
//! must not do.
#![cfg(feature = "p2p")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod explorer;
mod pass;
mod restraint;
#[path = "../wire/rig.rs"]
#[allow(dead_code)] // the rest is for the tests of the wire
mod rig;
#[path = "../common/schema.rs"]
mod schema;
