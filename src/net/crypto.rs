//! QUIC Initial packets keyed by the network's secret (security.md §3.3, amendment A2).
//!
//! rustls derives Initial keys from the client's first connection id. These wrappers put in its
//! place a value that only members can compute. There is no way back to the public keys of QUIC
//! v1: what is not remembered gets keys from random bytes, which fit nothing.

use std::any::Any;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

use crate::mesh::knock::{Dcid, Knock};

use super::gate::SharedGate;

/// Server side: looks up what the filter remembered of a knock.
pub struct KeyedServer {
    inner: Arc<QuicServerConfig>,
    gate: SharedGate,
}

impl KeyedServer {
    /// Wraps rustls' configuration.
    pub fn new(inner: Arc<QuicServerConfig>, gate: SharedGate) -> Self {
        Self { inner, gate }
    }
}

impl crypto::ServerConfig for KeyedServer {
    fn initial_keys(&self, version: u32, dcid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        // An error makes QUIC drop the packet silently, before it makes any state. It asks for
        // first packets only, so a knock that was used is a replay.
        let input = self
            .gate
            .lock()
            .recall_unused(dcid)
            .map(|knock| knock.initial_input);
        let input = input.ok_or(UnsupportedVersion)?;
        self.inner.initial_keys(version, &ConnectionId::new(&input))
    }

    fn retry_tag(&self, version: u32, orig_dcid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dcid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let inner = Arc::clone(&self.inner).start_session(version, params);
        Box::new(KeyedSession {
            inner,
            initial: Initial::Remembered(self.gate.clone()),
        })
    }
}

/// Client side of one dial: the knock is fixed for all of it.
pub struct KeyedClient {
    inner: Arc<QuicClientConfig>,
    dcid: Dcid,
    input: Dcid,
}

impl KeyedClient {
    /// Wraps rustls' configuration for the dial made with `knock`.
    pub fn new(inner: Arc<QuicClientConfig>, knock: &Knock) -> Self {
        Self {
            inner,
            dcid: knock.dcid,
            input: knock.initial_input,
        }
    }
}

impl crypto::ClientConfig for KeyedClient {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.inner).start_session(version, server_name, params)?;
        let initial = Initial::Dialled {
            dcid: self.dcid,
            input: self.input,
        };
        Ok(Box::new(KeyedSession { inner, initial }))
    }
}

enum Initial {
    Remembered(SharedGate),
    Dialled { dcid: Dcid, input: Dcid },
}

impl Initial {
    fn input(&self, dcid: &ConnectionId) -> Dcid {
        let known = match self {
            Self::Remembered(gate) => gate.lock().recall(dcid).map(|knock| knock.initial_input),
            Self::Dialled { dcid: own, input } => (own[..] == dcid[..]).then_some(*input),
        };
        known.unwrap_or_else(rand::random)
    }
}

struct KeyedSession {
    inner: Box<dyn Session>,
    initial: Initial,
}

impl Session for KeyedSession {
    fn initial_keys(&self, dcid: &ConnectionId, side: Side) -> Keys {
        let input = self.initial.input(dcid);
        self.inner.initial_keys(&ConnectionId::new(&input), side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.inner.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dcid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dcid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}
