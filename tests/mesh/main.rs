//! The whole way with real processes: daemons of this very binary on loopback, real servers
//! behind them, real clients in front. One file per topic.

// clippy.toml lets tests panic; their helpers here are tests too.
#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod common;

mod balance;
mod commands;
mod demo;
mod durable;
mod failover;
mod localai;
mod pages;
mod proxy_protocol;
mod shards;
mod udp;
