//! One client of an ingress, from its socket to its end: choose a node, try it, move on while
//! that is allowed, copy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::client::Client;
use super::counts::{Counters, Serving};
use super::end::{End, Guarded};
use super::far::Far;
use super::head::{MAX_HEAD_BYTES, looks_like_request};
use super::ingress::OPEN_LIMIT;
use super::page::{self, Page};
use super::pipe::{Pipe, Start, Summary};
use super::replay::{self, Attempt, Failure, Kept};
use super::spec::{Failover, IngressSpec, Strategy};
use super::tls::TlsSource;
use super::tunnels::{OpenError, Tunnels};
use crate::clock::Clock;
use crate::mesh::balance::{Balancer, Policy};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::stream::{self, Cut, Header};
use crate::mesh::view::View;

/// How long a client that nobody can serve may take to say what it speaks.
const SPEAK_LIMIT: Duration = Duration::from_millis(300);

/// What the connections of one ingress share.
pub(super) struct Shared {
    pub(super) spec: IngressSpec,
    pub(super) bucket: Bucket,
    pub(super) tunnels: Arc<dyn Tunnels>,
    pub(super) counters: Counters,
    pub(super) clock: Clock,
    pub(super) balancer: Mutex<Balancer>,
    pub(super) tls: Option<Arc<TlsSource>>,
}

impl Shared {
    /// The node that a client is tried at first, and the runtime that its link is on; `None`
    /// where everything runs on one thread, and the node is chosen when it is needed.
    pub(super) fn first(self: &Arc<Self>) -> Option<(Choice, Handle)> {
        let me = self.tunnels.view().me;
        let any = self.tunnels.runtime(me)?;
        let first = self.choose(&[]);
        let node = first.as_ref().map_or(me, |flight| flight.node);
        let runtime = (node != me).then(|| self.tunnels.runtime(node));
        Some((first, runtime.flatten().unwrap_or(any)))
    }

    /// Serves one client to its end, at the node that was chosen first if one was.
    pub(super) fn serve(
        self: Arc<Self>,
        tcp: TcpStream,
        from: SocketAddr,
        first: Option<Choice>,
    ) -> impl Future<Output = ()> + Send {
        // Each on the heap by itself: what it takes to find a node, up to 256 KiB and most of the
        // state, is given back before bytes are copied.
        let beginning = Box::pin(self.begin_copying(tcp, from, first));
        async move {
            let Some((copying, flight)) = beginning.await else {
                return;
            };
            let summary = copying.await;
            let bucket = &flight.shared.bucket;
            tracing::debug!(%from, %bucket, node = flight.node.short(), ?summary, "connection ended");
        }
    }

    /// A connection that has its node, and what copies it; nothing if it is over already.
    async fn begin_copying(
        self: Arc<Self>,
        tcp: TcpStream,
        from: SocketAddr,
        first: Option<Choice>,
    ) -> Option<(BoxFuture<'static, Summary>, Flight)> {
        let client = match &self.tls {
            None => Client::Plain(tcp),
            Some(tls) => match tls.accept(tcp).await {
                Ok(tls) => Client::Tls(Box::new(tls)),
                Err(error) => {
                    tracing::debug!(%from, %error, "no TLS handshake");
                    return None;
                }
            },
        };
        let mut near = Guarded::new(client);
        let mut kept = Kept::default();
        match self.place(&mut near, &mut kept, from, first).await {
            Placed::At {
                far,
                up,
                down,
                flight,
            } => {
                let pipe = Pipe::new(near, far).up_from(up).down_from(down);
                return Some((pipe.run().boxed(), flight));
            }
            Placed::Nowhere(page) => unavailable(near, kept.client().to_vec(), page).await,
            Placed::ClientGone => near.end.cut(Cut::TcpReset),
        }
        None
    }

    /// Finds the node that the connection stays with.
    async fn place(
        self: &Arc<Self>,
        near: &mut Guarded<Client>,
        kept: &mut Kept,
        from: SocketAddr,
        mut first: Option<Choice>,
    ) -> Placed {
        let mut tried = Vec::new();
        loop {
            let chosen = first.take().unwrap_or_else(|| self.choose(&tried));
            let mut flight = match chosen {
                Ok(flight) => flight,
                Err(page) => return Placed::Nowhere(page),
            };
            let node = flight.node;
            let failure = match self.attempt(node, near, kept, from).await {
                (Some(far), Attempt::Committed { up, down }) => {
                    flight.serving.served();
                    return Placed::At {
                        far,
                        up,
                        down,
                        flight,
                    };
                }
                (_, Attempt::ClientGone) => return Placed::ClientGone,
                (_, Attempt::Failed(failure)) => failure,
                (None, Attempt::Committed { .. }) => Failure::Reset,
            };
            tried.push(node);
            let bucket = &self.bucket;
            tracing::debug!(%from, %bucket, node = node.short(), %failure, "node did not serve");
            if self.spec.failover == Failover::Off {
                return Placed::Nowhere(Page::NoNodes);
            }
        }
    }

    /// A try at one node; a second one if the first had a link that just then was given up.
    async fn attempt(
        &self,
        node: NodeId,
        near: &mut Guarded<Client>,
        kept: &mut Kept,
        from: SocketAddr,
    ) -> (Option<Guarded<Far>>, Attempt) {
        match self.attempt_once(node, near, kept, from).await {
            (_, Attempt::Failed(Failure::LetGo)) => self.attempt_once(node, near, kept, from).await,
            done => done,
        }
    }

    async fn attempt_once(
        &self,
        node: NodeId,
        near: &mut Guarded<Client>,
        kept: &mut Kept,
        from: SocketAddr,
    ) -> (Option<Guarded<Far>>, Attempt) {
        let client = self.client_for(node, near.end.tcp(), from);
        let mut far = match self.open(node, client.as_ref()).await {
            Ok(far) => Guarded::new(far),
            Err(failure) => return (None, Attempt::Failed(failure)),
        };
        let local = far.end.is_local();
        let header = Header::tunnel(self.bucket.clone(), client).encode();
        let silent = far.end.fell_silent();
        let attempt = async {
            let header = header.as_slice();
            match self.spec.failover {
                Failover::Replay => {
                    replay::replay(near, &mut far, kept.behind(header), local).await
                }
                Failover::Connect | Failover::Off => replay::connect(&mut far, header, local).await,
            }
        };
        let attempt = tokio::select! {
            biased;
            attempt = attempt => attempt,
            () = silent => Attempt::Failed(Failure::Lost),
        };
        match &attempt {
            Attempt::Committed { .. } => {}
            Attempt::ClientGone => far.end.cut(Cut::TcpReset),
            Attempt::Failed(_) => far.end.cut(Cut::Unwanted),
        }
        (Some(far), attempt)
    }

    /// Who the client is, for a node that asks for its clients' addresses. Older nodes refuse a
    /// header with one, and others need not know it.
    fn client_for(
        &self,
        node: NodeId,
        tcp: &TcpStream,
        from: SocketAddr,
    ) -> Option<stream::Client> {
        let view = self.tunnels.view();
        let mut providers = view.providers(&self.bucket).iter();
        if !providers.any(|one| one.id == node && one.wants_client) {
            return None;
        }
        // A socket without an address of its own is gone already.
        let to = tcp.local_addr().ok()?;
        stream::Client::new(from, to)
    }

    async fn open(&self, node: NodeId, client: Option<&stream::Client>) -> Result<Far, Failure> {
        if node == self.tunnels.view().me {
            let connecting = self.tunnels.connect_local(&self.bucket, client);
            let (tcp, counted) = connecting.await?;
            return Ok(Far::Local { tcp, counted });
        }
        match timeout(OPEN_LIMIT, self.tunnels.open(node)).await {
            Ok(opened) => Ok(Far::Quic(opened?)),
            Err(_) => Err(OpenError::TimedOut { node }.into()),
        }
    }

    /// The node to try next, in flight from now on, or the page for when there is none.
    pub(super) fn choose(self: &Arc<Self>, tried: &[NodeId]) -> Choice {
        let view = self.tunnels.view();
        let usable = || {
            let providers = view.providers(&self.bucket).iter();
            let usable = providers.filter(|one| one.usable() && one.protocol == self.spec.protocol);
            usable.map(|one| one.id)
        };
        let policy = match &self.spec.strategy {
            Strategy::LeastUsed => Policy::LeastUsed,
            Strategy::Random => Policy::Random,
            Strategy::Target(text) => {
                let node = self.target(text, &view)?;
                return match (usable().any(|id| id == node), tried.contains(&node)) {
                    (_, true) => Err(Page::NoNodes),
                    (true, false) => Ok(self.begin(node, &mut self.balancer())),
                    (false, false) => Err(Page::NodeNotFound),
                };
            }
        };
        let candidates: Vec<_> = usable().collect();
        let now = self.clock.now().mono;
        // One lock for choosing and counting: between the two, another client would choose the
        // same node.
        let mut balancer = self.balancer();
        let node = balancer
            .pick(&candidates, policy, now, &mut rand::rng(), tried)
            .ok_or(Page::NoNodes)?;
        Ok(self.begin(node, &mut balancer))
    }

    fn begin(self: &Arc<Self>, node: NodeId, balancer: &mut Balancer) -> Flight {
        balancer.begin(node);
        Flight {
            shared: Arc::clone(self),
            node,
            serving: self.counters.begin(&self.bucket, node),
        }
    }

    fn target(&self, text: &str, view: &View) -> Result<NodeId, Page> {
        self.tunnels.resolve(text, view).map_err(|error| {
            tracing::debug!(%error, "the target of this ingress is not there");
            Page::NodeNotFound
        })
    }

    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "made once per connection and taken apart at once"
)]
enum Placed {
    At {
        far: Guarded<Far>,
        up: Start,
        down: Start,
        flight: Flight,
    },
    Nowhere(Page),
    ClientGone,
}

/// A node to try, or the page for when there is none.
pub(super) type Choice = Result<Flight, Page>;

/// A connection that counts as being with a node.
pub(super) struct Flight {
    shared: Arc<Shared>,
    pub(super) node: NodeId,
    pub(super) serving: Serving,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.balancer().end(self.node);
    }
}

/// Answers a client that no node can serve: with a page if it speaks HTTP, else with a reset.
async fn unavailable(mut near: Guarded<Client>, mut bytes: Vec<u8>, page: Page) {
    let listening = async {
        loop {
            if let Some(is_http) = looks_like_request(&bytes) {
                return is_http;
            }
            let mut part = [0; 1024];
            match near.end.read(&mut part).await {
                Ok(count @ 1..) if bytes.len() < MAX_HEAD_BYTES => {
                    bytes.extend_from_slice(&part[..count]);
                }
                _ => return false,
            }
        }
    };
    if !timeout(SPEAK_LIMIT, listening).await.unwrap_or(false) {
        near.end.cut(Cut::Unwanted);
        return;
    }
    match page::answer(&mut near.end, bytes, page).await {
        Ok(()) => near.disarm(),
        Err(error) => tracing::debug!(%error, "the client did not wait for its page"),
    }
}
