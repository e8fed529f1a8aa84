//! The start of a node, in order: lock the directory, open the store, bind, then dial.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::builder::{DEFAULT_HTTP, DEFAULT_LISTEN, Http, NodeBuilder};
use super::guests::{Door, Guests};
use super::refusal::{net_error, store_error};
use super::roles::Roles;
use super::tunnels::Incoming;
use super::{Inner, Node, NodeError, Phase, kept_counts, network};
use crate::api::socket::AdminSocket;
use crate::clock::Clock;
use crate::driver::{Driver, DriverSetup};
use crate::mesh::alive::{Alive, LifeState};
use crate::mesh::brain::{Brain, Setup};
use crate::mesh::id::{Identity, NodeId};
use crate::mesh::keys::{Interval, NetworkKeys};
use crate::mesh::knock::Knock;
use crate::mesh::name::{Bucket, MAX_NAME_BYTES, Name, NameError};
use crate::mesh::observed::is_global;
use crate::mesh::records::{MAX_ADDRESSES, NodeRecord, VERSION};
use crate::mesh::token::Token;
use crate::mesh::window::{DEFAULT_BUDGET, MIN_BUDGET};
use crate::net::addresses::dialable;
use crate::net::gate::SharedGate;
use crate::net::{LinkEvent, Net, NetError, NetSetup};
use crate::service::counts::Counters;
use crate::service::expose::Exposes;
use crate::service::frps::{Frps, FrpsLimits};
use crate::service::ip_table::IpTable;
use crate::service::measure::Measuring;
use crate::service::networks::NetworkDb;
use crate::store::{Change, Holder, Loaded, NodeText, Store, files};

/// How long running connections may take to end at shutdown.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// Link events waiting for the driver.
const MAX_LINK_EVENTS: usize = 1_024;
/// Epochs below that of the newest knock whose nonces stay on disk: the accepted ones, and those
/// that a clock set back by hand accepts again.
const KNOCK_EPOCHS_KEPT: u64 = 4;

/// What every later step of a start needs.
pub(super) struct Start {
    config: NodeBuilder,
    dir: PathBuf,
    clock: Clock,
    store: Store,
    identity: Identity,
    name: Name,
    token: Token,
    /// Nothing of a network was in the directory: what this start leaves may go if it fails.
    was_blank: bool,
    gate: SharedGate,
    exposes: Exposes,
    counters: Counters,
    ip_table: IpTable,
    networks: NetworkDb,
}

/// What local clients come in by: bound, not served yet.
struct Doors {
    http: Option<TcpListener>,
    p2prc: Option<Door>,
    admin: Option<AdminSocket>,
}

/// Where the node is reached.
struct Bound {
    advertise: Vec<SocketAddr>,
    http: Option<SocketAddr>,
    p2prc: Option<SocketAddr>,
}

impl Start {
    /// Starts a node on `dir`.
    ///
    /// # Errors
    /// What could not be opened or bound, by name; nothing is left running.
    pub(super) async fn on(
        config: NodeBuilder,
        dir: PathBuf,
        clock: Clock,
    ) -> Result<Node, NodeError> {
        let (store, mut loaded) = open_store(dir.clone(), clock.now().unix_ms).await?;
        let prepared = Self::prepare(config, dir, clock, store.clone(), &mut loaded).await;
        let started = match prepared {
            Ok(start) => start.run(loaded).await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            // What stopped the start is what people need to hear, not what followed.
            let _ = store.close().await;
        }
        started
    }

    /// Everything that needs no socket.
    async fn prepare(
        config: NodeBuilder,
        dir: PathBuf,
        clock: Clock,
        store: Store,
        loaded: &mut Loaded,
    ) -> Result<Self, NodeError> {
        let identity = files::load_or_create_identity(&dir).map_err(store_error)?;
        let had_token = files::load_token(&dir).map_err(store_error)?.is_some();
        let was_blank = !had_token
            && loaded.ledger.is_empty()
            && loaded.peers.is_empty()
            && loaded.roles.is_empty();
        let default = (Interval::DEFAULT_CRYPTO, Interval::DEFAULT_DISCOVERY);
        let found = config.found.then(|| config.intervals.unwrap_or(default));
        let token = network::token(&dir, config.token.as_ref(), found).await?;
        let name = match &config.name {
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
        let gate = open_gate(&clock, NetworkKeys::new(&token), &identity, loaded, &store);
        let counters = counters(&store, std::mem::take(&mut loaded.counts));
        let ip_table = IpTable::of(store.clone(), loaded, Some(identity.id()));
        let networks = NetworkDb::of(store.clone(), loaded, config.held);
        let exposes = Exposes::default().counting(identity.id(), counters.clone());
        Ok(Self {
            config,
            dir,
            clock,
            store,
            identity,
            name,
            token,
            was_blank,
            gate,
            exposes,
            counters,
            ip_table,
            networks,
        })
    }

    /// Binds, then dials, then serves.
    async fn run(self, loaded: Loaded) -> Result<Node, NodeError> {
        let (events, links) = mpsc::channel(MAX_LINK_EVENTS);
        let net = self.start_net(loaded.boot, &events)?;
        drop(events);
        let opened = self.open_doors().await.and_then(|doors| {
            // Last of all: a start that fails leaves no token behind.
            files::save_token(&self.dir, &self.token.to_text()).map_err(store_error)?;
            Ok(doors)
        });
        let doors = match opened {
            Ok(doors) => doors,
            Err(error) => {
                net.shutdown(Duration::ZERO).await;
                return Err(error);
            }
        };
        let (advertise, knockable) = self.advertised(&net).await;
        self.gate.lock().set_own(knockable.clone());
        let kept_roles = loaded.roles.clone();
        let brain = self.brain(loaded, &advertise);
        let (driver, running) = Driver::new(DriverSetup {
            brain,
            net: Arc::clone(&net),
            links,
            store: self.store.clone(),
            clock: self.clock.clone(),
            addresses: advertise.clone(),
            knockable,
        })
        .map_err(|_| NodeError::new("refused", "the operating system gives no random numbers"))?;
        let tasks = TaskTracker::new();
        tasks.spawn(running);
        let http = doors.http.as_ref().and_then(|http| http.local_addr().ok());
        let p2prc = doors.p2prc.as_ref();
        let p2prc = p2prc.and_then(|door| door.listener.local_addr().ok());
        let roles = Roles::new(&kept_roles);
        let key = self.config.p2prc_key.clone();
        let refresh = self.config.ip_table_refresh;
        let at = Bound {
            advertise,
            http,
            p2prc,
        };
        let node = self.into_node(driver, net, at, roles, tasks);
        if let Some(socket) = doors.admin {
            node.serve_admin(socket);
        }
        if let Some(listener) = doors.http {
            node.serve_http(listener);
        }
        node.watch_readiness();
        node.share_ip_table();
        if let Some(policy) = refresh {
            node.refresh_ip_table(policy);
        }
        if let Some(door) = doors.p2prc {
            node.serve_guests(door, key).await;
        }
        node.restore_roles(kept_roles).await;
        Ok(node)
    }

    fn brain(&self, loaded: Loaded, advertise: &[SocketAddr]) -> Brain {
        let keys = NetworkKeys::new(&self.token);
        let connect = self.token.bootstrap().iter().chain(&self.config.connect);
        let setup = Setup {
            identity: self.identity.clone(),
            network: keys.network_id(),
            boot: loaded.boot,
            record: NodeRecord {
                name: self.name.clone(),
                version: VERSION.to_owned(),
                addresses: advertise.to_vec(),
                draining: false,
            },
            connect: connect.cloned().collect(),
            crypto_interval: keys.crypto_interval().seconds(),
            timing: self.config.timing,
        };
        let Loaded {
            peers,
            floors,
            ledger,
            ..
        } = loaded;
        Brain::new(self.clock.now(), setup, peers, floors, ledger)
    }

    fn into_node(
        self,
        driver: Driver,
        net: Arc<Net>,
        at: Bound,
        roles: Roles,
        tasks: TaskTracker,
    ) -> Node {
        Node {
            inner: Arc::new(Inner {
                id: self.identity.id(),
                name: self.name,
                token: self.token,
                network_id: self.config.network_id,
                data_dir: self.dir,
                was_blank: self.was_blank,
                advertise: at.advertise,
                http: at.http,
                p2prc_http: at.p2prc,
                guests: Guests::default(),
                http_token: self.config.http_token,
                drain_timeout: self.config.drain_timeout.unwrap_or(DEFAULT_DRAIN),
                started: self.clock.now(),
                clock: self.clock,
                driver,
                net,
                store: self.store,
                exposes: self.exposes,
                counters: self.counters,
                ip_table: self.ip_table,
                networks: self.networks,
                roles: roles.into(),
                phase: watch::Sender::new(Phase::Running),
                api: CancellationToken::new(),
                stop: CancellationToken::new(),
                tasks,
                api_tasks: TaskTracker::new(),
            }),
        }
    }

    /// Binds what was asked for, or the default port, or a free one where that is taken.
    fn start_net(
        &self,
        boot: u64,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Result<Arc<Net>, NodeError> {
        let given = self.config.listen.clone();
        let asked = given.clone().unwrap_or_else(|| vec![DEFAULT_LISTEN]);
        let in_use = |error: &NetError| {
            matches!(error, NetError::Bind { source, .. }
                if source.kind() == std::io::ErrorKind::AddrInUse)
        };
        match Net::start(self.net_setup(boot, events, asked)) {
            Err(error) if given.is_none() && in_use(&error) => {
                tracing::warn!(
                    "UDP port {} is taken; using a free one",
                    DEFAULT_LISTEN.port()
                );
                let free = SocketAddr::new(DEFAULT_LISTEN.ip(), 0);
                Net::start(self.net_setup(boot, events, vec![free])).map_err(net_error)
            }
            other => other.map_err(net_error),
        }
    }

    fn net_setup(
        &self,
        boot: u64,
        events: &mpsc::Sender<LinkEvent>,
        listen: Vec<SocketAddr>,
    ) -> NetSetup {
        let network = NetworkKeys::new(&self.token).network_id();
        let keep = self.store.clone();
        let forgotten = AtomicU64::new(0);
        let knock_used = move |knock: &Knock| {
            let (epoch, nonce) = (knock.keys.epoch(), knock.nonce());
            keep.later(Change::Knock { epoch, nonce });
            // A member dials as often as it likes: rows must not pile up until a restart.
            let oldest = epoch.saturating_sub(KNOCK_EPOCHS_KEPT);
            if forgotten.fetch_max(oldest, Ordering::Relaxed) < oldest {
                keep.later(Change::ForgetKnocksBefore(oldest));
            }
        };
        NetSetup {
            identity: self.identity.clone(),
            gate: self.gate.clone(),
            listen,
            shards: self.config.shards.unwrap_or(NonZeroU32::MIN),
            alive: Alive::sign(network, &self.identity, boot, 0, LifeState::Alive),
            events: events.clone(),
            tunnels: Arc::new(Incoming {
                exposes: self.exposes.clone(),
                measuring: Measuring::new(self.clock.clone()),
            }),
            knock_used: Arc::new(knock_used),
            tunnel_memory: (self.config.tunnel_memory)
                .map_or(DEFAULT_BUDGET, |bytes| bytes.max(MIN_BUDGET)),
        }
    }

    /// Configured addresses first, then those of the interfaces (DESIGN §3); and which of them a
    /// dial without id may be made for. A private address of an interface is not one of those:
    /// in another LAN it is somebody else's, so there the datagram itself must have come to it
    /// (A4). What `--advertise` names is the user's word.
    async fn advertised(&self, net: &Net) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let mut all = Vec::new();
        for at in &self.config.advertise {
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

    async fn open_doors(&self) -> Result<Doors, NodeError> {
        let http = self.bind_http().await?;
        let p2prc = self.bind_p2prc().await?;
        if !self.config.admin_socket {
            return Ok(Doors {
                http,
                p2prc,
                admin: None,
            });
        }
        match AdminSocket::bind(&self.dir) {
            Ok(socket) => Ok(Doors {
                http,
                p2prc,
                admin: Some(socket),
            }),
            Err(error) => Err(NodeError::new("in_use", error.to_string())),
        }
    }

    async fn bind_p2prc(&self) -> Result<Option<Door>, NodeError> {
        let Some(addr) = self.config.p2prc_http else {
            return match self.config.frps {
                Some(_) => Err(
                    NodeError::new("usage", "--frps is given, but not --p2prc-http")
                        .with_hint("say with --p2prc-http where P2PRC's routes are answered"),
                ),
                None => Ok(None),
            };
        };
        let frps = self.frps(addr.ip())?;
        let bound = TcpListener::bind(addr).await;
        let listener = bound.map_err(|error| {
            NodeError::new("in_use", format!("P2PRC HTTP {addr}: {error}"))
                .with_hint("choose another address with --p2prc-http, or leave it out")
        })?;
        Ok(Some(Door { listener, frps }))
    }

    /// FRP servers for who asks P2PRC's routes at the address `at`.
    fn frps(&self, at: IpAddr) -> Result<Option<Frps>, NodeError> {
        let Some(program) = &self.config.frps else {
            return Ok(None);
        };
        let frps = Frps::new(program, at, FrpsLimits::default());
        let frps = frps.map_err(|error| {
            let message = format!("--frps {}: {error}", program.display());
            NodeError::new("usage", message).with_hint("give the path of FRP's server, `frps`")
        })?;
        if !at.is_loopback() && self.config.p2prc_key.is_none() {
            tracing::warn!(
                "whoever reaches {at} may open ports of this machine with --frps; \
                 --p2prc-http-key-file admits only who has the key"
            );
        }
        Ok(Some(frps))
    }

    async fn bind_http(&self) -> Result<Option<TcpListener>, NodeError> {
        let addr = match self.config.http {
            Http::Off => return Ok(None),
            Http::Default => DEFAULT_HTTP,
            Http::At(addr) => addr,
        };
        let bound = match TcpListener::bind(addr).await {
            Err(error)
                if matches!(self.config.http, Http::Default)
                    && error.kind() == std::io::ErrorKind::AddrInUse =>
            {
                tracing::warn!("HTTP port {} is taken; using a free one", addr.port());
                TcpListener::bind(SocketAddr::new(addr.ip(), 0)).await
            }
            other => other,
        };
        bound.map(Some).map_err(|error| {
            NodeError::new("in_use", format!("HTTP {addr}: {error}"))
                .with_hint("choose another address with --http, or `--http off`")
        })
    }
}

/// The gate of the network, with the nonces that were used before this start.
fn open_gate(
    clock: &Clock,
    keys: NetworkKeys,
    identity: &Identity,
    loaded: &Loaded,
    store: &Store,
) -> SharedGate {
    let gate = SharedGate::new(clock.clone(), keys, identity.id(), true);
    let used = loaded.knocks.iter().copied();
    gate.lock().load_used(clock.now().mono, used);
    let oldest = gate.lock().oldest_epoch().saturating_sub(KNOCK_EPOCHS_KEPT);
    store.later(Change::ForgetKnocksBefore(oldest));
    gate
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
