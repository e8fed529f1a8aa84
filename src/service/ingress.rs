//! A local listener into the mesh: accepts clients and gives each to a task of its own.
//! What happens to a client is in `connection`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Shared;
use super::counts::Counters;
use super::listen::{ListenError, bind};
use super::spec::{IngressSpec, Mode, Protocol};
use super::tls::{TlsError, TlsSource};
use super::tunnels::Tunnels;
use super::udp::listen::Listener;
use super::until::until;
use crate::clock::Clock;
use crate::mesh::balance::Balancer;
use crate::mesh::name::Bucket;

/// How long opening a stream to a node, dialling included, may take before the next one is
/// tried.
pub const OPEN_LIMIT: Duration = Duration::from_secs(3);
/// Pauses of an accept loop that has run out of file descriptors or memory.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What an ingress needs from the node.
#[derive(Clone)]
pub struct Deps {
    /// The mesh.
    pub tunnels: Arc<dyn Tunnels>,
    /// Where connections are counted.
    pub counters: Counters,
    /// The node's clock.
    pub clock: Clock,
    /// Name of this machine, for a self-signed certificate.
    pub host_name: Option<String>,
}

/// Why an ingress did not start. Nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngressError {
    /// The mode is not built yet.
    #[error("mode {} is not available yet", mode_name(*.0))]
    Mode(Mode),
    /// Nothing can listen there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS for datagrams.
    #[error("TLS is for TCP; a UDP ingress passes on what its clients say")]
    NoTls,
    /// There is no certificate to serve with.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl IngressError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Mode(_) => "use --mode tcp",
            Self::Listen(error) => error.hint(),
            Self::NoTls => "leave the tls settings out",
            Self::Tls(_) => TlsError::HINT,
        }
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Tcp => "tcp",
        Mode::Http => "http",
        Mode::Auto => "auto",
    }
}

/// A running listener. Dropping it aborts it.
#[derive(Debug)]
pub struct Ingress {
    addr: SocketAddr,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Ingress {
    /// Binds and starts to accept. Needs a tokio runtime.
    ///
    /// # Errors
    /// What cannot be had, and what to do about it.
    pub fn start(spec: IngressSpec, bucket: Bucket, deps: Deps) -> Result<Self, IngressError> {
        if spec.mode != Mode::Tcp {
            return Err(IngressError::Mode(spec.mode));
        }
        let tls = match &spec.tls {
            None => None,
            Some(tls) => {
                let ip = spec.listen.ip();
                let source = TlsSource::new(tls, ip, deps.host_name.as_deref())?;
                Some(Arc::new(source))
            }
        };
        let protocol = spec.protocol;
        if protocol == Protocol::Udp && tls.is_some() {
            return Err(IngressError::NoTls);
        }
        let (socket, addr) = bind(spec.listen, protocol)?;
        let shared = Arc::new(Shared {
            spec,
            bucket,
            tunnels: deps.tunnels,
            counters: deps.counters,
            clock: deps.clock,
            balancer: Mutex::new(Balancer::default()),
            tls,
        });
        let ingress = Self {
            addr,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (stop, abort) = (ingress.stop.clone(), ingress.abort.clone());
        let taken = |cause| ListenError::Other { addr, cause };
        match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::from_std(socket.into()).map_err(taken)?;
                let accepting = accept_all(listener, shared, abort, ingress.tasks.clone());
                ingress.tasks.spawn(async move {
                    stop.run_until_cancelled(accepting).await;
                });
            }
            Protocol::Udp => {
                let listener = Listener::new(socket.into(), shared, stop).map_err(taken)?;
                let taking = listener.run(abort.clone());
                ingress.tasks.spawn(abort.run_until_cancelled_owned(taking));
            }
        }
        Ok(ingress)
    }

    /// What was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listener: new clients are refused by the system, running ones go on.
    pub fn stop_accepting(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Stops accepting and waits for the running connections, at most `limit`. Whether all
    /// have ended.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.stop_accepting();
        timeout(limit, self.tasks.wait()).await.is_ok()
    }

    /// Resets every running connection and closes the listener.
    pub fn abort(&self) {
        self.stop_accepting();
        self.abort.cancel();
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.abort();
    }
}

async fn accept_all(
    listener: TcpListener,
    shared: Arc<Shared>,
    abort: CancellationToken,
    tasks: TaskTracker,
) {
    let mut pause = PAUSE_FIRST;
    loop {
        match listener.accept().await {
            Ok((tcp, from)) => {
                pause = PAUSE_FIRST;
                place(&shared, tcp, from, &abort, &tasks);
            }
            Err(error) if is_about_one_client(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: connections that end will free some. Going on
                // at once would only burn a core, since the client stays in the backlog.
                tracing::warn!(%error, ?pause, "cannot accept; trying again");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Gives a client to a task of its own, on the thread of the link it will use.
fn place(
    shared: &Arc<Shared>,
    tcp: TcpStream,
    from: SocketAddr,
    abort: &CancellationToken,
    tasks: &TaskTracker,
) {
    let shared = Arc::clone(shared);
    let abort = abort.clone();
    // On the heap once: a task moves its future several times, and this one is large.
    match shared.first() {
        None => {
            let serving = Box::pin(shared.serve(tcp, from, None));
            tasks.spawn(async move { until(&abort, serving).await });
        }
        Some((first, runtime)) => {
            let serving = Box::pin(async move {
                match moved(tcp) {
                    Ok(tcp) => shared.serve(tcp, from, Some(first)).await,
                    Err(error) => tracing::warn!(%from, %error, "a client could not be served"),
                }
            });
            tasks.spawn_on(async move { until(&abort, serving).await }, &runtime);
        }
    }
}

/// The same socket on the poller of the thread that this is called on.
fn moved(tcp: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(tcp.into_std()?)
}

/// Errors that `accept` passes on from a connection that died in the backlog.
fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
    )
}
