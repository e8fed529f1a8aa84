//! The mesh's decisions under a simulator: real brains, virtual time, seeded chance.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod convergence;
mod dialling;
mod hostile;
mod knobs;
mod ledger;
mod membership;
mod paths;
mod pinned;
mod soak;
mod witnesses;
mod world;
