//! One flow of an ingress, from its first datagram to its end: choose a node, carry, and when
//! that node has ended it, choose again with the client's next datagram.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::listen::Listener;
use super::side::{Linked, Server, Side, Took, refused};
use super::{End, carry};
use crate::mesh::flows::FlowNumber;
use crate::mesh::id::NodeId;
use crate::mesh::stream::{Header, Status};
use crate::net::flow::{Lost, Parcel};
use crate::service::connection::Flight;
use crate::service::expose::InFlight;
use crate::service::ingress::OPEN_LIMIT;
use crate::service::replay::{Failure, STATUS_LIMIT};
use crate::service::spec::Failover;
use crate::service::tunnels::OpenError;

/// A flow that has begun; its task runs [`run`](Self::run).
pub(super) struct Flow {
    client: Client,
}

/// The client of a flow, behind the socket that it shares with the others.
struct Client {
    listener: Arc<Listener>,
    addr: SocketAddr,
    number: FlowNumber,
    inbox: mpsc::Receiver<Parcel>,
}

/// Where a flow goes.
enum Far {
    /// To another node.
    Linked(Linked),
    /// To this node's own server. The guard keeps the egress's books.
    Local(
        Server,
        #[allow(dead_code, reason = "held for its drop")] InFlight,
    ),
}

impl Flow {
    pub(super) fn new(
        listener: Arc<Listener>,
        addr: SocketAddr,
        number: FlowNumber,
        inbox: mpsc::Receiver<Parcel>,
    ) -> Self {
        Self {
            client: Client {
                listener,
                addr,
                number,
                inbox,
            },
        }
    }

    /// Carries the flow until nothing is said for long enough, or it is told to end.
    pub(super) async fn run(mut self) {
        let listener = Arc::clone(&self.client.listener);
        let shared = &listener.shared;
        loop {
            let waiting = listener.stop.run_until_cancelled(self.client.next());
            let Some(Some(first)) = waiting.await else {
                return;
            };
            let Some((flight, mut far)) = place(&listener).await else {
                shared.counters.lose(Lost::NoNode);
                continue;
            };
            let end = match far.take(&first) {
                Took::Refused => End::Far,
                took => {
                    if let Took::Lost(why) = took {
                        shared.counters.lose(why);
                    }
                    let closing = listener.stop.cancelled();
                    carry(&mut self.client, &mut far, closing, &shared.counters).await
                }
            };
            if let Far::Linked(linked) = far {
                linked.finish();
            }
            let (from, bucket) = (self.client.addr, &shared.bucket);
            tracing::debug!(%from, %bucket, node = flight.node.short(), ?end, "flow ended");
            if end != End::Far {
                return;
            }
        }
    }
}

/// Finds a node that takes the flow; it counts as being there from then on.
async fn place(listener: &Listener) -> Option<(Flight, Far)> {
    let shared = &listener.shared;
    let mut tried = Vec::new();
    loop {
        let mut flight = shared.choose(&tried).ok()?;
        let node = flight.node;
        let opened = match open(listener, node).await {
            // The link was just given up for want of use: that says nothing of the node.
            Err(Failure::LetGo) => open(listener, node).await,
            opened => opened,
        };
        match opened {
            Ok(far) => {
                flight.serving.served();
                return Some((flight, far));
            }
            Err(failure) => {
                tried.push(node);
                let bucket = &shared.bucket;
                tracing::debug!(%bucket, node = node.short(), %failure, "node did not take the flow");
                if shared.spec.failover == Failover::Off {
                    return None;
                }
            }
        }
    }
}

async fn open(listener: &Listener, node: NodeId) -> Result<Far, Failure> {
    let shared = &listener.shared;
    if node == shared.tunnels.view().me {
        let (server, guard) = shared.tunnels.connect_local_flow(&shared.bucket).await?;
        return Ok(Far::Local(server, guard));
    }
    let opening = timeout(OPEN_LIMIT, shared.tunnels.open_flow(node));
    let mut linked = opening.await.map_err(|_| OpenError::TimedOut { node })??;
    match timeout(STATUS_LIMIT, ask(listener, &mut linked)).await {
        Ok(Ok(Status::Connected)) => Ok(Far::Linked(linked)),
        Ok(Ok(Status::Refused(refusal))) => Err(refusal.into()),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::Silent),
    }
}

async fn ask(listener: &Listener, linked: &mut Linked) -> Result<Status, Failure> {
    let header = Header::flow(listener.shared.bucket.clone()).encode();
    // Reading tells as well why writing failed.
    let _ = linked.send.write_all(&header).await;
    let mut status = [0];
    match linked.recv.read(&mut status).await {
        Ok(Some(_)) => Ok(Status::from_byte(status[0])),
        Ok(None) => Err(Failure::Empty),
        Err(error) => Err(Failure::of(&error)),
    }
}

impl Side for Client {
    async fn next(&mut self) -> Option<Bytes> {
        self.inbox.recv().await.map(|parcel| parcel.bytes())
    }

    fn take(&mut self, datagram: &[u8]) -> Took {
        self.listener.touch(&self.addr);
        match self.listener.socket.try_send_to(datagram, self.addr) {
            Ok(_) => Took::Sent,
            // The socket is everybody's: an error that came late may be about another client.
            Err(error) => match refused(&error) {
                Took::Refused => Took::Lost(Lost::Overflow),
                took => took,
            },
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.listener.forget(&self.addr, self.number);
    }
}

impl Side for Far {
    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Linked(linked) => linked.next().await,
            Self::Local(server, _) => server.next().await,
        }
    }

    fn take(&mut self, datagram: &[u8]) -> Took {
        match self {
            Self::Linked(linked) => linked.take(datagram),
            Self::Local(server, _) => server.take(datagram),
        }
    }
}
