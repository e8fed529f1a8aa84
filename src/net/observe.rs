//! One look at a network: see [`crate::mesh::observer`].
//!
//! An observer has a socket of its own for as long as the look takes, and leaves nothing behind:
//! no file, no port, no task. It lets nobody in, and dials nobody without leave ([`Leave`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::RecvStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::mesh::addr::HostPort;
use crate::mesh::alive::{Alive, LifeState};
use crate::mesh::close::CloseCode;
use crate::mesh::entry::NetworkId;
use crate::mesh::hello::OBSERVES;
use crate::mesh::id::{Identity, NodeId};
use crate::mesh::keys::{NetworkKeys, observer_identity};
use crate::mesh::observer::{Seen, Sight};
use crate::mesh::restraint::Verdict;
use crate::mesh::wire::decode_frame;

use super::close::{close, close_endpoint};
use super::dial::{DialError, Dialler};
use super::endpoint::Factory;
use super::gate::SharedGate;
use super::hello::Greeting;

/// Each further address is dialled this much later (RFC 8305 §5), so that usually one node is
/// asked.
const STAGGER: Duration = Duration::from_millis(250);
/// Peers may take this long to hear of the end.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Says whether an address may be dialled now. It is asked right before each dial.
pub type Leave = Arc<dyn Fn(SocketAddr) -> Verdict + Send + Sync>;

/// Who looks at what.
pub struct Observer<'a> {
    /// The explorer's key; the observer's follows from it and from the network.
    pub explorer: &'a Identity,
    /// The network.
    pub keys: NetworkKeys,
    /// The clock, for the network's epochs.
    pub clock: &'a Clock,
    /// Whom it may dial.
    pub leave: Leave,
    /// How long nobody may answer.
    pub silence: Duration,
    /// How long the whole look may take.
    pub limit: Duration,
}

/// An address to dial.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who must answer there, if that is known.
    pub id: Option<NodeId>,
    /// How it was given, for people.
    pub at: HostPort,
    /// Where it is.
    pub addr: SocketAddr,
}

/// Why nothing was seen: of several reasons the greatest is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// There is nobody to ask.
    #[error("it names no address to dial")]
    Nowhere,
    /// No address may be dialled.
    #[error("{0} is not an address of the internet")]
    Forbidden(HostPort),
    /// Nobody answered.
    #[error("{0}")]
    Silent(String),
    /// Somebody answered, and showed nothing.
    #[error("{0}")]
    Failed(String),
    /// An address has been dialled too often, with whatever network it came.
    #[error("{0} and its neighbours have been dialled often enough for now")]
    PutOff(HostPort),
    /// This machine did not get as far as asking.
    #[error("this machine cannot look: {0}")]
    Here(String),
}

impl Observer<'_> {
    /// Dials `targets` until a node shows what it knows; gives that, and where the node is. Ends
    /// within `silence` if nobody answers, and within `limit` in any case.
    ///
    /// # Errors
    /// See [`ObserveError`].
    pub async fn look(self, targets: &[Target]) -> Result<(Seen, SocketAddr), ObserveError> {
        let here = |error: &dyn std::fmt::Display| ObserveError::Here(error.to_string());
        let network = self.keys.network_id();
        let identity = observer_identity(self.explorer, network);
        let interval = Duration::from_secs(self.keys.crypto_interval().seconds().into());
        let gate = SharedGate::new(self.clock.clone(), self.keys, identity.id(), false);
        let factory = Factory::new(&identity, gate.clone()).map_err(|e| here(&e))?;
        let endpoint = factory.bind_sparing().map_err(|e| here(&e))?;
        let boot = self.clock.now().unix_ms;
        let gone = Alive::sign(network, &identity, boot, 0, LifeState::Leave);
        let looking = async {
            let mut tries = JoinSet::new();
            for (target, wait) in targets.iter().cloned().zip((0..).map(|n| STAGGER * n)) {
                // A dial must not outlive its knock (A10).
                let limit = self.silence.saturating_sub(wait).min(interval * 3 / 2);
                let (endpoint, gate, gone) = (endpoint.clone(), gate.clone(), gone.clone());
                let (factory, me) = (factory.clone(), identity.id());
                let leave = Arc::clone(&self.leave);
                tries.spawn(async move {
                    sleep(wait).await;
                    match leave(target.addr) {
                        Verdict::Dial => {}
                        Verdict::Later(_) => return Err(ObserveError::PutOff(target.at)),
                        Verdict::Forbidden => return Err(ObserveError::Forbidden(target.at)),
                    }
                    let dialler = Dialler {
                        endpoint: &endpoint,
                        gate: &gate,
                        factory: &factory,
                        me,
                        alive: gone,
                        features: OBSERVES,
                        limit,
                    };
                    ask(&dialler, network, &target).await
                });
            }
            first(tries).await
        };
        let too_slow = || ObserveError::Failed("it did not show all in time".to_owned());
        let looked = timeout(self.limit, looking).await;
        close_endpoint(&endpoint, CloseCode::Done);
        // Who is not told hears it from the silence.
        let _ = timeout(LAST_WORD, endpoint.wait_idle()).await;
        looked.unwrap_or_else(|_| Err(too_slow()))
    }
}

type Looked = Result<(Seen, SocketAddr), ObserveError>;

/// The first that saw something, else the reason that tells most.
async fn first(mut tries: JoinSet<Looked>) -> Looked {
    let mut failed = ObserveError::Nowhere;
    while let Some(done) = tries.join_next().await {
        match done {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(error)) => failed = failed.max(error),
            Err(_) => {}
        }
    }
    Err(failed)
}

async fn ask(dialler: &Dialler<'_>, network: NetworkId, target: &Target) -> Looked {
    let dialled = dialler.dial(target.id, &target.at, target.addr, 0).await;
    let (connection, greeted) = dialled.map_err(|error| told(&error))?;
    let greeted = greeted.map_err(|error| {
        close(&connection, error.code());
        let at = target.at.clone();
        told(&DialError::Greet { at, error })
    })?;
    // Kept open: its end would say that nothing more is wanted.
    let Greeting {
        send: _open, recv, ..
    } = greeted;
    let seen = read(network, recv).await;
    let seen = seen.map_err(|cause| ObserveError::Failed(format!("{}: {cause}", target.at)))?;
    close(&connection, CloseCode::Done);
    Ok((seen, target.addr))
}

fn told(error: &DialError) -> ObserveError {
    match error.is_silent() {
        true => ObserveError::Silent(error.to_string()),
        false => ObserveError::Failed(error.to_string()),
    }
}

/// Everything that the node shows, as far as there is room.
async fn read(network: NetworkId, mut recv: RecvStream) -> Result<Seen, String> {
    let mut sight = Sight::new(network);
    let mut buffer = BytesMut::new();
    loop {
        // A frame's limit is checked before its body is waited for: the buffer holds at most
        // one frame and one chunk.
        while let Some((frame, used)) = decode_frame(&buffer).map_err(|e| e.to_string())? {
            let _ = buffer.split_to(used);
            if !sight.take(frame, used) {
                return Ok(sight.seen());
            }
        }
        match recv.read_chunk(64 * 1024, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err("it ended before all was shown".to_owned()),
            Err(error) => return Err(ended(error)),
        }
    }
}

fn ended(error: quinn::ReadError) -> String {
    match error {
        quinn::ReadError::ConnectionLost(lost) => super::link::reason(&lost),
        other => other.to_string(),
    }
}
