//! The token: one line that makes a machine a member. SKELETON.

use super::addr::PeerAddr;

/// A network's token. Has no `Debug` that prints the secret.
#[derive(Clone)]
pub struct Token {
    /// Nodes to dial first, at most 8; every one carries an id.
    pub bootstrap: Vec<PeerAddr>,
}
