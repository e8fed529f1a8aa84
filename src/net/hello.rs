//! The exchange that turns a connection into a link: each side proves membership a second time,
//! over the TLS exporter, and says which start of which node it is.

use std::convert::Infallible;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};

use crate::mesh::alive::Alive;
use crate::mesh::close::CloseCode;
use crate::mesh::hello::{Hello, HelloError, MAX_HELLO_BYTES, VERSION};
use crate::mesh::id::NodeId;
use crate::mesh::keys::{ProofInput, Role, accepted_epochs, epoch_of};
use crate::mesh::knock::Knock;

use super::gate::SharedGate;
use super::verify::node_id;

/// How long a peer may take for its Hello.
pub const HELLO_LIMIT: Duration = Duration::from_secs(5);
const EXPORTER_LABEL: &[u8] = b"EXPORTER-warren/1 proof";

/// A checked Hello and the control stream it came on.
pub struct Greeting {
    /// The peer's id, proven by TLS.
    pub peer: NodeId,
    /// What it said.
    pub hello: Hello,
    /// Control stream, outgoing.
    pub send: SendStream,
    /// Control stream, incoming.
    pub recv: RecvStream,
    /// How far the peer's clock is ahead of ours, seconds.
    pub ahead_s: i64,
}

/// Why a connection did not become a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GreetError {
    /// The connection ended, or a stream of it.
    #[error("the connection ended during Hello: {0}")]
    Ended(String),
    /// The peer was too slow.
    #[error("no Hello within {HELLO_LIMIT:?}")]
    Slow,
    /// The Hello does not decode or speaks another protocol.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The proof or the sign of life is not right.
    #[error("the peer's Hello does not prove membership")]
    Proof,
    /// The clocks differ by more than the accepted epochs.
    #[error("the clock of node {peer} is {ahead_s} seconds ahead of this machine's")]
    Clock {
        /// Whose clock.
        peer: NodeId,
        /// Positive: the peer is ahead.
        ahead_s: i64,
    },
}

impl GreetError {
    /// What to close the connection with.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::Ended(_) => CloseCode::Done,
            Self::Slow | Self::Hello(_) => CloseCode::Protocol,
            Self::Proof => CloseCode::Proof,
            Self::Clock { .. } => CloseCode::Clock,
        }
    }

    /// Stable word for counters; `None` for a connection that ended by itself.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Self::Ended(_) => None,
            Self::Slow => Some("hello_slow"),
            Self::Hello(_) => Some("hello_bad"),
            Self::Proof => Some("hello_proof"),
            Self::Clock { .. } => Some("hello_clock"),
        }
    }
}

/// One side of the exchange.
pub struct Greeter<'a> {
    /// The shared gate: keys and clock.
    pub gate: &'a SharedGate,
    /// This node.
    pub me: NodeId,
    /// This node's sign of life, newest.
    pub alive: Alive,
    /// The knock the connection was opened with; its epoch's keys make the proof (A10).
    pub knock: &'a Knock,
    /// Feature bits of this side's Hello.
    pub features: u64,
}

impl Greeter<'_> {
    /// Dialler: speaks first. The server is already proven by its pinned key and by the keyed
    /// Initial, so nothing is given to a stranger.
    ///
    /// # Errors
    /// See [`GreetError`]; the caller closes the connection with [`GreetError::code`].
    pub async fn dial(&self, connection: &Connection) -> Result<Greeting, GreetError> {
        limited(connection, async {
            let peer = peer_of(connection)?;
            let (mut send, mut recv) = connection.open_bi().await.map_err(ended)?;
            self.say(connection, &mut send, peer, Role::Dialler).await?;
            let (hello, ahead_s) = self
                .hear(connection, &mut recv, peer, Role::Answerer)
                .await?;
            if hello.observes() {
                // Whoever answers is here.
                return Err(GreetError::Proof);
            }
            Ok(Greeting {
                peer,
                hello,
                send,
                recv,
                ahead_s,
            })
        })
        .await
    }

    /// Answerer: hears first, so that what it says goes only to a proven member.
    ///
    /// # Errors
    /// See [`GreetError`].
    pub async fn answer(&self, connection: &Connection) -> Result<Greeting, GreetError> {
        limited(connection, async {
            let peer = peer_of(connection)?;
            let (mut send, mut recv) = connection.accept_bi().await.map_err(ended)?;
            let heard = self.hear(connection, &mut recv, peer, Role::Dialler).await;
            if matches!(heard, Ok(_) | Err(GreetError::Clock { .. })) {
                // A member with a wrong clock learns from this Hello by how much.
                self.say(connection, &mut send, peer, Role::Answerer)
                    .await?;
            }
            let (hello, ahead_s) = match heard {
                Ok(heard) => heard,
                Err(error) => {
                    let _ = send.finish();
                    let _ = tokio::time::timeout(Duration::from_secs(1), send.stopped()).await;
                    return Err(error);
                }
            };
            Ok(Greeting {
                peer,
                hello,
                send,
                recv,
                ahead_s,
            })
        })
        .await
    }

    async fn say(
        &self,
        connection: &Connection,
        send: &mut SendStream,
        peer: NodeId,
        role: Role,
    ) -> Result<(), GreetError> {
        let remote = connection.remote_address();
        let hello = Hello {
            versions: (VERSION, VERSION),
            alive: self.alive.clone(),
            unix_s: self.gate.clock().now().unix_s(),
            observed: std::net::SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            generation: 0,
            features: self.features,
            chain: Vec::new(),
            proof: self
                .knock
                .keys
                .proof(&self.proof_input(connection, peer, role)?),
        };
        send.write_all(&hello.encode()).await.map_err(ended)
    }

    async fn hear(
        &self,
        connection: &Connection,
        recv: &mut RecvStream,
        peer: NodeId,
        role: Role,
    ) -> Result<(Hello, i64), GreetError> {
        let mut len = [0; 2];
        recv.read_exact(&mut len).await.map_err(ended)?;
        let len = usize::from(u16::from_be_bytes(len));
        if len > MAX_HELLO_BYTES {
            return Err(HelloError::TooLong { len }.into());
        }
        let mut body = vec![0; len];
        recv.read_exact(&mut body).await.map_err(ended)?;
        let hello = Hello::decode(peer, &body)?;
        let input = self.proof_input(connection, peer, role)?;
        if !self.knock.keys.is_proof(&input, &hello.proof) || !hello.alive.verify(input.network_id)
        {
            return Err(GreetError::Proof);
        }
        let ahead_s = self.check_clock(peer, hello.unix_s)?;
        Ok((hello, ahead_s))
    }

    /// A knock may be right although the clocks are not: the dialler may have searched.
    fn check_clock(&self, peer: NodeId, theirs: u64) -> Result<i64, GreetError> {
        let ours = self.gate.clock().now().unix_s();
        let interval = self.gate.lock().network().crypto_interval();
        let ahead_s = i64::try_from(theirs)
            .unwrap_or(i64::MAX)
            .saturating_sub_unsigned(ours);
        let accepted = accepted_epochs(ours, interval).any(|e| e == epoch_of(theirs, interval));
        if accepted {
            Ok(ahead_s)
        } else {
            Err(GreetError::Clock { peer, ahead_s })
        }
    }

    /// What the proof of `role` binds (A11).
    fn proof_input(
        &self,
        connection: &Connection,
        peer: NodeId,
        role: Role,
    ) -> Result<ProofInput, GreetError> {
        let mut ekm = [0; 32];
        connection
            .export_keying_material(&mut ekm, EXPORTER_LABEL, b"")
            .map_err(|_| GreetError::Proof)?;
        let (dialler, answerer) = match connection.side() {
            quinn::Side::Client => (self.me, peer),
            quinn::Side::Server => (peer, self.me),
        };
        let network_id = self.gate.lock().network().network_id();
        Ok(ProofInput {
            ekm,
            role,
            dialler,
            answerer,
            dcid: self.knock.dcid,
            network_id,
        })
    }
}

async fn limited<T>(
    connection: &Connection,
    work: impl Future<Output = Result<T, GreetError>>,
) -> Result<T, GreetError> {
    let only_hello = async {
        tokio::select! {
            done = work => done,
            never = discard(connection) => match never {},
        }
    };
    tokio::time::timeout(HELLO_LIMIT, only_hello)
        .await
        .unwrap_or(Err(GreetError::Slow))
}

/// Whoever is not greeted has no flows: its datagrams must not pile up.
async fn discard(connection: &Connection) -> Infallible {
    while connection.read_datagram().await.is_ok() {
        tokio::task::yield_now().await;
    }
    std::future::pending().await
}

fn ended(error: impl std::fmt::Display) -> GreetError {
    GreetError::Ended(error.to_string())
}

/// The peer's id as TLS proved it.
fn peer_of(connection: &Connection) -> Result<NodeId, GreetError> {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|identity| {
        identity
            .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
            .ok()
    });
    let spki = chain.as_deref().and_then(|chain| chain.first());
    spki.and_then(|spki| node_id(spki)).ok_or(GreetError::Proof)
}
