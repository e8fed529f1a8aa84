//! One flow of an egress: the side next to the real server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::timeout;

use super::side::{Linked, Server};
use super::{MAX_FLOWS_PER_PEER, carry};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::records::Protocol;
use crate::mesh::stream::{Refusal, Status};
use crate::service::counts::Counters;
use crate::service::expose::{CONNECT_LIMIT, Exposes, InFlight};
use crate::service::server::refusal_of;

/// Flows being served, by the node they are for.
#[derive(Debug, Default)]
pub(in crate::service) struct Peers(Mutex<HashMap<NodeId, usize>>);

/// One flow of a node, until dropped.
struct Counted<'a> {
    peers: &'a Peers,
    peer: NodeId,
}

impl Peers {
    /// Counts one more flow for `peer`, unless it has as many as one may have.
    fn begin(&self, peer: NodeId) -> Option<Counted<'_>> {
        let mut peers = self.lock();
        let count = peers.entry(peer).or_default();
        if *count >= MAX_FLOWS_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Counted { peers: self, peer })
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut peers = self.peers.lock();
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

impl Exposes {
    /// Serves a flow of `peer` to its end.
    ///
    /// # Errors
    /// It was refused, and the peer was told.
    pub(in crate::service) async fn serve_flow(
        &self,
        peer: NodeId,
        mut near: Linked,
        bucket: &Bucket,
    ) -> Result<(), Refusal> {
        let counted = self.peers().begin(peer).ok_or(Refusal::TooMany);
        let connected = match &counted {
            Ok(_) => self.connect_local_flow(bucket).await,
            Err(refusal) => Err(*refusal),
        };
        let status = match &connected {
            Ok(_) => Status::Connected,
            Err(refusal) => Status::Refused(*refusal),
        };
        // A peer that is gone shows at the stream, or needs no answer.
        let _ = near.send.write_all(&[status.byte()]).await;
        let served = match connected {
            Ok((mut server, guard)) => {
                let unkept = Counters::unkept();
                let (counters, mut serving) = match self.counted() {
                    Some((me, counters)) => (counters, Some(counters.begin(bucket, *me))),
                    None => (&unkept, None),
                };
                if let Some(serving) = &mut serving {
                    serving.served();
                }
                let closing = self.closing(&guard);
                let end = carry(&mut near, &mut server, closing, counters).await;
                tracing::debug!(peer = peer.short(), %bucket, ?end, "flow served");
                Ok(())
            }
            Err(refusal) => Err(refusal),
        };
        near.finish();
        served
    }

    /// A socket towards this node's own server for `bucket`. The flow counts as a connection
    /// until the guard is dropped.
    ///
    /// # Errors
    /// As another node would be refused.
    pub async fn connect_local_flow(&self, bucket: &Bucket) -> Result<(Server, InFlight), Refusal> {
        let guard = self.begin(bucket, Protocol::Udp)?;
        // Only the name may take long.
        let connecting = timeout(CONNECT_LIMIT, Server::connect(guard.target()));
        match connecting.await {
            Ok(Ok(server)) => Ok((server, guard)),
            Ok(Err(error)) => {
                tracing::debug!(target = %guard.target(), %error, "server not reached");
                Err(refusal_of(&error))
            }
            Err(_) => Err(Refusal::ServerSilent),
        }
    }
}
