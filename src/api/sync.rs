//! A pass of the explorer's crawler as lines: what an admin socket streams, and what a command
//! without a server prints.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::admin::stream_lines;
use super::shapes::{NetworkSynced, SyncDone, SyncLine, SyncOutcome, SyncStart};
use crate::mesh::networks::{Network, Outcome};
use crate::service::crawl::{Noted, Pass};
use crate::service::networks::NetworksError;

pub use crate::service::crawl::{Crawler, Settings};
pub use crate::service::networks::Pool;

/// Looks once at every network of `crawler`. Dropping the stream ends that; a network that it told
/// of is noted. So does `stop`, after what was found by then is noted.
pub fn sync(crawler: Crawler, stop: CancellationToken) -> BoxStream<'static, SyncLine> {
    let start = SyncStart {
        networks: crawler.count(),
    };
    let (noted, told) = mpsc::unbounded_channel();
    let pass = async move {
        // Whoever asked may be gone.
        let mut tell = |one: Noted| drop(noted.send(one));
        crawler.pass(&stop, &mut tell).await
    };
    let running = Running {
        pass: Box::pin(pass),
        told,
        ended: None,
    };
    let lines = stream::unfold(Some(running), async |running| running?.next().await);
    stream::iter([SyncLine::Syncing(start)])
        .chain(lines)
        .boxed()
}

struct Running {
    pass: BoxFuture<'static, Result<Pass, NetworksError>>,
    /// Bounded by the networks there are.
    told: mpsc::UnboundedReceiver<Noted>,
    ended: Option<SyncLine>,
}

impl Running {
    async fn next(mut self) -> Option<(SyncLine, Option<Self>)> {
        while self.ended.is_none() {
            tokio::select! {
                biased;
                Some(noted) = self.told.recv() => {
                    return Some((SyncLine::Network(synced(&noted)), Some(self)));
                }
                ended = &mut self.pass => self.ended = Some(match ended {
                    Ok(pass) => SyncLine::Done(done(pass)),
                    Err(error) => SyncLine::Error(error.into()),
                }),
            }
        }
        match self.told.try_recv() {
            Ok(noted) => Some((SyncLine::Network(synced(&noted)), Some(self))),
            Err(_) => Some((self.ended?, None)),
        }
    }
}

fn synced(noted: &Noted) -> NetworkSynced {
    let row = noted.row.as_deref();
    let (clusters, nodes, reason) = match &noted.outcome {
        Outcome::Seen { clusters, nodes } => (clusters.clone(), *nodes, None),
        Outcome::Silent { reason } | Outcome::Failed { reason } => {
            (Vec::new(), 0, Some(reason.clone()))
        }
        Outcome::Offline => (Vec::new(), 0, noted.excuse.clone()),
    };
    let said = |row: &Network| row.last_error.clone();
    let outcome = SyncOutcome::of(&noted.outcome);
    NetworkSynced {
        network: noted.before.key,
        name: noted.before.name.clone(),
        reason: match outcome {
            SyncOutcome::Nodes => row.and_then(said),
            _ => reason,
        },
        outcome,
        state: row.map(|row| row.state),
        failures: row.map_or(noted.before.failures, |row| row.failures),
        nodes,
        workers: clusters.iter().map(|cluster| cluster.workers.len()).sum(),
        clusters,
        took_ms: u64::try_from(noted.took.as_millis()).unwrap_or(u64::MAX),
    }
}

fn done(pass: Pass) -> SyncDone {
    SyncDone {
        networks: pass.networks,
        active: pass.active,
        missed: pass.missed,
        hidden: pass.hidden,
        removed: pass.removed,
        unknown: pass.excused,
        gone: pass.void,
    }
}

/// `POST /v1/networks/sync` for the admin socket of a process that crawls; `ending` ends its
/// answers. It is not refused while the crawler runs by itself: no network is looked at twice at
/// once.
pub fn routes(crawler: Crawler, ending: CancellationToken) -> Router {
    Router::new()
        .route("/v1/networks/sync", post(run))
        .with_state((crawler, ending))
}

async fn run(State((crawler, ending)): State<(Crawler, CancellationToken)>) -> Response {
    let lines = sync(crawler, ending.clone());
    stream_lines(lines, ending, |line| {
        matches!(line, SyncLine::Done(_) | SyncLine::Error(_))
    })
}
