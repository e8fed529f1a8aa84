//! What the data plane needs of the mesh, and the mesh of the data plane.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quinn::{RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::driver::Driver;
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::resolve;
use crate::mesh::stream::{Client, Cut, Opening, Refusal};
use crate::mesh::view::View;
use crate::net::Net;
use crate::net::TunnelSink;
use crate::net::tunnel::TunnelGuard;
use crate::service::end::{End, Guarded, QuicEnd};
use crate::service::expose::{Exposes, InFlight};
use crate::service::measure::Measuring;
use crate::service::opening::read_opening;
use crate::service::tunnels::{OpenError, ResolveError, Tunnels};
use crate::service::udp::side::{Linked, Server};

/// Outgoing: opens tunnels for ingresses.
pub(super) struct Outgoing {
    pub(super) me: NodeId,
    pub(super) driver: Driver,
    pub(super) net: Arc<Net>,
    pub(super) exposes: Exposes,
}

impl Tunnels for Outgoing {
    fn view(&self) -> Arc<View> {
        self.driver.view()
    }

    fn open(&self, node: NodeId) -> BoxFuture<'_, Result<QuicEnd, OpenError>> {
        let opening = self.open_stream(node);
        async move {
            let (send, recv, guard) = opening.await?;
            Ok(QuicEnd::new(send, recv).on(guard))
        }
        .boxed()
    }

    fn open_flow(&self, node: NodeId) -> BoxFuture<'_, Result<Linked, OpenError>> {
        let opening = self.open_stream(node);
        async move {
            let (send, recv, guard) = opening.await?;
            let end = guard.flow(&send);
            Ok(Linked { send, recv, end })
        }
        .boxed()
    }

    fn runtime(&self, node: NodeId) -> Option<Handle> {
        match self.net.shards() {
            1 => None,
            _ => self.net.runtime(node, self.driver.linked(node)),
        }
    }

    fn connect_local_flow<'a>(
        &'a self,
        bucket: &'a Bucket,
    ) -> BoxFuture<'a, Result<(Server, InFlight), Refusal>> {
        self.exposes.connect_local_flow(bucket).boxed()
    }

    fn connect_local<'a>(
        &'a self,
        bucket: &'a Bucket,
        client: Option<&'a Client>,
    ) -> BoxFuture<'a, Result<(TcpStream, InFlight), Refusal>> {
        self.exposes.connect_local(bucket, client).boxed()
    }

    fn resolve(&self, text: &str, view: &View) -> Result<NodeId, ResolveError> {
        resolve::resolve(text, view).map_err(|error| match error {
            resolve::ResolveError::Ambiguous { text, .. } => ResolveError::Ambiguous(text),
            _ => ResolveError::Unknown(text.to_owned()),
        })
    }
}

impl Outgoing {
    async fn open_stream(
        &self,
        node: NodeId,
    ) -> Result<(SendStream, RecvStream, TunnelGuard), OpenError> {
        debug_assert!(node != self.me, "a node serves itself without a link");
        let unreachable = move |cause: String| OpenError::Unreachable { node, cause };
        let reached = self.driver.reach(node).await;
        let link = reached.map_err(|error| unreachable(error.to_string()))?;
        let mut opened = self.net.open(link).await;
        if opened.is_err() {
            // It ended between the two, perhaps because nobody had used it for a while.
            let reached = self.driver.reach(node).await;
            let link = reached.map_err(|error| unreachable(error.to_string()))?;
            opened = self.net.open(link).await;
        }
        opened.map_err(|error| unreachable(error.to_string()))
    }
}

/// Incoming: serves the streams that peers open.
pub(super) struct Incoming {
    pub(super) exposes: Exposes,
    pub(super) measuring: Measuring,
}

impl TunnelSink for Incoming {
    fn tunnel(
        &self,
        peer: NodeId,
        send: SendStream,
        mut recv: RecvStream,
        guard: TunnelGuard,
    ) -> BoxFuture<'static, ()> {
        let exposes = self.exposes.clone();
        let measuring = self.measuring.clone();
        async move {
            // The tunnel itself carries nothing of what comes before it, or in its place.
            let opening = Box::pin(read_opening(&mut recv)).await;
            match opening {
                // Why it was not served is logged there, and the peer was told.
                Ok(Opening::Service(header)) => {
                    let _ = exposes
                        .serve_opened(peer, header, (send, recv), Some(guard))
                        .await;
                }
                Ok(Opening::Measure(request)) => {
                    let near = Guarded::new(QuicEnd::new(send, recv).on(guard));
                    Box::pin(measuring.serve(peer, request, near)).await;
                }
                Err(error) => {
                    tracing::debug!(peer = %peer.short(), %error, "not served");
                    QuicEnd::new(send, recv).cut(Cut::BadHeader);
                }
            }
        }
        .boxed()
    }
}
