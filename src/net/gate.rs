//! The gate, shared: the socket filter, TLS and the accept loop all ask the same one (A8).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::mesh::filter::{Datagram, classify};
use crate::mesh::id::NodeId;
use crate::mesh::keys::{NONCE_BYTES, NetworkKeys, Target};
use crate::mesh::knock::{Gate, Knock};

use super::cid::OwnCids;

/// Handle to the process's gate and its connection ids.
#[derive(Clone)]
pub struct SharedGate {
    gate: Arc<Mutex<Gate>>,
    cids: OwnCids,
    clock: Clock,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not from a member.
    Drop,
    /// It opens a connection on the shard it has come to, whichever that is.
    Here,
    /// It belongs to a connection on this shard.
    Shard(u32),
}

impl SharedGate {
    /// Opens the gate of `me`; `open == false` makes an observer that nobody can dial.
    pub fn new(clock: Clock, network: NetworkKeys, me: NodeId, open: bool) -> Self {
        Self {
            gate: Arc::new(Mutex::new(Gate::new(clock.now(), network, me, open))),
            cids: OwnCids::default(),
            clock,
        }
    }

    /// The gate itself. It is held for one decision at a time, never across an await; a panic
    /// while it was held left no half-made decision behind.
    pub fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same gate, for sockets of so many shards.
    pub(super) fn among(mut self, shards: u32) -> Self {
        self.cids = self.cids.among(shards);
        self
    }

    /// Generator of this process's connection ids.
    pub fn cids(&self) -> OwnCids {
        self.cids.clone()
    }

    /// The clock the gate is turned by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether a datagram that came to `to` may go on to QUIC, and where.
    pub fn judge(&self, datagram: &[u8], to: Option<SocketAddr>) -> Verdict {
        match classify(datagram) {
            Datagram::Drop => Verdict::Drop,
            Datagram::ForConnection(cid) => match self.cids.shard(&cid) {
                Some(shard) => Verdict::Shard(shard),
                None => Verdict::Drop,
            },
            Datagram::Knock(dcid) => {
                let now = self.clock.now();
                let mut gate = self.lock();
                gate.turn(now);
                match gate.admit(now.mono, &dcid, to) {
                    true => Verdict::Here,
                    false => Verdict::Drop,
                }
            }
        }
    }

    /// A fresh knock at `target`, `epoch_offset` epochs from now.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn knock(
        &self,
        target: &Target,
        epoch_offset: i64,
    ) -> Result<Knock, aws_lc_rs::error::Unspecified> {
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce)?;
        let now = self.clock.now();
        let mut gate = self.lock();
        gate.turn(now);
        Ok(Knock::make(
            gate.dial_keys(now, epoch_offset),
            &nonce,
            target,
        ))
    }
}
