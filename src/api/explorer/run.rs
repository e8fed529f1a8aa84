//! An explorer of its own: a data directory without a node, served until it is asked to end.
//!
//! Begin: database, what the pool file says, listener, admin socket. End: no more clients and
//! looks, what looks have found, the pool file, the database, the socket; so whoever waits for the
//! socket to go may start the next one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::admin;
use crate::api::admin::serve_networks;
use crate::api::shapes::NodeError;
use crate::api::socket::AdminSocket;
#[cfg(feature = "p2p")]
use crate::api::sync::{self, Crawler, Settings};
use crate::clock::Clock;
use crate::mesh::name::{Name, NameError};
use crate::mesh::networks::Held;
use crate::service::listen;
#[cfg(feature = "p2p")]
use crate::service::networks::NetworksError;
use crate::service::networks::{NetworkDb, Pool, PoolError};
use crate::service::spec::{Protocol, TlsSpec};
use crate::service::tls::{TlsError, TlsSource};

/// What others are told who want the directory.
const NAME: &str = "explorer";
/// How often the pool file is brought up to date.
const POOL_PAUSE: Duration = Duration::from_secs(30);
/// How long the pool file may take at the end.
const POOL_LIMIT: Duration = Duration::from_secs(10);

/// What an explorer is asked to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its data directory; made if it is missing.
    pub dir: PathBuf,
    /// Where clients come; port 0 takes a free one.
    pub address: SocketAddr,
    /// How many networks are kept.
    pub held: Held,
    /// LocalAI's file of networks that is kept in step.
    pub pool: Option<PathBuf>,
    /// TLS towards clients.
    pub tls: Option<TlsSpec>,
    /// Networks that one client may post in a second, in the long run; `None` for any number.
    pub add_rate: Option<f64>,
    /// Whether tokens are shown whose posters agreed to it.
    pub publish_tokens: bool,
    /// How networks are looked at, when somebody asks for it.
    #[cfg(feature = "p2p")]
    pub looks: Settings,
    /// Whether they are looked at without being asked, whenever they are due.
    #[cfg(feature = "p2p")]
    pub with_sync: bool,
}

/// An explorer that listens. Dropped without [`Explorer::run`], it lets go of everything.
pub struct Explorer {
    db: NetworkDb,
    clock: Clock,
    listener: TcpListener,
    address: SocketAddr,
    admin: AdminSocket,
    pool: Option<Pool>,
    options: Options,
    #[cfg(feature = "p2p")]
    crawler: Crawler,
    #[cfg(feature = "p2p")]
    with_sync: bool,
}

impl Explorer {
    /// Opens the directory, takes in the pool file, and listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// What cannot be had, and what to do about it; `in_use` names who has the directory or that
    /// the address is taken. Nothing stays locked.
    pub async fn start(setup: Setup) -> Result<Self, NodeError> {
        let clock = Clock::default();
        let tls = tls(setup.tls.as_ref(), setup.address)?;
        let now = clock.now().unix_ms;
        let db = NetworkDb::open(&setup.dir, setup.held, now)?;
        match Self::listen(&setup, &db, clock, tls).await {
            Ok(explorer) => Ok(explorer),
            Err(refused) => {
                // Nothing was changed that could be lost.
                let _ = db.close().await;
                Err(refused)
            }
        }
    }

    async fn listen(
        setup: &Setup,
        db: &NetworkDb,
        clock: Clock,
        tls: Option<Arc<TlsSource>>,
    ) -> Result<Self, NodeError> {
        let name: Name = NAME
            .parse()
            .map_err(|error: NameError| NodeError::new("usage", error.to_string()))?;
        let now = clock.now().unix_ms;
        db.introduce(name, now)?;
        let pool = setup
            .pool
            .as_deref()
            .map(|path| Pool::new(db.clone(), path));
        if let Some(pool) = &pool {
            load(pool, now).await?;
        }
        let bound = listen::bind(setup.address, Protocol::Tcp);
        let (socket, address) = bound
            .map_err(|error| NodeError::new("in_use", error.to_string()).with_hint(error.hint()))?;
        let failed = |error| NodeError::new("io", format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::from_std(socket.into()).map_err(failed)?;
        #[cfg(feature = "p2p")]
        let crawler = Crawler::open(&setup.dir, db.clone(), clock.clone(), setup.looks.clone())
            .map_err(NetworksError::from)?;
        let admin = AdminSocket::bind(&setup.dir);
        let admin = admin.map_err(|error| NodeError::new("refused", error.to_string()))?;
        Ok(Self {
            db: db.clone(),
            clock,
            listener,
            address,
            admin,
            pool,
            options: Options {
                add_rate: setup.add_rate,
                publish_tokens: setup.publish_tokens,
                tls,
            },
            #[cfg(feature = "p2p")]
            crawler,
            #[cfg(feature = "p2p")]
            with_sync: setup.with_sync,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its networks.
    pub fn networks(&self) -> &NetworkDb {
        &self.db
    }

    /// Serves until `stop`, which the admin socket may cancel, too; then ends in order.
    ///
    /// # Errors
    /// What could not be written at the end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), NodeError> {
        let admin_stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let more = admin::routes(stop.clone());
        #[cfg(feature = "p2p")]
        let more = more.merge(sync::routes(self.crawler.clone(), admin_stop.clone()));
        let (db, clock) = (self.db.clone(), self.clock.clone());
        let end = admin_stop.clone();
        tasks.spawn(serve_networks(self.admin, db, clock, more, end));

        let (db, clock) = (self.db.clone(), self.clock.clone());
        let serving = super::serve(self.listener, db, clock.clone(), self.options, stop.clone());
        let sharing = share(self.pool.as_ref(), &clock, &stop);
        #[cfg(feature = "p2p")]
        let looking = async {
            if self.with_sync {
                self.crawler.run(&stop).await;
            }
        };
        #[cfg(not(feature = "p2p"))]
        let looking = std::future::ready(());
        tokio::join!(serving, sharing, looking);

        let pooled = match &self.pool {
            Some(pool) => end_pool(pool, clock.now().unix_ms).await,
            None => Ok(()),
        };
        let closed = self.db.close().await;
        admin_stop.cancel();
        while tasks.join_next().await.is_some() {}
        closed?;
        pooled
    }
}

/// Brings the pool file up to date again and again, until `stop`.
async fn share(pool: Option<&Pool>, clock: &Clock, stop: &CancellationToken) {
    let Some(pool) = pool else { return };
    let sharing = async {
        loop {
            sleep(POOL_PAUSE).await;
            if let Err(error) = pool.sync(clock.now().unix_ms).await {
                tracing::warn!(%error, "the pool file is not up to date");
            }
        }
    };
    stop.run_until_cancelled(sharing).await;
}

async fn load(pool: &Pool, now_ms: u64) -> Result<(), NodeError> {
    let pooled = pool.load(now_ms).await.map_err(pool_refused)?;
    for problem in &pooled.report.problems {
        tracing::warn!("left out of the pool: {problem}");
    }
    let more = pooled.report.problem_count - pooled.report.problems.len();
    if more > 0 {
        tracing::warn!("left out of the pool: {more} more rows");
    }
    let merged = pooled.merged;
    tracing::info!(
        added = merged.added,
        known = merged.known,
        "the pool was taken in"
    );
    Ok(())
}

async fn end_pool(pool: &Pool, now_ms: u64) -> Result<(), NodeError> {
    match timeout(POOL_LIMIT, pool.sync(now_ms)).await {
        Ok(synced) => synced.map(drop).map_err(pool_refused),
        Err(_) => Err(NodeError::new(
            "io",
            format!(
                "the pool file was not written within {} s",
                POOL_LIMIT.as_secs()
            ),
        )),
    }
}

fn tls(spec: Option<&TlsSpec>, at: SocketAddr) -> Result<Option<Arc<TlsSource>>, NodeError> {
    let Some(spec) = spec else { return Ok(None) };
    let system = rustix::system::uname();
    let host = system.nodename().to_str().ok();
    let source = TlsSource::new(spec, at.ip(), host);
    let source = source
        .map_err(|error| NodeError::new("usage", error.to_string()).with_hint(TlsError::HINT))?;
    Ok(Some(Arc::new(source)))
}

fn pool_refused(error: PoolError) -> NodeError {
    match error {
        PoolError::Networks(error) => error.into(),
        other => NodeError::new("io", other.to_string())
            .with_hint("--pool-database names a file of LocalAI's explorer; it was left as it is"),
    }
}
