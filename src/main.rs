//! The `warren` command. Everything it does goes through the public library.

#![cfg_attr(not(feature = "p2p"), allow(dead_code))]

mod cli;
mod config;

use std::process::ExitCode;

/// Tunnels allocate and free in several tasks; this allocator keeps that off the system's lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
