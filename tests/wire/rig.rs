//! Nodes on loopback, small servers behind them, and waiting for conditions.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use warren::Token;
use warren::clock::Clock;
use warren::mesh::event::{Event, What};
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::keys::Secret;
use warren::node::{ExposeSpec, IngressSpec, Node, NodeBuilder, RoleKind, Strategy};
use warren::service::spec::{Failover, Mode};

/// Nothing here takes longer, unless something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);
/// Crypto interval of tests in which no epoch should end.
pub(crate) const CALM: u32 = 9_000;

pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

pub(crate) fn token(crypto_s: u32) -> Token {
    Token::new(Secret::new([7; 32]), crypto_s, 360).unwrap()
}

/// The identity of the test's `n`th node.
pub(crate) fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

/// A directory whose node will be [`identity`]`(n)`.
pub(crate) fn home(n: u8) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    become_node(&dir, n);
    dir
}

/// Gives the next start in `dir` another identity.
pub(crate) fn become_node(dir: &TempDir, n: u8) {
    let seed = data_encoding::BASE32_NOPAD.encode(&*identity(n).seed());
    let path = dir.path().join("identity.key");
    std::fs::write(&path, format!("{}\n", seed.to_ascii_lowercase())).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

pub(crate) struct Daemon {
    pub(crate) node: Node,
    pub(crate) home: TempDir,
}

impl std::ops::Deref for Daemon {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Daemon {
    /// Ends the node at once and gives back its directory.
    pub(crate) async fn stop(self) -> TempDir {
        self.node.abort().await;
        self.home
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.node.udp_addrs()[0]
    }

    /// `ID@HOST:PORT`.
    pub(crate) fn pinned(&self) -> String {
        at(self.id(), self.addr())
    }

    pub(crate) fn sees(&self, other: &Node) -> bool {
        self.sees_id(other.id())
    }

    pub(crate) fn sees_id(&self, other: NodeId) -> bool {
        let view = self.view();
        view.nodes.get(&other).is_some_and(|node| node.online)
    }

    pub(crate) fn refused_for(&self, reason: &str) -> u64 {
        self.status().refused.get(reason).copied().unwrap_or(0)
    }

    /// The message of a problem.
    pub(crate) fn problem(&self, code: &str) -> Option<String> {
        let problems = self.status().problems;
        let mut problems = problems.into_iter();
        problems.find(|p| p.code == code).map(|p| p.message)
    }
}

pub(crate) fn at(id: NodeId, addr: SocketAddr) -> String {
    format!("{id}@{addr}")
}

/// The shards of nodes whose test does not say, if they are not to be as many as by default.
fn shards() -> Option<NonZeroU32> {
    let count = std::env::var("WARREN_SHARDS").ok()?;
    Some(count.parse().expect("WARREN_SHARDS is a number"))
}

/// A node with three shards.
pub(crate) fn in_three(builder: NodeBuilder) -> NodeBuilder {
    builder.shards(NonZeroU32::new(3).unwrap())
}

/// How a node differs from [`start`]'s defaults.
pub(crate) struct With<'a> {
    pub(crate) token: Token,
    pub(crate) listen: SocketAddr,
    pub(crate) connect: &'a [String],
    pub(crate) clock: Clock,
    pub(crate) more: fn(NodeBuilder) -> NodeBuilder,
}

impl Default for With<'_> {
    fn default() -> Self {
        Self {
            token: token(CALM),
            listen: LOOPBACK.parse().unwrap(),
            connect: &[],
            clock: Clock::default(),
            more: |builder| builder,
        }
    }
}

pub(crate) async fn start(n: u8, with: With<'_>) -> Daemon {
    start_in(home(n), with).await
}

pub(crate) async fn start_in(home: TempDir, with: With<'_>) -> Daemon {
    let connect = with.connect.iter().map(|text| text.parse().unwrap());
    let name = format!("n{}", home.path().file_name().unwrap().len());
    let builder = Node::builder()
        .data_dir(home.path())
        .token(with.token)
        .name(name.parse().unwrap())
        .listen(vec![with.listen])
        .connect(connect.collect())
        .clock(with.clock)
        .drain_timeout(Duration::from_secs(5));
    let builder = match shards() {
        Some(count) => builder.shards(count),
        None => builder,
    };
    let node = (with.more)(builder).start().await.unwrap();
    Daemon { node, home }
}

/// Starts on an address that a node has just left.
pub(crate) async fn restart(home: TempDir, with: With<'_>) -> Daemon {
    let addr = with.listen;
    until("the address is free", || {
        std::net::UdpSocket::bind(addr).is_ok()
    })
    .await;
    start_in(home, with).await
}

/// Waits until `holds`, at most `limit`.
pub(crate) async fn within(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    within(what, DEADLINE, holds).await;
}

/// Fails if `happens` at any time in `span`.
pub(crate) async fn never_within(what: &str, span: Duration, mut happens: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(!happens(), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What was told since the receiver was made.
pub(crate) fn told(events: &mut broadcast::Receiver<Event>) -> Vec<What> {
    let next = || match events.try_recv() {
        Ok(event) => Some(event.what),
        Err(broadcast::error::TryRecvError::Empty) => None,
        Err(error) => panic!("events: {error}"),
    };
    std::iter::from_fn(next).collect()
}

pub(crate) fn downs(events: &mut broadcast::Receiver<Event>) -> Vec<What> {
    let mut told = told(events);
    told.retain(|what| matches!(what, What::NodeDown { .. } | What::NodeLeft { .. }));
    told
}

/// A server that gives each connection to `handle`.
pub(crate) async fn server<H, F>(handle: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(handle(tcp));
        }
    });
    addr
}

/// A server that sends back what comes, as it comes.
pub(crate) async fn echo() -> SocketAddr {
    server(|mut tcp| async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(len @ 1..) = tcp.read(&mut buffer).await {
            if tcp.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    })
    .await
}

pub(crate) async fn expose(node: &Node, service: &str, target: SocketAddr) {
    let spec = ExposeSpec::new(service.parse().unwrap(), target.into());
    node.expose(spec, false).await.unwrap();
}

/// Opens an ingress and waits until it has a provider.
pub(crate) async fn ingress(node: &Node, service: &str) -> SocketAddr {
    ingress_with(node, service, Failover::Connect).await
}

pub(crate) async fn ingress_with(node: &Node, service: &str, failover: Failover) -> SocketAddr {
    let spec = IngressSpec {
        strategy: Strategy::LeastUsed,
        failover,
        mode: Mode::Tcp,
        tls: None,
        ..IngressSpec::new(service.parse().unwrap(), LOOPBACK.parse().unwrap())
    };
    let role = node.ingress(spec, false).await.unwrap();
    let RoleKind::Ingress { listen, .. } = role.kind else {
        panic!("{role:?}");
    };
    let bucket = service.parse::<warren::mesh::name::Name>().unwrap().into();
    until("a provider", || {
        let view = node.view();
        let providers = view.services.get(&bucket);
        providers.is_some_and(|all| all.iter().any(|one| one.usable()))
    })
    .await;
    listen
}

/// Sends `ping` on `tcp` and reads it back.
pub(crate) async fn round_trip(tcp: &mut TcpStream, ping: &[u8]) -> std::io::Result<()> {
    tcp.write_all(ping).await?;
    let mut back = vec![0; ping.len()];
    tcp.read_exact(&mut back).await?;
    assert_eq!(back, ping);
    Ok(())
}
