//! A local listener into the mesh: accepts clients and gives each to a task of its own.
//! What happens to a client is in `connection`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Shared;
use super::counts::Counters;
use super::spec::{IngressSpec, Mode, Protocol};
use super::tls::{TlsError, TlsSource};
use super::tunnels::Tunnels;
use super::udp::listen::Listener;
use crate::clock::Clock;
use crate::mesh::balance::Balancer;
use crate::mesh::name::Bucket;

/// How long opening a stream to a node, dialling included, may take before the next one is
/// tried.
pub const OPEN_LIMIT: Duration = Duration::from_secs(3);
/// Clients the kernel keeps waiting while the node is busy.
const BACKLOG: i32 = 1024;
/// Bytes that the kernel keeps of datagrams while the node is busy.
const UDP_BUFFER: usize = 1 << 20;
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
    /// Somebody else listens there.
    #[error("{0} is in use by another program")]
    InUse(SocketAddr),
    /// The system does not allow it.
    #[error("{0} may not be listened on by this user")]
    Forbidden(SocketAddr),
    /// No interface has this address.
    #[error("{0} is not an address of this machine")]
    NotOurs(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {addr}: {cause}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
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
            Self::InUse(_) => "stop it, or listen elsewhere; port 0 takes a free one",
            Self::Forbidden(_) => "ports below 1024 need CAP_NET_BIND_SERVICE; take a higher one",
            Self::NotOurs(_) => {
                "0.0.0.0 or [::] listens on all addresses of this machine; `ip address` lists them"
            }
            Self::Listen { .. } => "listen on another address",
            Self::NoTls => "leave the tls settings out",
            Self::Tls(_) => {
                "--tls-cert and --tls-key name PEM files of one certificate and its key; \
                 --tls-self-signed makes both"
            }
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
        let taken = |cause| IngressError::Listen { addr, cause };
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
                // On the heap once: a task moves its future several times, and this one is large.
                let serving = Box::pin(shared.clone().serve(tcp, from));
                tasks.spawn(abort.clone().run_until_cancelled_owned(serving));
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

/// Errors that `accept` passes on from a connection that died in the backlog.
fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
    )
}

fn bind(addr: SocketAddr, protocol: Protocol) -> Result<(Socket, SocketAddr), IngressError> {
    let bound = || -> io::Result<(Socket, SocketAddr)> {
        let (kind, number) = match protocol {
            Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
            Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
        };
        let socket = Socket::new(Domain::for_address(addr), kind, Some(number))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // Whatever the system's default: [::] means every address.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        match protocol {
            Protocol::Tcp => {
                socket.set_reuse_address(true)?;
                socket.bind(&addr.into())?;
                socket.listen(BACKLOG)?;
            }
            // Reuse would let two programs share a UDP port, and one of them hear nothing.
            Protocol::Udp => {
                // The system clamps it; less means more loss in a burst.
                let _ = socket.set_recv_buffer_size(UDP_BUFFER);
                socket.bind(&addr.into())?;
            }
        }
        let bound = socket.local_addr()?.as_socket();
        Ok((socket, bound.unwrap_or(addr)))
    };
    bound().map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => IngressError::InUse(addr),
        io::ErrorKind::PermissionDenied => IngressError::Forbidden(addr),
        io::ErrorKind::AddrNotAvailable => IngressError::NotOurs(addr),
        _ => IngressError::Listen { addr, cause },
    })
}
