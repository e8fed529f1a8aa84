//! A private mesh for machines that serve AI models: one token joins machines to a network, each
//! offers its servers to it, and one address on any machine uses them all.
//!
//! The program is `warren`; this library is everything it does. README.md says how to use the
//! program, `schema/` what is on the wire and on disk. This page is the architecture.
//!
//! # Embedding
//!
//! Any number of nodes run in one process, each with its own data directory:
//!
#![cfg_attr(feature = "p2p", doc = "```")]
#![cfg_attr(not(feature = "p2p"), doc = "```ignore")]
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//! use warren::node::{ExposeSpec, Failover, IngressSpec, Mode, RoleKind, Strategy};
//! use warren::{Node, Token};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let loopback = || vec![([127, 0, 0, 1], 0).into()];
//! // The first node founds a network; its join token is all that another machine needs.
//! let first = Node::builder().data_dir(dir.path().join("first")).listen(loopback());
//! let first = first.found(true).start().await?;
//! let token: Token = first.join_token();
//! let second = Node::builder().data_dir(dir.path().join("second")).listen(loopback());
//! let second = second.token(token).start().await?;
//!
//! // The first has a server, here one that says hello.
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let target = server.local_addr()?.to_string().parse()?;
//! tokio::spawn(async move {
//!     while let Ok((mut client, _)) = server.accept().await {
//!         let _ = client.write_all(b"hello").await;
//!     }
//! });
//! first.expose(ExposeSpec::new("chat".parse()?, target), false).await?;
//!
//! // The second has an address that leads to it.
//! let mut mesh = second.watch();
//! mesh.wait_for(|view| view.all_providers().any(|provider| provider.usable())).await?;
//! let role = second.ingress(IngressSpec {
//!     strategy: Strategy::LeastUsed,
//!     failover: Failover::Connect,
//!     mode: Mode::Tcp,
//!     tls: None,
//!     ..IngressSpec::new("chat".parse()?, "127.0.0.1:0".parse()?)
//! }, false).await?;
//! let RoleKind::Ingress { listen, .. } = role.kind else { unreachable!() };
//! let mut said = String::new();
//! TcpStream::connect(listen).await?.read_to_string(&mut said).await?;
//! assert_eq!(said, "hello");
//!
//! second.shutdown(false).await;
//! first.shutdown(false).await;
//! # Ok(()) }
//! ```
//!
//! `Node` is a handle, [`Token`] a network's key, `Ledger` its replicated map, [`IpTable`] what is
//! known of machines that are reached by address, [`NetworkDb`] what an explorer knows of networks.
//! [`Client`] asks a daemon that runs as another process.
//!
//! # One brain, many hands
//!
//! One state machine takes every decision of the control plane ([`mesh::brain`]). It has no socket,
//! no disk and no clock: it is told what happened and when, and returns what shall be done. The
//! driver is the one loop around it; everything with a file descriptor is a hand that feeds it
//! and carries out its effects. So the whole mesh runs in a simulator (`tests/sim`), many
//! nodes on virtual time. Bulk bytes never pass through the brain.
//!
//! ```text
//!   main, cli          one file per command: parse, call this library, print
//!     node             start and stop in a stated order; roles; the public API
//!    /    \
//! service  api         service: TCP in and out of the mesh · api: admin socket, loopback HTTP
//!    \    /
//!    driver            the loop: inputs to the brain, effects to the hands
//!    /    \
//!  net    store        net: QUIC for members only · store: one redb file, group commit
//!    \    /
//!  mesh, formats       decisions and documents: pure
//! ```
//!
//! A layer names only those below it; `net` and `store` do not know each other. A test holds that
//! (`tests/architecture.rs`), and that `mesh` and `formats` touch nothing outside themselves.
//!
//! # Ways of the data
//!
//! *A packet* comes to a filter ([`mesh::filter`]) first: what does not prove knowledge
//! of the token is dropped before QUIC sees it. A handshake pins the peer's Ed25519 key; a link is
//! up when Hello has proved the token a second time. Its frames become inputs of the brain.
//!
//! *A write to the ledger* is drafted and signed by the brain, committed by [`store`], and only
//! then merged, acknowledged and sent to the others. Links that come up repair what they missed by
//! set reconciliation; at rest the ledger costs no traffic.
//!
//! *A request* comes to an ingress, which picks the node with the fewest requests in flight out
//! of the brain's last view ([`mesh::view`], [`mesh::balance`]), opens a stream on the link to it
//! and copies bytes; the node beside the server connects to it and does the same. Until the first
//! byte came back the connection may move to another node.
//!
//! *All of that* runs on one thread. A node that was told to have more ([`mesh::shard`]) leaves
//! everything there but what carries bytes: each link is on one of the others, with its socket,
//! its connection and its tunnels (`net::shards`), and a connection id names which.
//!
//! *Datagrams of a client* make a flow ([`mesh::flows`]), which gets a node as a connection does.
//! They go beside its stream ([`mesh::datagram`]) and are never waited for; when the node has
//! gone, the next one chooses another.
//!
//! *A look of an explorer* ([`mesh::observer`]) is no membership: a dial whose Hello says so, one
//! answer with who is online and the workers, and the end. Whom it may dial is decided in
//! [`mesh::restraint`]; `service::crawl` looks at many networks at once and notes what it found.
//!
//! # What holds
//!
//! - Whoever does not have the token gets not one byte of answer.
//! - A node speaks for itself only: entries are signed, ids are keys, keys are pinned.
//! - Members are not trusted to be correct: what they send is bounded before it is read, and a
//!   refusal is counted, for them alone.
//! - What was acknowledged is on disk. A damaged file is reported and never overwritten.
//! - A full disk stops writes, nothing else.
//! - No log, error or `Debug` holds a secret; secrets are wiped from memory.
//! - A node that died or froze is left out within 3 s, one that leaves or drains at once.
//! - A node stops in order: announce, stop accepting, drain until the deadline, last commit, close.
//!
//! # Without the mesh
//!
//! Without the cargo feature `p2p` there are no `driver`, `net` and `node`: what is left reads and
//! writes documents, tokens and data directories, and asks running daemons.

pub mod api;
pub mod clock;
#[cfg(feature = "p2p")]
pub mod driver;
pub mod formats;
pub mod mesh;
#[cfg(feature = "p2p")]
pub mod net;
#[cfg(feature = "p2p")]
pub mod node;
pub mod service;
pub mod store;

pub use api::client::{Client, ClientError};
pub use mesh::token::Token;
#[cfg(feature = "p2p")]
pub use node::{Ledger, Node, NodeBuilder};
#[cfg(feature = "p2p")]
pub use service::crawl::Crawler;
pub use service::ip_table::IpTable;
pub use service::networks::NetworkDb;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
