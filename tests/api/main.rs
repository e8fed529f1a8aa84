//! The admin socket, its client and the loopback HTTP server, over a node that is only pretended.

mod admin;
mod daemon;
mod fake;
mod http;
mod roles;
mod shapes;
mod streams;
