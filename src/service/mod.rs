//! The data plane: TCP connections carried between a client, the mesh and a real server.
//! It takes no decision about the mesh and knows no link, ledger or store: the node hands it a
//! [`View`](crate::mesh::view::View) and streams ([`tunnels::Tunnels`]), it hands back readiness,
//! counts and summaries. [`ip_table`] and [`networks`] have a store: they work without a node, too.
//!
//! | module | does |
//! |---|---|
//! | [`spec`] | what users ask for |
//! | [`expose`] | egress: the side next to the real server; [`opening`] is how a stream begins, `server` the way to it |
//! | [`ingress`] | the local listener; `connection` is one client, `replay` its second chance |
//! | [`pipe`] | copies both directions of one connection, keeping TCP's meaning; [`end`] is one side, [`client`] a client's, [`held`] what waits |
//! | [`udp`] | the same for datagrams |
//! | [`page`], [`head`] | our own HTTP answers when nothing can serve |
//! | [`listen`] | sockets that clients come to |
//! | [`tls`] | TLS towards clients |
//! | [`measure`] | throughput of the way to another node, asked and served |
//! | [`frps`] | FRP servers for P2PRC nodes that ask for a relay: processes that it starts and ends |
//! | [`probe`] | asks many P2PRC servers at once over HTTP whether they answer, and how fast |
//! | [`counts`] | connections per service and node |
//! | [`ip_table`] | machines that are reached by address: the one way to read and change them |
//! | [`crawl`] | looks at those networks, many at once, and notes what it found |
//! | [`networks`] | the same for the networks of an explorer |

pub mod client;
#[cfg(feature = "p2p")]
mod connection;
#[cfg(feature = "p2p")]
pub mod counts;
#[cfg(feature = "p2p")]
pub mod crawl;
#[cfg(feature = "p2p")]
pub mod end;
#[cfg(feature = "p2p")]
pub mod expose;
#[cfg(feature = "p2p")]
mod far;
pub mod frps;
#[cfg(feature = "p2p")]
pub mod head;
#[cfg(feature = "p2p")]
mod health;
#[cfg(feature = "p2p")]
pub mod held;
#[cfg(feature = "p2p")]
pub mod ingress;
pub mod ip_table;
pub mod listen;
#[cfg(feature = "p2p")]
pub mod measure;
pub mod networks;
#[cfg(feature = "p2p")]
pub mod opening;
#[cfg(feature = "p2p")]
pub mod page;
#[cfg(feature = "p2p")]
pub mod pipe;
pub mod probe;
#[cfg(feature = "p2p")]
mod refused;
#[cfg(feature = "p2p")]
mod replay;
#[cfg(feature = "p2p")]
mod scratch;
#[cfg(feature = "p2p")]
mod server;
pub mod spec;
pub mod tls;
#[cfg(feature = "p2p")]
pub mod tunnels;
#[cfg(feature = "p2p")]
pub mod udp;
#[cfg(feature = "p2p")]
mod until;
