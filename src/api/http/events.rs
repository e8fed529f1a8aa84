//! `GET /api/v1/events`: the state of the mesh, then its changes and what happens, as Server-Sent
//! Events (WHATWG HTML §9.2). Each connection begins with the whole state, so that nobody needs
//! to ask twice, also after a break: `Last-Event-ID` is not looked at.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Site;
use crate::api::feed::{Feed, KindQuery, Next, Told, Wanted};
use crate::api::input::Asked;
use crate::api::refusal::{Refusal, busy};
use crate::api::serve::Lease;
use crate::api::shapes::NodeError;

/// Streams at once. The rest of the server's connections stay for answers that end.
const MAX_STREAMS: usize = 32;
/// How often a comment keeps proxies in between from taking a quiet stream for a dead one.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The streams of a server.
#[derive(Clone)]
pub(super) struct Streams {
    slots: Arc<Semaphore>,
    ending: CancellationToken,
}

impl Streams {
    /// None yet; all end with `ending`.
    pub(super) fn new(ending: CancellationToken) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MAX_STREAMS)),
            ending,
        }
    }
}

/// One client's stream: of what `?kind=` names, or of everything.
pub(super) async fn stream(
    State(site): State<Site>,
    Extension(lease): Extension<Lease>,
    Asked(asked): Asked<KindQuery>,
) -> Result<Response, Response> {
    let wanted = asked
        .wanted(Wanted::everything())
        .map_err(Refusal::into_response)?;
    let Streams { slots, ending } = site.streams;
    let slot = slots.try_acquire_owned().map_err(|_| too_many())?;
    let client = Client {
        feed: Feed::new(site.control, ending, wanted, ALIVE_INTERVAL),
        lease,
        said: 0,
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
    let error = NodeError::new("busy", message)
        .with_hint("close one of them, or use `warren events`, which is not counted");
    busy(error)
}

/// Dropped with the connection that carries the answer.
struct Client {
    feed: Feed,
    lease: Lease,
    said: u64,
    _slot: OwnedSemaphorePermit,
}

impl Client {
    /// The next event; `None` when the node ends. It is asked for as fast as it is read: a client
    /// that stops reading does not renew its lease.
    async fn next(&mut self) -> Option<Event> {
        let event = match self.feed.next().await {
            Next::Told(told) => self.event(&told),
            Next::Alive => Event::default().comment("alive"),
            Next::End => return None,
        };
        self.lease.renew();
        Some(event)
    }

    fn event(&mut self, told: &Told) -> Event {
        self.said += 1;
        let text = serde_json::to_string(told).unwrap_or_else(|error| {
            tracing::error!(%error, "an event cannot be written as JSON");
            String::new()
        });
        let event = Event::default().event(told.kind());
        event.id(self.said.to_string()).data(text)
    }
}
