//! The end of a connection, told to the peer whatever else is under way.
//!
//! quinn-proto 0.11 holds a CONNECTION_CLOSE back like data while the congestion window is full,
//! and nothing opens the window of a closed connection: acknowledgements are read no more. The
//! peer would learn of the end from the silence, and never why (quinn-rs/quinn#2785). The window
//! is therefore lifted first.

use quinn::{Connection, Endpoint, VarInt};

use crate::mesh::close::CloseCode;

use super::congestion;

/// Closes `connection` now, for `code`.
pub(super) fn close(connection: &Connection, code: CloseCode) {
    congestion::lift(connection);
    connection.close(number(code), code.meaning().as_bytes());
}

/// Closes `endpoint` with the connections that are left. Whoever was sent much is closed before.
pub(super) fn close_endpoint(endpoint: &Endpoint, code: CloseCode) {
    endpoint.close(number(code), code.meaning().as_bytes());
}

fn number(code: CloseCode) -> VarInt {
    VarInt::from_u32(code as u32)
}
