//! # warren
//!
//! A private mesh for machines that serve AI models. (Crate documentation follows.)

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
pub use mesh::records::VERSION;
pub use mesh::token::Token;
#[cfg(feature = "p2p")]
pub use node::{Ledger, Node, NodeBuilder};
