//! Egress: the side of a tunnel next to the real server.
//!
//! [`Exposes`] knows which services this node exposes, whether their servers accept connections
//! ([`Exposes::readiness`]), and serves the streams that other nodes open. It announces nothing
//! itself and opens no link.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::counts::Counters;
use super::end::{End, Guarded, QuicEnd};
use super::health;
use super::opening::read_opening;
use super::pipe::{Pipe, Summary};
pub use super::refused::{ExposeError, HEADER_LIMIT, ServeError};
use super::server::{connect, refusal_of, tell_client};
use super::spec::{ExposeSpec, Protocol, ProxyProtocol};
use super::udp::serve::Peers;
use super::udp::side::{Linked, Server};
use super::until::until;
use crate::clock;
use crate::mesh::addr::HostPort;
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::stream::{
    Client, Cut, Header, HeaderError, KIND_FLOW, KIND_MEASURE, Kind, Opening, Refusal, Status,
};
use crate::net::tunnel::TunnelGuard;

/// How long a server may take to accept a connection.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Connections to servers at once, over all services. Each costs a file descriptor and two
/// windows of QUIC; beyond this, other nodes are a better choice than this one.
pub const DEFAULT_MAX_CONNECTIONS: usize = 16_384;

/// The services a node exposes. Clones share them.
#[derive(Clone, Debug)]
pub struct Exposes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    exposed: Mutex<BTreeMap<Bucket, Arc<Exposed>>>,
    readiness: watch::Sender<BTreeMap<Bucket, bool>>,
    max_connections: usize,
    running: AtomicUsize,
    one_ended: Notify,
    draining: watch::Sender<bool>,
    flows: Peers,
    /// Cancelled by [`Exposes::abort`].
    token: CancellationToken,
    counted: OnceLock<(NodeId, Counters)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// One exposed service.
#[derive(Debug)]
pub(super) struct Exposed {
    pub(super) target: HostPort,
    protocol: Protocol,
    proxy_protocol: Option<ProxyProtocol>,
    in_flight: AtomicU64,
    /// A connection succeeded since the last health check: no check is needed.
    pub(super) used: AtomicBool,
    /// A connection failed: check now.
    pub(super) failed: Notify,
    /// Ends the health checks.
    pub(super) token: CancellationToken,
}

impl Default for Exposes {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_CONNECTIONS)
    }
}

impl Exposes {
    /// Exposes nothing yet; serves at most `max_connections` at once.
    pub fn new(max_connections: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                exposed: Mutex::default(),
                readiness: watch::Sender::default(),
                max_connections,
                running: AtomicUsize::new(0),
                one_ended: Notify::new(),
                draining: watch::Sender::new(false),
                flows: Peers::default(),
                token: CancellationToken::new(),
                counted: OnceLock::new(),
            }),
        }
    }

    /// Counts what is served to other nodes under `me`; what this node's own ingress sends to
    /// its own server is counted there. Only the first call has an effect.
    pub fn counting(self, me: NodeId, counters: Counters) -> Self {
        // A second call would split the counts in two.
        let _ = self.inner.counted.set((me, counters));
        self
    }

    /// Connects to the server, then exposes it as `bucket` and watches its health, in a task of
    /// its own, until it is removed, aborted, or the last clone is dropped.
    ///
    /// # Errors
    /// The server cannot be reached, or the bucket is taken; nothing is registered.
    pub async fn add(&self, spec: &ExposeSpec, bucket: Bucket) -> Result<(), ExposeError> {
        self.check_free(&bucket)?;
        match spec.protocol {
            Protocol::Tcp => drop(self.first_connect(&spec.target).await?),
            Protocol::Udp => drop(self.first_socket(spec).await?),
        }
        self.register(spec, bucket, true)
    }

    /// Exposes `bucket` without asking the server first: for roles kept from the last start,
    /// whose server may come up later. It is not ready until a health check succeeds.
    ///
    /// # Errors
    /// The bucket is taken.
    pub fn add_unchecked(&self, spec: &ExposeSpec, bucket: Bucket) -> Result<(), ExposeError> {
        self.register(spec, bucket, false)
    }

    /// Stops exposing `bucket`: new streams are refused, running ones finish. Whether it was
    /// exposed.
    pub fn remove(&self, bucket: &Bucket) -> bool {
        let Some(exposed) = self.lock().remove(bucket) else {
            return false;
        };
        exposed.token.cancel();
        self.inner.readiness.send_modify(|all| {
            all.remove(bucket);
        });
        true
    }

    /// Every exposed service and whether its server accepts connections; changes as it does.
    pub fn readiness(&self) -> watch::Receiver<BTreeMap<Bucket, bool>> {
        self.inner.readiness.subscribe()
    }

    /// Connections to the server of each exposed service now.
    pub fn in_flight(&self) -> BTreeMap<Bucket, u64> {
        let exposed = self.lock();
        exposed
            .iter()
            .map(|(bucket, one)| (bucket.clone(), one.in_flight.load(Ordering::Relaxed)))
            .collect()
    }

    /// Serves one stream that `peer` opened, from its header to its end. A stream that cannot
    /// be served gets its refusal; no other stream notices. `link` counts it there, and has the
    /// datagrams if it stands for a flow.
    ///
    /// # Errors
    /// Why nothing reached a server.
    pub async fn serve_stream(
        &self,
        peer: NodeId,
        send: SendStream,
        mut recv: RecvStream,
        link: Option<TunnelGuard>,
    ) -> Result<(), ServeError> {
        let error = match read_opening(&mut recv).await {
            Ok(Opening::Service(header)) => {
                return self.serve_opened(peer, header, (send, recv), link).await;
            }
            Ok(Opening::Measure(_)) => HeaderError::Kind(KIND_MEASURE).into(),
            Err(error) => error,
        };
        QuicEnd::new(send, recv).cut(Cut::BadHeader);
        Err(error)
    }

    /// The same for a stream whose header was read.
    ///
    /// # Errors
    /// Why nothing reached a server.
    pub async fn serve_opened(
        &self,
        peer: NodeId,
        header: Header,
        (send, recv): (SendStream, RecvStream),
        link: Option<TunnelGuard>,
    ) -> Result<(), ServeError> {
        let bucket = &header.bucket;
        let serving = async {
            match (header.kind, link) {
                (Kind::Flow, Some(link)) => {
                    let end = link.flow(&send);
                    // Large, and rarer than tunnels, which would all have room for it.
                    Box::pin(self.serve_flow(peer, Linked { send, recv, end }, bucket)).await?;
                }
                (Kind::Flow, None) => {
                    QuicEnd::new(send, recv).cut(Cut::BadHeader);
                    return Err(HeaderError::Kind(KIND_FLOW).into());
                }
                (Kind::Tunnel, link) => {
                    let near = Guarded::new(QuicEnd::new(send, recv).on(link));
                    let summary = self.serve(near, &header).await?;
                    tracing::debug!(peer = peer.short(), %bucket, ?summary, "served");
                }
            }
            Ok(())
        };
        let served = until(&self.inner.token, pin!(serving)).await;
        let served = served.unwrap_or(Err(ServeError::Aborted));
        if let Err(error) = &served {
            tracing::debug!(peer = peer.short(), %bucket, %error, "not served");
        }
        served
    }

    /// Connects to this node's own server for `bucket`, for an ingress on the same node, and
    /// tells it of `client` where it is exposed so. The connection counts until the guard is
    /// dropped.
    ///
    /// # Errors
    /// As another node would be refused.
    pub async fn connect_local(
        &self,
        bucket: &Bucket,
        client: Option<&Client>,
    ) -> Result<(TcpStream, InFlight), Refusal> {
        let guard = self.begin(bucket, Protocol::Tcp)?;
        let exposed = &guard.exposed;
        let connected = async {
            let mut tcp = connect(&exposed.target, CONNECT_LIMIT).await?;
            if let Some(version) = exposed.proxy_protocol {
                tell_client(&mut tcp, version, client).await?;
            }
            Ok(tcp)
        };
        match connected.await {
            Ok(tcp) => {
                exposed.used.store(true, Ordering::Relaxed);
                Ok((tcp, guard))
            }
            Err(error) => {
                let refusal = refusal_of(&error);
                if refusal != Refusal::TooMany {
                    exposed.failed.notify_one();
                }
                tracing::debug!(target = %exposed.target, %error, "server not reached");
                Err(refusal)
            }
        }
    }

    /// Counts one more connection or flow to the server of `bucket`.
    pub(super) fn begin(&self, bucket: &Bucket, protocol: Protocol) -> Result<InFlight, Refusal> {
        let inner = &self.inner;
        let exposed = self.lock().get(bucket).cloned();
        let exposed = exposed.filter(|one| one.protocol == protocol);
        let exposed = exposed.ok_or(Refusal::NoSuchService)?;
        let guard = InFlight::begin(inner.clone(), exposed).ok_or(Refusal::TooMany)?;
        // After counting itself: `drain` sets the flag first, then reads the count.
        if *inner.draining.borrow() {
            return Err(Refusal::Draining);
        }
        Ok(guard)
    }

    /// Whether new streams are refused as draining. Running ones are not touched.
    pub fn set_draining(&self, on: bool) {
        self.inner.draining.send_replace(on);
    }

    /// Refuses new streams and waits for the running ones, at most `limit`. Whether all ended.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.set_draining(true);
        let deadline = clock::deadline(limit);
        loop {
            // Registered before the count is read, or the last end could be missed.
            let ended = self.inner.one_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.inner.running.load(Ordering::SeqCst) == 0 {
                return true;
            }
            if timeout_at(deadline, ended).await.is_err() {
                return false;
            }
        }
    }

    /// Ends everything: running streams are reset, health checks stop.
    pub fn abort(&self) {
        self.inner.token.cancel();
    }

    async fn serve(
        &self,
        mut near: Guarded<QuicEnd>,
        header: &Header,
    ) -> Result<Summary, ServeError> {
        let bucket = &header.bucket;
        // On the heap, for no longer than it takes.
        let connecting = Box::pin(self.connect_local(bucket, header.client.as_ref())).await;
        match connecting {
            Ok((tcp, _guard)) => {
                let counted = self.inner.counted.get();
                let mut serving = counted.map(|(me, counters)| counters.begin(bucket, *me));
                if let Some(serving) = &mut serving {
                    serving.served();
                }
                let far = Guarded::new(tcp);
                let connected = [Status::Connected.byte()];
                // A failed write shows again in the pipe, which knows what it means.
                let _ = near.end.send.write_all(&connected).await;
                Ok(Pipe::new(near, far).run().await)
            }
            Err(refusal) => {
                let status = [Status::Refused(refusal).byte()];
                // If the peer is gone it needs no answer.
                if near.end.send.write_all(&status).await.is_ok() {
                    let _ = near.end.send.finish();
                    near.end.unwanted();
                    near.disarm();
                }
                Err(refusal.into())
            }
        }
    }

    /// Resolves when what runs on `flight` shall come to its end: the service was removed, or the
    /// node drains.
    pub(super) async fn closing(&self, flight: &InFlight) {
        let mut draining = self.inner.draining.subscribe();
        tokio::select! {
            () = flight.exposed.token.cancelled() => {}
            // The sender lives in `self`; it cannot be gone.
            _ = draining.wait_for(|on| *on) => {}
        }
    }

    /// Flows being served, by peer.
    pub(super) fn peers(&self) -> &Peers {
        &self.inner.flows
    }

    /// Where it is counted what other nodes are served.
    pub(super) fn counted(&self) -> Option<&(NodeId, Counters)> {
        self.inner.counted.get()
    }

    fn check_free(&self, bucket: &Bucket) -> Result<(), ExposeError> {
        match self.lock().get(bucket) {
            Some(taken) => Err(ExposeError::Taken {
                bucket: bucket.clone(),
                target: taken.target.clone(),
            }),
            None => Ok(()),
        }
    }

    async fn first_connect(&self, target: &HostPort) -> Result<TcpStream, ExposeError> {
        connect(target, CONNECT_LIMIT)
            .await
            .map_err(|cause| ExposeError::Unreachable {
                target: target.clone(),
                cause,
            })
    }

    /// A UDP server need not answer; its name must, and there must be a way.
    async fn first_socket(&self, spec: &ExposeSpec) -> Result<Server, ExposeError> {
        if spec.proxy_protocol.is_some() {
            return Err(ExposeError::NoHeader);
        }
        Server::connect(&spec.target)
            .await
            .map_err(|cause| ExposeError::Unreachable {
                target: spec.target.clone(),
                cause,
            })
    }

    fn register(&self, spec: &ExposeSpec, bucket: Bucket, ready: bool) -> Result<(), ExposeError> {
        let exposed = Arc::new(Exposed {
            target: spec.target.clone(),
            protocol: spec.protocol,
            proxy_protocol: spec.proxy_protocol,
            in_flight: AtomicU64::new(0),
            used: AtomicBool::new(false),
            failed: Notify::new(),
            token: self.inner.token.child_token(),
        });
        {
            let mut all = self.lock();
            // Again under the lock: another `add` may have won while this one connected.
            if let Some(taken) = all.get(&bucket) {
                return Err(ExposeError::Taken {
                    target: taken.target.clone(),
                    bucket,
                });
            }
            all.insert(bucket.clone(), exposed.clone());
        }
        if spec.protocol == Protocol::Udp {
            // Nobody can tell whether it listens without saying something to it.
            self.publish(&bucket, &exposed, true);
            return Ok(());
        }
        self.publish(&bucket, &exposed, ready);
        // Weak: the checks must not keep alive what they report to.
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let publish = |ready| {
                if let Some(inner) = inner.upgrade() {
                    Self { inner }.publish(&bucket, &exposed, ready);
                }
            };
            let checks = health::watch(&exposed, ready, publish);
            exposed.token.run_until_cancelled(checks).await;
        });
        Ok(())
    }

    fn publish(&self, bucket: &Bucket, exposed: &Exposed, ready: bool) {
        let all = self.lock();
        // A service that was removed meanwhile must not come back through its last check.
        let current = all.get(bucket);
        if !current.is_some_and(|one| std::ptr::eq(Arc::as_ptr(one), exposed)) {
            return;
        }
        self.inner
            .readiness
            .send_if_modified(|readiness| readiness.insert(bucket.clone(), ready) != Some(ready));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bucket, Arc<Exposed>>> {
        let exposed = &self.inner.exposed;
        exposed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection to a server, counted until dropped.
#[derive(Debug)]
pub struct InFlight {
    inner: Arc<Inner>,
    exposed: Arc<Exposed>,
}

impl InFlight {
    /// The server.
    pub(super) fn target(&self) -> &HostPort {
        &self.exposed.target
    }

    fn begin(inner: Arc<Inner>, exposed: Arc<Exposed>) -> Option<Self> {
        let limit = inner.max_connections;
        let room = |running: usize| (running < limit).then_some(running + 1);
        let order = Ordering::SeqCst;
        inner.running.fetch_update(order, order, room).ok()?;
        exposed.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Self { inner, exposed })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.exposed.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.inner.running.fetch_sub(1, Ordering::SeqCst);
        self.inner.one_ended.notify_waiters();
    }
}
