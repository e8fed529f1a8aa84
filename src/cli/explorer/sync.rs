//! `warren explorer sync`: looks at the networks of the data directory, once and through the process
//! that has it open, or whenever they are due and as that process.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warren::api::NetworksError;
use warren::api::admin::serve_networks;
use warren::api::client::Lines;
use warren::api::shapes::{
    NetworkSynced, NodeError, SyncDone, SyncLine, SyncOutcome, SyncReport, SyncStart,
};
use warren::api::socket::AdminSocket;
use warren::api::sync::{Pool, Settings, routes, sync};
use warren::clock::{self, Clock};
use warren::mesh::networks::{Policy, State};
use warren::{ClientError, Crawler, NetworkDb};

use super::networks::Networks;
use crate::cli::args::SyncArgs;
use crate::cli::fail::Failure;
use crate::cli::output::{Output, Table, Tone, plain};
use crate::cli::progress::Bar;
use crate::cli::reach::Reach;
use crate::cli::signals::Signals;
use crate::config::Config;

/// Most networks looked at at once: each takes a socket.
const MAX_AT_ONCE: u64 = 1_000;
/// How often the pool file is brought up to date.
const POOL_PAUSE: Duration = Duration::from_secs(30);

/// Runs `explorer sync`, and returns the exit code.
pub(super) async fn run(args: &SyncArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    match args.once {
        true => once(config, output).await,
        false => forever(settings(config)?, config, output).await,
    }
}

/// How networks are looked at, as configured.
pub(in crate::cli) fn settings(config: &Config) -> Result<Settings, Failure> {
    let (set, default) = (&config.set, Settings::default());
    let at_once = set.crawl_concurrency.unwrap_or(default.at_once as u64);
    if !(1..=MAX_AT_ONCE).contains(&at_once) {
        return Err(Failure::usage(format!(
            "1 to {MAX_AT_ONCE} networks are looked at at once; --crawl-concurrency is {at_once}"
        )));
    }
    let threshold = set.connection_error_threshold.map(u32::try_from);
    let threshold = threshold.unwrap_or(Ok(Policy::DEFAULT_THRESHOLD));
    let threshold = threshold
        .map_err(|_| Failure::usage("--connection-error-threshold is larger than any count"))?;
    Ok(Settings {
        at_once: usize::try_from(at_once).unwrap_or(default.at_once),
        limit: set.connection_timeout.map_or(default.limit, |span| span.0),
        policy: Policy {
            threshold,
            delete_after: set
                .delete_after
                .map_or(default.policy.delete_after, |span| span.0),
            ..default.policy
        },
        allow_private: set.allow_private == Some(true),
    })
}

/// What the command works on while no other process has the directory.
struct Here {
    dir: PathBuf,
    db: NetworkDb,
    clock: Clock,
    pool: Option<Pool>,
}

impl Here {
    async fn of(dir: &Path, db: NetworkDb, config: &Config) -> Result<Self, Failure> {
        let pool = config.set.pool_database.as_deref();
        let pool = pool.map(|path| Pool::new(db.clone(), path));
        let here = Self {
            dir: dir.to_owned(),
            db,
            clock: Clock::default(),
            pool,
        };
        if let Some(pool) = &here.pool {
            let now = here.clock.now().unix_ms;
            if let Err(error) = pool.load(now).await {
                let failure = NodeError::new("io", error.to_string()).into();
                return here.db.close().await.map_err(refused).and(Err(failure));
            }
        }
        Ok(here)
    }

    fn crawler(&self, settings: Settings) -> Result<Crawler, Failure> {
        Crawler::open(&self.dir, self.db.clone(), self.clock.clone(), settings)
            .map_err(|error| Failure::failed("store", error.to_string()))
    }

    /// Brings the pool file up to date.
    async fn share(&self) -> Result<(), Failure> {
        let Some(pool) = &self.pool else {
            return Ok(());
        };
        let shared = pool.sync(self.clock.now().unix_ms).await;
        shared
            .map(drop)
            .map_err(|error| Failure::failed("io", error.to_string()))
    }

    /// Lets go of the directory, and says what went wrong first.
    async fn end<T>(self, done: Result<T, Failure>) -> Result<T, Failure> {
        let shared = self.share().await;
        let closed = self.db.close().await.map_err(refused);
        let done = done?;
        shared.and(closed).map(|()| done)
    }
}

/// Where the lines of a pass come from.
enum Syncing {
    Process(Lines),
    Here(BoxStream<'static, SyncLine>),
}

impl Syncing {
    async fn next(&mut self) -> Result<SyncLine, Failure> {
        let line = match self {
            Self::Process(lines) => lines.next_as().await?,
            Self::Here(lines) => lines.next().await,
        };
        // A process that stops ends its streams.
        let hint = "what was found until then is noted";
        line.ok_or_else(|| Failure::failed("stopped", "the explorer stopped").hint(hint))
    }
}

/// Looks once at every network.
pub(super) async fn once(config: &Config, output: Output) -> Result<u8, Failure> {
    let settings = settings(config)?;
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let passed = async {
        let make = config.set.pool_database.is_some();
        match Networks::open(config, make).await?.reached() {
            Reach::None => show(&SyncReport::default(), output),
            Reach::Daemon(client) => {
                let lines = client.sync_networks().await.map_err(not_syncing)?;
                pass(Syncing::Process(lines), output).await
            }
            Reach::Here(db) => {
                let here = Here::of(config.data_dir()?, db, config).await?;
                let passed = match here.crawler(settings) {
                    Ok(crawler) => pass(Syncing::Here(sync(crawler, stop.clone())), output).await,
                    Err(error) => Err(error),
                };
                here.end(passed).await
            }
        }
    };
    let mut passed = pin!(passed);
    tokio::select! {
        passed = &mut passed => passed.map(|()| 0),
        asked = signals.next() => {
            // What was found is noted; a second signal does not wait for that.
            stop.cancel();
            tokio::select! {
                passed = &mut passed => passed.map(|()| asked.exit_code()),
                asked = signals.next() => Ok(asked.exit_code()),
            }
        }
    }
}

/// A process that has the directory open, and does not look at networks.
fn not_syncing(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(error) if error.code == "not_found" => {
            let message = "the process on this data directory does not look at networks";
            Failure::failed("refused", message)
                .hint("start it with `warren explorer serve --with-sync`, or stop it")
        }
        other => other.into(),
    }
}

async fn pass(mut lines: Syncing, output: Output) -> Result<(), Failure> {
    let bar = Bar::new("looking", io::stderr().is_terminal())?;
    let mut report = SyncReport::default();
    loop {
        let line = lines.next().await;
        if !matches!(line, Ok(SyncLine::Syncing(_) | SyncLine::Network(_))) {
            bar.clear();
        }
        match line? {
            SyncLine::Syncing(SyncStart { networks }) => bar.start(networks),
            SyncLine::Network(network) => {
                report.networks.push(network);
                bar.step();
            }
            SyncLine::Done(done) => {
                report.sync = done;
                break;
            }
            SyncLine::Error(error) => return Err(error.into()),
        }
    }
    show(&report, output)?;
    let SyncDone {
        networks, unknown, ..
    } = report.sync;
    if networks > 0 && unknown == networks {
        let message = "nothing was found out about any network; nothing is counted";
        return Err(Failure::failed("unreachable", message).hint("each line says why"));
    }
    Ok(())
}

fn show(report: &SyncReport, output: Output) -> Result<(), Failure> {
    if output.json {
        let mut text = Vec::new();
        report.write(&mut text)?;
        return output.raw(&text);
    }
    let mut networks: Vec<&NetworkSynced> = report.networks.iter().collect();
    networks.sort_by_key(|one| {
        (
            rank(one.outcome),
            std::cmp::Reverse(one.workers),
            one.network,
        )
    });
    output.table(Table {
        header: &[
            "network", "name", "state", "workers", "nodes", "failures", "why",
        ],
        rows: networks.into_iter().map(row).collect(),
        empty: "no networks",
    })?;
    let done = report.sync;
    if done.networks == 0 {
        return Ok(());
    }
    let mut text = format!("{} with workers, {} without", done.active, done.missed);
    for (count, what) in [
        (done.hidden, "hidden from now on"),
        (done.removed, "removed"),
        (done.unknown, "of which nothing is known"),
        (done.gone, "gone meanwhile"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    output.line(text)
}

fn rank(outcome: SyncOutcome) -> u8 {
    match outcome {
        SyncOutcome::Workers => 0,
        SyncOutcome::Nodes => 1,
        SyncOutcome::Unknown => 2,
        SyncOutcome::Nobody | SyncOutcome::Failure => 3,
    }
}

fn row(one: &NetworkSynced) -> Vec<(String, Tone)> {
    let state = match one.state {
        Some(State::Active) => ("active".to_owned(), Tone::Good),
        Some(State::New) => ("new".to_owned(), Tone::Plain),
        Some(state) => (state.to_string(), Tone::Bad),
        None => ("removed".to_owned(), Tone::Faint),
    };
    let why = one.reason.clone().unwrap_or_default();
    vec![
        plain(&one.network),
        plain(&one.name),
        state,
        plain(&one.workers),
        plain(&one.nodes),
        plain(&one.failures),
        (why, Tone::Faint),
    ]
}

async fn forever(settings: Settings, config: &Config, output: Output) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let db = match Networks::open(config, true).await?.reached() {
        Reach::Here(db) => db,
        Reach::Daemon(_) | Reach::None => {
            let message = "another process has this data directory";
            let hint = "--once looks through it, if it is an explorer that looks at networks";
            return Err(Failure::failed("in_use", message).hint(hint));
        }
    };
    let here = Here::of(config.data_dir()?, db, config).await?;
    let ran = crawl(&here, settings, &mut signals, output).await;
    here.end(ran).await
}

async fn crawl(
    here: &Here,
    settings: Settings,
    signals: &mut Signals,
    output: Output,
) -> Result<u8, Failure> {
    let crawler = here.crawler(settings)?;
    let admin = AdminSocket::bind(&here.dir)
        .map_err(|error| Failure::failed("in_use", error.to_string()))?;
    let (stop, admin_stop) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let more = routes(crawler.clone(), admin_stop.clone());
    let (db, clock) = (here.db.clone(), here.clock.clone());
    tasks.spawn(serve_networks(admin, db, clock, more, admin_stop.clone()));
    match output.line(format!("looking at {} networks", crawler.count())) {
        // Nobody reads it: it goes on all the same.
        Err(Failure::OutputClosed) => {}
        said => said?,
    }
    let mut running = pin!(crawler.run(&stop));
    let mut shared_at = clock::deadline(POOL_PAUSE);
    loop {
        tokio::select! {
            () = &mut running => break,
            _ = signals.next() => break,
            () = tokio::time::sleep_until(shared_at) => {
                shared_at = clock::deadline(POOL_PAUSE);
                if let Err(Failure::Error { error, .. }) = here.share().await {
                    tracing::warn!(error = %error.message, "the pool file is not up to date");
                }
            }
        }
    }
    stop.cancel();
    let code = tokio::select! {
        () = &mut running => 0,
        asked = signals.next() => asked.exit_code(),
    };
    admin_stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(code)
}

fn refused(error: NetworksError) -> Failure {
    NodeError::from(error).into()
}
