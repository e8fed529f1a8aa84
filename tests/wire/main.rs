//! The transport, over real sockets: what an outsider, a wrong clock, a hostile member and an
//! observer can and cannot do.
//!
//! `WARREN_LONG=1` lengthens [`rotation`] from 12 seconds to a minute (30 epochs), see
//! `tests/README.md`.
#![cfg(feature = "p2p")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::cast_possible_truncation)]

mod close;
mod document;
mod duplicates;
mod flood;
mod hostile;
mod initial;
mod limits;
mod looks;
mod measure;
mod observer;
mod outage;
mod pinning;
mod proxy;
mod puppet;
mod rig;
mod rotation;
mod rough;
mod shards;
mod silence;
mod skew;
mod slow;
mod trim;
mod vectors;
