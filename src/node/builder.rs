//! Starting a node: lock the directory, open the store, bind, then dial.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::roles::Roles;
use super::tunnels::Incoming;
use super::{Inner, Node, NodeError, Phase, kept_counts};
use crate::api::socket::AdminSocket;
use crate::clock::Clock;
use crate::driver::{Driver, DriverSetup};
use crate::mesh::addr::{HostPort, PeerAddr};
use crate::mesh::brain::{Brain, Setup, Timing};
use crate::mesh::entry::{Alive, LifeState};
use crate::mesh::id::{Identity, NodeId};
use crate::mesh::keys::{Interval, NetworkKeys, Secret};
use crate::mesh::knock::Knock;
use crate::mesh::name::{Bucket, MAX_NAME_BYTES, Name, NameError};
use crate::mesh::observed::is_global;
use crate::mesh::records::{MAX_ADDRESSES, NodeRecord, VERSION};
use crate::mesh::token::{Token, TokenText};
use crate::net::addresses::dialable;
use crate::net::gate::SharedGate;
use crate::net::{LinkEvent, Net, NetError, NetSetup};
use crate::service::counts::Counters;
use crate::service::expose::Exposes;
use crate::store::{Change, Holder, Loaded, NodeText, Store, StoreError, files};

/// UDP address when none is given; a free port if it is taken.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 7717);
/// HTTP address of a daemon when none is given; a free port if it is taken.
pub const DEFAULT_HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7718);
/// How long running connections may take to end at shutdown.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// Link events waiting for the driver.
const MAX_LINK_EVENTS: usize = 1_024;
/// Epochs below that of the newest knock whose nonces stay on disk: the accepted ones, and those
/// that a clock set back by hand accepts again.
const KNOCK_EPOCHS_KEPT: u64 = 4;

#[derive(Default)]
enum Http {
    #[default]
    Off,
    Default,
    At(SocketAddr),
}

/// Settings of a node about to start. Every setter returns the builder.
#[derive(Default)]
pub struct NodeBuilder {
    data_dir: Option<PathBuf>,
    token: Option<TokenText>,
    found: bool,
    intervals: Option<(Interval, Interval)>,
    name: Option<Name>,
    listen: Option<Vec<SocketAddr>>,
    advertise: Vec<HostPort>,
    connect: Vec<PeerAddr>,
    network_id: Option<Name>,
    http: Http,
    http_token: bool,
    admin_socket: bool,
    clock: Option<Clock>,
    drain_timeout: Option<Duration>,
    timing: Timing,
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
        let (store, loaded) = open_store(dir.clone(), clock.now().unix_ms).await?;
        let started = self.start_on(&dir, clock, store.clone(), loaded).await;
        if started.is_err() {
            // What stopped the start is what people need to hear, not what followed.
            let _ = store.close().await;
        }
        started
    }

    async fn start_on(
        self,
        dir: &Path,
        clock: Clock,
        store: Store,
        loaded: Loaded,
    ) -> Result<Node, NodeError> {
        let identity = files::load_or_create_identity(dir).map_err(store_error)?;
        let had_token = files::load_token(dir).map_err(store_error)?.is_some();
        let was_blank = !had_token
            && loaded.ledger.is_empty()
            && loaded.peers.is_empty()
            && loaded.roles.is_empty();
        let token = self.resolve_token(dir).await?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => host_name(&identity)?,
        };
        let holder = Holder {
            pid: std::process::id(),
            node: Some(NodeText(identity.id())),
            name: Some(name.clone()),
            started_ms: clock.now().unix_ms,
        };
        store.write_pid_file(&holder).map_err(store_error)?;
        let keys = NetworkKeys::new(&token);
        let gate = SharedGate::new(clock.clone(), keys.clone(), identity.id(), true);
        let oldest = gate.lock().oldest_epoch();
        gate.lock()
            .load_used(clock.now().mono, loaded.knocks.iter().copied());
        store.later(Change::ForgetKnocksBefore(
            oldest.saturating_sub(KNOCK_EPOCHS_KEPT),
        ));

        let counters = counters(&store, loaded.counts);
        let exposes = Exposes::default().counting(identity.id(), counters.clone());
        let (events, links) = mpsc::channel(MAX_LINK_EVENTS);
        let net = self.start_net(
            &identity,
            &gate,
            &keys,
            loaded.boot,
            &exposes,
            &store,
            events,
        )?;
        let opened = self.open_doors(dir).await.and_then(|doors| {
            // Last of all: a start that fails leaves no token behind.
            files::save_token(dir, &token.to_text()).map_err(store_error)?;
            Ok(doors)
        });
        let (http, admin) = match opened {
            Ok(doors) => doors,
            Err(error) => {
                net.shutdown(Duration::ZERO).await;
                return Err(error);
            }
        };
        let (advertise, knockable) = self.advertised(&net).await;
        gate.lock().set_own(knockable.clone());
        let connect = token
            .bootstrap()
            .iter()
            .chain(&self.connect)
            .cloned()
            .collect();
        let record = NodeRecord {
            name: name.clone(),
            version: VERSION.to_owned(),
            addresses: advertise.clone(),
            draining: false,
        };
        let id = identity.id();
        let setup = Setup {
            identity,
            network: keys.network_id(),
            boot: loaded.boot,
            record,
            connect,
            crypto_interval: keys.crypto_interval().seconds(),
            timing: self.timing,
        };
        let brain = Brain::new(clock.now(), setup, loaded.peers, loaded.ledger);
        let (driver, running) = Driver::new(DriverSetup {
            brain,
            net: Arc::clone(&net),
            links,
            store: store.clone(),
            clock: clock.clone(),
            addresses: advertise.clone(),
            knockable,
        })
        .map_err(|_| NodeError::new("refused", "the operating system gives no random numbers"))?;
        let tasks = TaskTracker::new();
        tasks.spawn(running);

        let node = Node {
            inner: Arc::new(Inner {
                id,
                name,
                token,
                network_id: self.network_id,
                data_dir: dir.to_owned(),
                was_blank,
                advertise,
                http: http
                    .as_ref()
                    .and_then(|listener| listener.local_addr().ok()),
                http_token: self.http_token,
                drain_timeout: self.drain_timeout.unwrap_or(DEFAULT_DRAIN),
                started: clock.now(),
                clock,
                driver,
                net,
                store,
                exposes,
                counters,
                roles: Roles::new(&loaded.roles).into(),
                phase: watch::Sender::new(Phase::Running),
                api: CancellationToken::new(),
                stop: CancellationToken::new(),
                tasks,
                api_tasks: TaskTracker::new(),
            }),
        };
        if let Some(socket) = admin {
            node.serve_admin(socket);
        }
        if let Some(listener) = http {
            node.serve_http(listener);
        }
        node.watch_readiness();
        node.restore_roles(loaded.roles).await;
        Ok(node)
    }

    /// The token given, else the stored one, else a new network's. It is not stored yet.
    async fn resolve_token(&self, dir: &Path) -> Result<Token, NodeError> {
        let stored = files::load_token(dir).map_err(store_error)?;
        let text = match (&self.token, &stored) {
            (Some(given), _) => given.clone(),
            (None, Some(stored)) => TokenText::parse(stored).map_err(|error| {
                let message = format!("the token stored in {}: {error}", dir.display());
                NodeError::new("usage", message)
                    .with_hint("give the right one once with --token-file")
            })?,
            (None, None) if self.found => {
                let mut seed = Zeroizing::new([0; 32]);
                aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| {
                    NodeError::new("refused", "the operating system gives no random numbers")
                })?;
                let default = (Interval::DEFAULT_CRYPTO, Interval::DEFAULT_DISCOVERY);
                let (crypto, discovery) = self.intervals.unwrap_or(default);
                let token = Token::new(Secret::new(*seed), crypto.seconds(), discovery.seconds());
                TokenText::Native(token.map_err(|e| NodeError::new("usage", e.to_string()))?)
            }
            (None, None) => {
                return Err(
                    NodeError::new("no_token", "no token: none given, none stored")
                        .with_hint("`warren up` founds a network and prints how others join it"),
                );
            }
        };
        let token = with_secret(dir.to_owned(), text).await?;
        // A token of another network over the stored one would mix two networks' ledgers.
        if let Some(stored) = stored
            .as_deref()
            .and_then(|text| TokenText::parse(text).ok())
        {
            let stored = with_secret(dir.to_owned(), stored).await?;
            if !stored.same_network(&token) {
                let message = format!("{} belongs to another network", dir.display());
                return Err(NodeError::new("other_network", message).with_hint(
                    "`warren leave` forgets the old network; or use another --data-dir",
                ));
            }
        }
        Ok(token)
    }

    #[allow(clippy::too_many_arguments)] // called once, with what start_on has just made
    fn start_net(
        &self,
        identity: &Identity,
        gate: &SharedGate,
        keys: &NetworkKeys,
        boot: u64,
        exposes: &Exposes,
        store: &Store,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Arc<Net>, NodeError> {
        let keep = store.clone();
        let forgotten = Arc::new(AtomicU64::new(0));
        let setup = |listen: Vec<SocketAddr>| NetSetup {
            identity: identity.clone(),
            gate: gate.clone(),
            listen,
            alive: Alive::sign(keys.network_id(), identity, boot, 0, LifeState::Alive),
            events: events.clone(),
            tunnels: Arc::new(Incoming {
                exposes: exposes.clone(),
            }),
            knock_used: {
                let (keep, forgotten) = (keep.clone(), Arc::clone(&forgotten));
                Arc::new(move |knock: &Knock| {
                    let (epoch, nonce) = (knock.keys.epoch(), knock.nonce());
                    keep.later(Change::Knock { epoch, nonce });
                    // A member dials as often as it likes: rows must not pile up until a restart.
                    let oldest = epoch.saturating_sub(KNOCK_EPOCHS_KEPT);
                    if forgotten.fetch_max(oldest, Ordering::Relaxed) < oldest {
                        keep.later(Change::ForgetKnocksBefore(oldest));
                    }
                })
            },
        };
        let given = self.listen.clone().unwrap_or_else(|| vec![DEFAULT_LISTEN]);
        let in_use = |error: &NetError| {
            matches!(error, NetError::Bind { source, .. }
                if source.kind() == std::io::ErrorKind::AddrInUse)
        };
        match Net::start(setup(given)) {
            Err(error) if self.listen.is_none() && in_use(&error) => {
                tracing::warn!(
                    "UDP port {} is taken; using a free one",
                    DEFAULT_LISTEN.port()
                );
                let free = SocketAddr::new(DEFAULT_LISTEN.ip(), 0);
                Net::start(setup(vec![free])).map_err(net_error)
            }
            other => other.map_err(net_error),
        }
    }

    /// Configured addresses first, then those of the interfaces (DESIGN §3); and which of them a
    /// dial without id may be made for. A private address of an interface is not one of those:
    /// in another LAN it is somebody else's, so there the datagram itself must have come to it
    /// (A4). What `--advertise` names is the user's word.
    async fn advertised(&self, net: &Net) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let mut all = Vec::new();
        for at in &self.advertise {
            match tokio::net::lookup_host((at.host(), at.port())).await {
                Ok(found) => all.extend(found),
                Err(error) => tracing::warn!(%at, %error, "--advertise has no address; left out"),
            }
        }
        let mut knockable = all.clone();
        for addr in dialable(&net.local_addrs()) {
            if !all.contains(&addr) {
                all.push(addr);
                knockable.extend(Some(addr).filter(|addr| is_global(addr.ip())));
            }
        }
        all.truncate(MAX_ADDRESSES);
        (all, knockable)
    }

    /// What local clients come in by: bound, not served yet.
    async fn open_doors(
        &self,
        dir: &Path,
    ) -> Result<(Option<tokio::net::TcpListener>, Option<AdminSocket>), NodeError> {
        let http = self.bind_http().await?;
        if !self.admin_socket {
            return Ok((http, None));
        }
        match AdminSocket::bind(dir) {
            Ok(socket) => Ok((http, Some(socket))),
            Err(error) => Err(NodeError::new("in_use", error.to_string())),
        }
    }

    async fn bind_http(&self) -> Result<Option<tokio::net::TcpListener>, NodeError> {
        let addr = match self.http {
            Http::Off => return Ok(None),
            Http::Default => DEFAULT_HTTP,
            Http::At(addr) => addr,
        };
        let bound = match tokio::net::TcpListener::bind(addr).await {
            Err(error)
                if matches!(self.http, Http::Default)
                    && error.kind() == std::io::ErrorKind::AddrInUse =>
            {
                tracing::warn!("HTTP port {} is taken; using a free one", addr.port());
                tokio::net::TcpListener::bind(SocketAddr::new(addr.ip(), 0)).await
            }
            other => other,
        };
        bound.map(Some).map_err(|error| {
            NodeError::new("in_use", format!("HTTP {addr}: {error}"))
                .with_hint("choose another address with --http, or `--http off`")
        })
    }
}

impl From<Token> for TokenText {
    fn from(token: Token) -> Self {
        TokenText::Native(token)
    }
}

async fn open_store(dir: PathBuf, now_ms: u64) -> Result<(Store, Loaded), NodeError> {
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, now_ms)).await;
    match opened {
        Ok(result) => result.map_err(store_error),
        Err(_) => Err(NodeError::new(
            "store",
            "opening the data directory was interrupted",
        )),
    }
}

/// A LocalAI token's secret costs 64 MiB and a tenth of a second to derive: once per token, then
/// it is read from a file next to it.
async fn with_secret(dir: PathBuf, text: TokenText) -> Result<Token, NodeError> {
    let localai = match text {
        TokenText::Native(token) => return Ok(token),
        TokenText::LocalAi(localai) => localai,
    };
    let derive = move || {
        let mut key = [0; 32];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, localai.text().as_bytes());
        key.copy_from_slice(hash.as_ref());
        if let Some(kept) = files::load_localai_secret(&dir, &key)? {
            return Ok(Ok(Token::from_localai(localai, Secret::new(*kept))));
        }
        let token = Token::parse(localai.text());
        if let Ok(token) = &token {
            files::save_localai_secret(&dir, &key, token.secret().expose())?;
        }
        Ok(token)
    };
    let derived: Result<Result<Token, _>, StoreError> =
        match tokio::task::spawn_blocking(derive).await {
            Ok(derived) => derived,
            Err(_) => return Err(NodeError::new("usage", "reading the token was interrupted")),
        };
    derived
        .map_err(store_error)?
        .map_err(|error| NodeError::new("usage", error.to_string()))
}

fn counters(store: &Store, kept: Vec<(Bucket, NodeId, u64)>) -> Counters {
    let store = store.clone();
    let sink = move |bucket: &Bucket, node, add| {
        store.later(Change::Count {
            bucket: bucket.clone(),
            node,
            add,
        });
    };
    Counters::new(kept_counts(kept), Arc::new(sink))
}

/// The machine's host name as far as names allow it, else the short id.
fn host_name(identity: &Identity) -> Result<Name, NodeError> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let kept = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let host: String = kept.take(MAX_NAME_BYTES).collect();
    let name = host.parse().or_else(|_| identity.id().short().parse());
    name.map_err(|error: NameError| NodeError::new("usage", error.to_string()))
}

fn store_error(error: StoreError) -> NodeError {
    let code = match &error {
        StoreError::Held { .. } => "in_use",
        _ => "store",
    };
    NodeError::new(code, error.to_string())
}

fn net_error(error: NetError) -> NodeError {
    match &error {
        NetError::Bind { addr, source } => {
            let hint = match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program uses this UDP port; stop it, or choose another with --listen"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --listen"
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    "this machine has no such address; `ip address` lists them"
                }
                _ => "choose another address with --listen",
            };
            NodeError::new("in_use", format!("cannot bind UDP {addr}: {source}")).with_hint(hint)
        }
        NetError::Tls(_) => NodeError::new("refused", error.to_string()),
    }
}
