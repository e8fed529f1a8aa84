//! The admin socket, its client and the loopback HTTP server, over a node that is only pretended.

// clippy.toml lets tests panic; their helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin;
mod daemon;
mod events;
mod fake;
mod http;
mod roles;
#[path = "../common/schema.rs"]
mod schema;
mod shapes;
mod streams;
