//! Answers that go on: one JSON object per line, each sent as soon as there is one. Empty lines in
//! between show that the daemon is alive.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header;
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Interval, interval};

use super::Admin;
use super::input::Asked;
use super::ledger::BucketQuery;
use crate::api::refusal::Refusal;
use crate::api::serve::Chunk;
use crate::mesh::event::{Event, What};
use crate::mesh::name::Bucket;

/// How often a quiet stream shows that it is alive.
const ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// First line of a watch: from here on nothing is missed.
const WATCHING: &[u8] = b"{\"event\":\"watching\"}\n";

/// What a stream says next.
pub(super) enum Line {
    /// An object.
    Json(Bytes),
    /// Nothing, but that it goes on.
    Alive,
    /// An object, the last.
    Last(Bytes),
    /// Nothing, any more.
    End,
}

/// `value` as a line.
pub(super) fn line<T: Serialize>(value: &T) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a line cannot be written as JSON");
        Vec::new()
    });
    text.push(b'\n');
    text.into()
}

/// Where the lines of an answer come from. Dropped with the connection that carries the answer.
pub(super) trait Source: Send + 'static {
    /// The next line.
    fn next(&mut self) -> impl Future<Output = Line> + Send;
}

/// An answer that begins with `first` and goes on with what `source` says.
pub(super) fn response<S: Source>(first: Bytes, source: S) -> Response {
    let rest = stream::unfold(Some(source), async |state| {
        let mut source = state?;
        let (bytes, goes_on) = match source.next().await {
            Line::Json(bytes) => (bytes, true),
            Line::Alive => (Bytes::from_static(b"\n"), true),
            Line::Last(bytes) => (bytes, false),
            Line::End => return None,
        };
        Some((Chunk::Ok(bytes), goes_on.then_some(source)))
    });
    let body = Body::from_stream(stream::iter([Chunk::Ok(first)]).chain(rest));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Everything that happens.
pub(super) async fn events(State(admin): State<Admin>) -> Response {
    watch(admin, Only::Everything)
}

/// Changes of the ledger.
pub(super) async fn ledger(
    State(admin): State<Admin>,
    Asked(asked): Asked<BucketQuery>,
) -> Result<Response, Refusal> {
    Ok(watch(admin, Only::Ledger(asked.bucket)))
}

fn watch(admin: Admin, only: Only) -> Response {
    // Subscribed before the first line is sent: what it promises holds.
    let watch = Watch {
        events: admin.control.events(),
        admin,
        only,
        ticks: interval(ALIVE_INTERVAL),
    };
    response(Bytes::from_static(WATCHING), watch)
}

/// Which events are wanted.
enum Only {
    Everything,
    Ledger(Option<Bucket>),
}

impl Only {
    fn wants(&self, event: &Event) -> bool {
        match (self, &event.what) {
            (Self::Everything, _) => true,
            (Self::Ledger(wanted), What::Ledger { bucket, .. }) => {
                wanted.as_ref().is_none_or(|wanted| wanted == bucket)
            }
            (Self::Ledger(_), _) => false,
        }
    }
}

struct Watch {
    admin: Admin,
    events: Receiver<Event>,
    only: Only,
    ticks: Interval,
}

impl Source for Watch {
    async fn next(&mut self) -> Line {
        loop {
            let received = tokio::select! {
                () = self.admin.ending.cancelled() => return Line::End,
                _ = self.ticks.tick() => return Line::Alive,
                received = self.events.recv() => received,
            };
            match received {
                Ok(event) if self.only.wants(&event) => return Line::Json(line(&event)),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => return Line::Json(line(&self.lagged(lost))),
                Err(RecvError::Closed) => return Line::End,
            }
        }
    }
}

impl Watch {
    /// A reader that is too slow is told so: silence would look like completeness.
    fn lagged(&self, lost: u64) -> Event {
        Event {
            at_ms: self.admin.control.now().unix_ms,
            what: What::Warning {
                code: "lagged".into(),
                message: format!("{lost} events were lost: this reader is too slow"),
            },
        }
    }
}
