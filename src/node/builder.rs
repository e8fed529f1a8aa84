//! Settings of a node about to start.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::start::Start;
use super::{Node, NodeError};
use crate::api::p2prc::Key;
use crate::clock::Clock;
use crate::mesh::addr::{HostPort, PeerAddr};
use crate::mesh::brain::Timing;
use crate::mesh::ip_table::RefreshPolicy;
use crate::mesh::keys::Interval;
use crate::mesh::name::Name;
use crate::mesh::networks::Held;
use crate::mesh::token::{Token, TokenText};

/// UDP address when none is given; a free port if it is taken.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 7717);
/// HTTP address of a daemon when none is given; a free port if it is taken.
pub const DEFAULT_HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7718);

#[derive(Default)]
pub(super) enum Http {
    #[default]
    Off,
    Default,
    At(SocketAddr),
}

/// Settings of a node about to start. Every setter returns the builder.
#[derive(Default)]
pub struct NodeBuilder {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) token: Option<TokenText>,
    pub(super) found: bool,
    pub(super) intervals: Option<(Interval, Interval)>,
    pub(super) name: Option<Name>,
    pub(super) listen: Option<Vec<SocketAddr>>,
    pub(super) shards: Option<NonZeroU32>,
    pub(super) advertise: Vec<HostPort>,
    pub(super) connect: Vec<PeerAddr>,
    pub(super) network_id: Option<Name>,
    pub(super) http: Http,
    pub(super) http_token: bool,
    pub(super) p2prc_http: Option<SocketAddr>,
    pub(super) p2prc_key: Option<Key>,
    pub(super) frps: Option<PathBuf>,
    pub(super) ip_table_refresh: Option<RefreshPolicy>,
    pub(super) admin_socket: bool,
    pub(super) clock: Option<Clock>,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) tunnel_memory: Option<u64>,
    pub(super) held: Held,
    pub(super) timing: Timing,
}

impl NodeBuilder {
    /// Where `identity.key`, the token and `warren.redb` live; made (0700) if missing. Required.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// The network. Without one the stored token is used, else a network is founded if
    /// [`NodeBuilder::found`] allows it.
    pub fn token(mut self, token: impl Into<TokenText>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whether a network may be founded when no token is known. Default no.
    pub fn found(mut self, yes: bool) -> Self {
        self.found = yes;
        self
    }

    /// How often the keys of a network that is founded change: for dials, and for discovery.
    pub fn intervals(mut self, crypto: Interval, discovery: Interval) -> Self {
        self.intervals = Some((crypto, discovery));
        self
    }

    /// The node's name. Default: the machine's host name.
    pub fn name(mut self, name: Name) -> Self {
        self.name = Some(name);
        self
    }

    /// UDP addresses. Default: [`DEFAULT_LISTEN`], or a free port where that is taken.
    pub fn listen(mut self, addrs: Vec<SocketAddr>) -> Self {
        self.listen = Some(addrs);
        self
    }

    /// How many threads carry bytes, at most [`MAX_SHARDS`](crate::mesh::shard::MAX_SHARDS). Default
    /// 1: the runtime that [`NodeBuilder::start`] is called on. More have threads and runtimes of
    /// their own, which end in [`Node::shutdown`].
    pub fn shards(mut self, count: NonZeroU32) -> Self {
        self.shards = Some(count);
        self
    }

    /// Addresses others can reach this node at, besides those of its interfaces.
    pub fn advertise(mut self, addrs: Vec<HostPort>) -> Self {
        self.advertise = addrs;
        self
    }

    /// Nodes to dial, besides those in the token and those known from before.
    pub fn connect(mut self, peers: Vec<PeerAddr>) -> Self {
        self.connect = peers;
        self
    }

    /// LocalAI's network id: a prefix of the names of buckets.
    pub fn network_id(mut self, id: Option<Name>) -> Self {
        self.network_id = id;
        self
    }

    /// Where the HTTP server listens. Default: it is off.
    pub fn http(mut self, addr: Option<SocketAddr>) -> Self {
        self.http = addr.map_or(Http::Off, Http::At);
        self
    }

    /// Switches the HTTP server on at [`DEFAULT_HTTP`], or a free port where that is taken.
    pub fn default_http(mut self) -> Self {
        self.http = Http::Default;
        self
    }

    /// Whether `/api/p2p/token` tells the token. Default no.
    pub fn http_token(mut self, yes: bool) -> Self {
        self.http_token = yes;
        self
    }

    /// Where P2PRC's routes are answered, to anybody who reaches that address. Default: nowhere.
    pub fn p2prc_http(mut self, addr: Option<SocketAddr>) -> Self {
        self.p2prc_http = addr;
        self
    }

    /// The key that requests to P2PRC's routes must carry. Default: none.
    pub fn p2prc_key(mut self, key: Option<Key>) -> Self {
        self.p2prc_key = key;
        self
    }

    /// The program that is run for P2PRC nodes which ask for an FRP server: `frps`. Needs
    /// [`NodeBuilder::p2prc_http`]. Default: they get none.
    pub fn frps(mut self, program: Option<PathBuf>) -> Self {
        self.frps = program;
        self
    }

    /// How the machines of the IP table are asked again without anybody who asks. Default: they
    /// are not.
    pub fn ip_table_refresh(mut self, policy: Option<RefreshPolicy>) -> Self {
        self.ip_table_refresh = policy;
        self
    }

    /// Whether the admin socket is opened, so that commands can attach. Default no.
    pub fn admin_socket(mut self, yes: bool) -> Self {
        self.admin_socket = yes;
        self
    }

    /// The clock. Tests move it.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How long running connections may take to end at shutdown. Default 30 s.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = Some(limit);
        self
    }

    /// Bytes that tunnels may hold, of what was sent and is not read or acknowledged, all together;
    /// at least [`MIN_BUDGET`](crate::mesh::window::MIN_BUDGET). Default 1 GB.
    pub fn tunnel_memory(mut self, bytes: u64) -> Self {
        self.tunnel_memory = Some(bytes);
        self
    }

    /// How many networks are kept of an explorer on this data directory.
    pub fn networks(mut self, held: Held) -> Self {
        self.held = held;
        self
    }

    /// When links are pinged, given up and renewed.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Starts the node. Needs a tokio runtime.
    ///
    /// # Errors
    /// What could not be opened or bound, by name; nothing is left running.
    pub async fn start(mut self) -> Result<Node, NodeError> {
        let dir = self
            .data_dir
            .take()
            .ok_or_else(|| NodeError::new("usage", "a node needs a data directory"))?;
        let clock = self.clock.take().unwrap_or_default();
        // Large, and every caller would hold it.
        Box::pin(Start::on(self, dir, clock)).await
    }
}

impl From<Token> for TokenText {
    fn from(token: Token) -> Self {
        TokenText::Native(token)
    }
}
