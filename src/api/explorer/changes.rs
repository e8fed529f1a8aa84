//! `GET /api/v1/events`: how many networks there are, then each that changes, as Server-Sent
//! Events (WHATWG HTML §9.2). Each connection begins with the counts, also after a break:
//! `Last-Event-ID` is not looked at. Who misses something is told to read everything anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use http::StatusCode;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answers::busy_here;
use super::door::{Busy, Guest};
use super::lists::{counts, is_shown};
use super::shapes::{Listed, Told, What};
use crate::api::refusal::Refusal;
use crate::api::serve::Lease;
use crate::api::shapes::NodeError;
use crate::clock::Clock;
use crate::service::networks::{NetworkChanges, NetworkDb};

/// Streams at once. The rest of the server's connections stay for answers that end.
const MAX_STREAMS: usize = 256;
/// Between two looks at what changed: a crawler's many changes are told together.
const PAUSE: Duration = Duration::from_millis(100);
/// More changes at once than this are told as one: read everything anew.
const MAX_AT_ONCE: usize = 100;
/// Events that a slow client may be behind.
const BACKLOG: usize = 512;
/// How often a comment keeps proxies in between from taking a quiet stream for a dead one.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Seconds after which a client that was refused may try again.
const RETRY_AFTER: u64 = 5;

/// An event as it is sent to everybody.
#[derive(Clone)]
struct Line {
    kind: &'static str,
    revision: u64,
    data: Arc<str>,
}

/// The changes, and who follows them.
pub(super) struct Changes {
    lines: broadcast::Sender<Line>,
    slots: Arc<Semaphore>,
    teller: Teller,
}

/// What is needed to tell of networks.
#[derive(Clone)]
struct Teller {
    db: NetworkDb,
    clock: Clock,
    publish_tokens: bool,
}

impl Changes {
    /// Tells from now on, until `ending`.
    pub(super) fn start(
        db: &NetworkDb,
        publish_tokens: bool,
        clock: &Clock,
        ending: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let teller = Teller {
            db: db.clone(),
            clock: clock.clone(),
            publish_tokens,
        };
        let lines = broadcast::Sender::new(BACKLOG);
        let telling = teller.clone().run(db.changes(), lines.clone());
        let ending = ending.clone();
        tasks.spawn(async move {
            ending.run_until_cancelled(telling).await;
        });
        Self {
            lines,
            slots: Arc::new(Semaphore::new(MAX_STREAMS)),
            teller,
        }
    }

    /// How many clients follow.
    pub(super) fn followers(&self) -> usize {
        MAX_STREAMS - self.slots.available_permits()
    }
}

impl Teller {
    async fn run(
        self,
        mut changes: broadcast::Receiver<Arc<NetworkChanges>>,
        lines: broadcast::Sender<Line>,
    ) {
        loop {
            let mut told = match changes.recv().await {
                Ok(change) => self.change(&change),
                Err(RecvError::Lagged(_)) => vec![self.all()],
                Err(RecvError::Closed) => return,
            };
            loop {
                match changes.try_recv() {
                    Ok(_) if told.len() > MAX_AT_ONCE => {}
                    Ok(change) => told.extend(self.change(&change)),
                    Err(TryRecvError::Lagged(_)) => told = vec![self.all()],
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            if told.len() > MAX_AT_ONCE {
                told = vec![self.all()];
            }
            for line in told {
                // Nobody may be listening.
                let _ = lines.send(line);
            }
            sleep(PAUSE).await;
        }
    }

    fn change(&self, change: &NetworkChanges) -> Vec<Line> {
        let put = change.put.iter().map(|network| match is_shown(network) {
            true => What::Network {
                network: Box::new(Listed::of(network, self.publish_tokens)),
            },
            false => What::NetworkRemoved {
                fingerprint: network.key,
            },
        });
        let removed = change
            .removed
            .iter()
            .map(|key| What::NetworkRemoved { fingerprint: *key });
        let all = put.chain(removed).take(MAX_AT_ONCE + 1);
        all.map(|what| self.line(change.revision, what)).collect()
    }

    fn all(&self) -> Line {
        let networks = self.db.networks();
        let (total, online) = counts(&networks);
        self.line(networks.revision(), What::Networks { total, online })
    }

    fn line(&self, revision: u64, what: What<'_>) -> Line {
        let kind = what.kind();
        let at_ms = self.clock.now().unix_ms;
        let told = Told {
            at_ms,
            revision,
            what,
        };
        let data = serde_json::to_string(&told).unwrap_or_else(|error| {
            tracing::error!(%error, "an event cannot be written as JSON");
            String::new()
        });
        Line {
            kind,
            revision,
            data: data.into(),
        }
    }
}

/// One client's stream.
pub(super) async fn stream(
    State(site): Shared,
    Extension(guest): Extension<Arc<Guest>>,
    Extension(lease): Extension<Lease>,
) -> Result<Response, Response> {
    let changes = &site.changes;
    let slot = Arc::clone(&changes.slots).try_acquire_owned();
    let slot = slot.map_err(|_| too_many())?;
    let mut alive = interval(ALIVE_INTERVAL);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive.reset();
    let client = Follower {
        // Before the counts are read: what happens in between is told twice rather than never.
        lines: changes.lines.subscribe(),
        teller: changes.teller.clone(),
        is_new: true,
        ending: site.ending.clone(),
        alive,
        lease,
        _busy: guest.busy(),
        _slot: slot,
    };
    let events = unfold(client, async |mut client| {
        let event = client.next().await?;
        Some((Ok::<_, Infallible>(event), client))
    });
    // nginx collects an answer before it passes it on, unless it is told not to.
    Ok(([("x-accel-buffering", "no")], Sse::new(events)).into_response())
}

fn too_many() -> Response {
    let message = format!("{MAX_STREAMS} clients follow events already, and no more may");
    let error =
        NodeError::new("busy", message).with_hint("ask for /api/v1/networks from time to time");
    busy_here(Refusal(StatusCode::SERVICE_UNAVAILABLE, error), RETRY_AFTER)
}

/// Dropped with the connection that carries the answer.
struct Follower {
    lines: broadcast::Receiver<Line>,
    teller: Teller,
    is_new: bool,
    ending: CancellationToken,
    alive: Interval,
    lease: Lease,
    _busy: Busy,
    _slot: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` when the server ends. It is asked for as fast as it is read: a
    /// client that stops reading does not renew its lease.
    async fn next(&mut self) -> Option<Event> {
        let line = if std::mem::take(&mut self.is_new) {
            self.teller.all()
        } else {
            tokio::select! {
                () = self.ending.cancelled() => return None,
                _ = self.alive.tick() => {
                    self.lease.renew();
                    return Some(Event::default().comment("alive"));
                }
                line = self.lines.recv() => match line {
                    Ok(line) => line,
                    Err(RecvError::Lagged(_)) => self.teller.all(),
                    Err(RecvError::Closed) => return None,
                },
            }
        };
        self.lease.renew();
        let event = Event::default()
            .event(line.kind)
            .id(line.revision.to_string());
        Some(event.data(&*line.data))
    }
}
