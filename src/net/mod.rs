//! The wire: QUIC endpoints that only members can speak to, links between nodes, and dials.
//!
//! | module | does |
//! |---|---|
//! | [`gate`] | shares the pure [`crate::mesh::knock::Gate`] between sockets, TLS and the accept loop |
//! | [`socket`] | drops every datagram that is not from a member, before QUIC sees it |
//! | [`crypto`] | keys QUIC Initial packets with the network's secret |
//! | [`verify`] | raw public keys: who the peer is, pinned or learnt once |
//! | [`endpoint`] | one QUIC endpoint per listen address, client and server on one socket |
//! | `runtime` | tokio for QUIC, with timers that do not wake the process for nothing |
//! | [`shards`] | the threads that carry bytes; `sockets`: those of each address |
//! | `steer`, `kernel` | hand datagrams over to the shard they belong to |
//! | [`hello`] | the first exchange on a connection; only then is it a link |
//! | `hub`, `setup` | all of it together; what that is made from and hands on |
//! | [`link`] | frames, streams and the end of a link |
//! | [`tunnel`] | what counts a tunnel on its link, and what the two hear of each other |
//! | `window`, `congestion` | how much of a link may wait, and how much of a path may be under way |
//! | `mtu` | how large datagrams to a peer may become |
//! | `close` | ends a connection so that its peer hears why |
//! | [`flow`] | datagrams of a link, by flow |
//! | [`dial`] | races addresses until a Hello is checked |
//! | [`observe`] | looks at a network without being a member; `sparing` is its socket |
//! | [`accept`] | lets knocks in, once each, within limits |
//! | [`refused`] | counts what was not let in, by reason |
//! | [`addresses`] | where this machine can be reached |
//!
//! It decides nothing about the mesh: links and frames go to the driver, effects come back.

pub mod accept;
pub mod addresses;
pub mod cid;
pub mod crypto;
pub mod dial;
pub mod endpoint;
pub mod flow;
pub mod gate;
pub mod hello;
pub mod link;
pub mod observe;
pub mod refused;
pub mod shards;
pub mod socket;
pub mod tunnel;
pub mod verify;

mod batch;
mod bind;
mod close;
mod congestion;
mod hub;
#[cfg(target_os = "linux")]
mod kernel;
mod mtu;
mod runtime;
mod setup;
mod sockets;
mod sparing;
mod steer;
mod udp;
mod window;

pub use hub::Net;
pub use setup::{LinkEvent, NetError, NetSetup, OpenError, TunnelSink};
