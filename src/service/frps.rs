//! FRP servers for P2PRC nodes that ask for one, as P2PRC's relays give them: a process each. Other
//! than there it ends when it is not used, and serves nobody but who asked for it.
//!
//! A process listens on loopback; the public port before it is this program's. So the kernel
//! chooses it, it is known whether somebody is connected, and it ends with this program however
//! that ends: what `kill -9` leaves behind is a process without a client, which has no other port
//! open. The port that its client wants, a process opens itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Access;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::unix::pipe::Receiver;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::clock;

/// Connections to one server at once: its client needs one, or without multiplexing one for each
/// of those that it carries.
const MAX_CONNECTIONS: usize = 64;
/// Ports that a client may have opened: none that only the system's administrator gives away.
const ALLOWED_PORTS: &str = "1024-65535";
/// Ports of one client: P2PRC asks for a server for each.
const PORTS_OF_A_CLIENT: &str = "1";
/// Between two looks whether a process listens, and after the system refused a connection.
const PAUSE: Duration = Duration::from_millis(20);
/// How much of what a process says last is kept, in bytes.
const SAID_BYTES: usize = 512;
/// How long the rest of it may take once the process has ended.
const SAID_LIMIT: Duration = Duration::from_millis(500);

/// What bounds the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrpsLimits {
    /// Servers at once.
    pub servers: usize,
    /// How long one may take until it listens.
    pub start: Duration,
    /// How long one stays while nobody is connected to it. P2PRC's client waits 5 s before it
    /// connects, FRP's client 20 s between two attempts.
    pub unused: Duration,
    /// How long one may take to end when it is told to, and its connection when its client has
    /// ended; then it is killed, and cut.
    pub end: Duration,
}

impl Default for FrpsLimits {
    fn default() -> Self {
        Self {
            servers: 16,
            start: Duration::from_secs(5),
            unused: Duration::from_secs(120),
            end: Duration::from_secs(2),
        }
    }
}

/// Why there is no server. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrpsError {
    /// As many run as may.
    #[error("as many FRP servers run as may")]
    Busy,
    /// [`Frps::stop`] was called.
    #[error("no FRP server is started any more")]
    Closed,
    /// The system gives no port.
    #[error("there is no port for an FRP server: {0}")]
    Port(#[source] io::Error),
    /// The program does not start.
    #[error("{} cannot be started: {source}", program.display())]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended before it listened.
    #[error("the FRP server has ended ({status}) and said: {said:?}")]
    Ended {
        /// How.
        status: String,
        /// Its last words.
        said: String,
    },
    /// It runs and does not listen.
    #[error("the FRP server does not listen after {limit:?}; it said: {said:?}")]
    Silent {
        /// How long it had.
        limit: Duration,
        /// Its last words.
        said: String,
    },
}

/// Starts FRP servers and ends them. Clones are handles to the same servers.
#[derive(Clone)]
pub struct Frps(Arc<Inner>);

struct Inner {
    program: PathBuf,
    at: IpAddr,
    limits: FrpsLimits,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Frps {
    /// Servers that run `program`, with public ports at the address `at`.
    ///
    /// # Errors
    /// The program is not there, or cannot be executed.
    pub fn new(program: &Path, at: IpAddr, limits: FrpsLimits) -> io::Result<Self> {
        // Relative to where this program was started, wherever that is later.
        let program = std::path::absolute(program)?;
        if !std::fs::metadata(&program)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        rustix::fs::access(&program, Access::EXEC_OK)?;
        Ok(Self(Arc::new(Inner {
            program,
            at,
            limits,
            slots: Arc::new(Semaphore::new(limits.servers)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Starts a server and returns its public port, at which it listens by then. Only addresses
    /// that `admits` says yes to may connect; it is dropped when the server has ended.
    ///
    /// # Errors
    /// [`FrpsError`].
    pub async fn start(
        &self,
        admits: impl Fn(IpAddr) -> bool + Send + 'static,
    ) -> Result<u16, FrpsError> {
        let this = &self.0;
        let slot = Arc::clone(&this.slots).try_acquire_owned();
        let slot = slot.map_err(|error| match error {
            TryAcquireError::NoPermits => FrpsError::Busy,
            TryAcquireError::Closed => FrpsError::Closed,
        })?;
        let door = TcpListener::bind((this.at, 0)).await;
        let door = door.map_err(FrpsError::Port)?;
        let public = door.local_addr().map_err(FrpsError::Port)?;
        let inside = free_address().await.map_err(FrpsError::Port)?;
        let mut process = Process::spawn(&this.program, inside, this.at)?;
        process.wait_until_it_listens(this.limits).await?;
        tracing::info!(%public, "an FRP server runs");
        let server = Server {
            process,
            door,
            admits,
            connections: JoinSet::new(),
            limits: this.limits,
            stop: this.stop.clone(),
            _slot: slot,
        };
        this.tasks.spawn(server.run(public));
        Ok(public.port())
    }

    /// Ends all servers: their ports close and their connections are cut, then the processes are
    /// told to end, and after [`FrpsLimits::end`] killed. None is started any more.
    pub async fn stop(&self) {
        self.0.slots.close();
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// An address on loopback that was free a moment ago. FRP's server takes no listening socket; if
/// another program is quicker, it ends, and whoever asked may ask again.
async fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await?
        .local_addr()
}

/// One server.
struct Server<A> {
    process: Process,
    door: TcpListener,
    admits: A,
    connections: JoinSet<()>,
    limits: FrpsLimits,
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

/// Why a server is over.
enum Over {
    Stopped,
    Unused,
    Ended(io::Result<ExitStatus>),
}

impl<A: Fn(IpAddr) -> bool> Server<A> {
    async fn run(mut self, public: SocketAddr) {
        let over = self.serve().await;
        drop(self.door);
        self.connections.shutdown().await;
        match over {
            Over::Ended(status) => {
                let said = self.process.said().await;
                let status = told(&status);
                tracing::warn!(%public, status, said, "an FRP server has ended by itself");
            }
            Over::Unused | Over::Stopped => {
                self.process.end(self.limits.end).await;
                let unused = matches!(over, Over::Unused);
                tracing::info!(%public, unused, "an FRP server was stopped");
            }
        }
    }

    /// Carries connections to the process until it is over.
    async fn serve(&mut self) -> Over {
        let mut unused_at = clock::deadline(self.limits.unused);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Over::Stopped,
                status = self.process.child.wait() => return Over::Ended(status),
                () = sleep_until(unused_at), if self.connections.is_empty() => {
                    return Over::Unused;
                }
                Some(_) = self.connections.join_next() => {
                    unused_at = clock::deadline(self.limits.unused);
                }
                accepted = self.door.accept() => match accepted {
                    Ok((client, from)) => self.take(client, from.ip().to_canonical()),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a client of an FRP server");
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn take(&mut self, client: TcpStream, from: IpAddr) {
        if !(self.admits)(from) {
            tracing::debug!(%from, "an FRP server was asked for by somebody else");
        } else if self.connections.len() < MAX_CONNECTIONS {
            let (inside, end) = (self.process.at, self.limits.end);
            self.connections.spawn(async move {
                if let Err(error) = carry(client, inside, end).await {
                    tracing::debug!(%error, "a connection to an FRP server broke");
                }
            });
        }
    }
}

/// Copies both ways until the server's side is over: it knows when a silent client is gone for
/// good. When the client's side is over the server may take `end` to end its own.
async fn carry(mut client: TcpStream, inside: SocketAddr, end: Duration) -> io::Result<()> {
    let mut server = TcpStream::connect(inside).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        // Whatever ended it, the server hears that no more comes.
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
        sleep(end).await;
    };
    let down = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::select! {
        () = up => Ok(()),
        ended = down => ended,
    }
}

/// A process of the FRP server. Dropped, it is killed.
struct Process {
    child: Child,
    at: SocketAddr,
    said: AbortOnDropHandle<String>,
}

impl Process {
    /// Runs `program` so that it listens at `at` and opens its client's port at `open`. The flags
    /// are those of `frps --help` since 2018; later versions take `_` for `-`.
    fn spawn(program: &Path, at: SocketAddr, open: IpAddr) -> Result<Self, FrpsError> {
        let spawned = || {
            let (reader, writer) = io::pipe()?;
            let mut command = Command::new(program);
            command
                // Some versions look for ./frps.ini otherwise.
                .args(["-c", ""])
                .args(["--bind_addr", &at.ip().to_string()])
                .args(["--bind_port", &at.port().to_string()])
                .args(["--proxy_bind_addr", &open.to_string()])
                .args(["--allow_ports", ALLOWED_PORTS])
                .args(["--max_ports_per_client", PORTS_OF_A_CLIENT])
                .args(["--log_level", "warn"])
                // The network's token may stand in a variable.
                .env_clear()
                .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
                .stdin(Stdio::null())
                .stdout(writer.try_clone()?)
                .stderr(writer)
                // Ctrl-C is for this program, which ends its processes in order.
                .process_group(0)
                .kill_on_drop(true);
            let child = command.spawn()?;
            let said = tokio::spawn(last_words(Receiver::from_owned_fd(reader.into())?));
            Ok((child, AbortOnDropHandle::new(said)))
        };
        let (child, said) = spawned().map_err(|source| FrpsError::Spawn {
            program: program.to_owned(),
            source,
        })?;
        Ok(Self { child, at, said })
    }

    async fn wait_until_it_listens(&mut self, limits: FrpsLimits) -> Result<(), FrpsError> {
        let at = self.at;
        let listens = async move {
            while TcpStream::connect(at).await.is_err() {
                sleep(PAUSE).await;
            }
        };
        let ended = tokio::select! {
            status = self.child.wait() => Some(status),
            listening = timeout(limits.start, listens) => match listening {
                Ok(()) => return Ok(()),
                Err(_) => None,
            },
        };
        let Some(status) = ended else {
            self.end(limits.end).await;
            let (limit, said) = (limits.start, self.said().await);
            return Err(FrpsError::Silent { limit, said });
        };
        let said = self.said().await;
        Err(FrpsError::Ended {
            status: told(&status),
            said,
        })
    }

    /// Tells the process to end, and those that it started; kills them if they do not.
    async fn end(&mut self, limit: Duration) {
        for signal in [Signal::TERM, Signal::KILL] {
            // Without an id it has ended, and the id may be another's by now.
            let Some(id) = self.child.id() else { return };
            let group = i32::try_from(id).ok().and_then(Pid::from_raw);
            if let Some(group) = group {
                // It may have ended just now.
                let _ = kill_process_group(group, signal);
            }
            let _ = timeout(limit, self.child.wait()).await;
        }
    }

    /// What it said last, once it has ended.
    async fn said(&mut self) -> String {
        let said = timeout(SAID_LIMIT, &mut self.said).await;
        said.ok().and_then(Result::ok).unwrap_or_default()
    }
}

fn told(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Reads to the end, so that the process never waits for a reader; keeps the last of it, without
/// what a terminal would act on: an FRP server's log repeats what its clients say.
async fn last_words(mut from: Receiver) -> String {
    let mut kept = Vec::with_capacity(2 * SAID_BYTES);
    while from.read_buf(&mut kept).await.is_ok_and(|read| read > 0) {
        kept.drain(..kept.len().saturating_sub(SAID_BYTES));
    }
    let text = String::from_utf8_lossy(&kept);
    let text = text.replace(char::is_control, " ");
    text.trim().to_owned()
}
