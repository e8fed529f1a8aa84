//! Answers that go on: one JSON object per line, each sent as soon as there is one. Empty lines in
//! between show that the daemon is alive.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::header;
use serde::Serialize;
use tokio::time::{Interval, interval};
use tokio_util::sync::CancellationToken;

use super::Admin;
use super::ledger::BucketQuery;
use crate::api::feed::{Feed, KindQuery, Next, Wanted};
use crate::api::input::Asked;
use crate::api::refusal::Refusal;
use crate::api::serve::Chunk;

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

/// An answer of `lines`, until one `is_last` or `ending` is cancelled. It ends with the connection
/// that asked for it.
pub(in crate::api) fn stream_lines<T: Serialize + 'static>(
    lines: BoxStream<'static, T>,
    ending: CancellationToken,
    is_last: fn(&T) -> bool,
) -> Response {
    let running = Running {
        lines,
        ticks: interval(ALIVE_INTERVAL),
        ending,
        is_last,
    };
    response(Bytes::from_static(b"\n"), running)
}

struct Running<T> {
    lines: BoxStream<'static, T>,
    ticks: Interval,
    ending: CancellationToken,
    is_last: fn(&T) -> bool,
}

impl<T: Serialize + 'static> Source for Running<T> {
    async fn next(&mut self) -> Line {
        let told = tokio::select! {
            biased;
            told = self.lines.next() => told,
            () = self.ending.cancelled() => return Line::End,
            _ = self.ticks.tick() => return Line::Alive,
        };
        match told {
            Some(told) if (self.is_last)(&told) => Line::Last(line(&told)),
            Some(told) => Line::Json(line(&told)),
            None => Line::End,
        }
    }
}

/// What `?kind=` names; without it, everything that happens.
pub(super) async fn events(
    State(admin): State<Admin>,
    Asked(asked): Asked<KindQuery>,
) -> Result<Response, Refusal> {
    Ok(watch(admin, asked.wanted(Wanted::every_event())?))
}

/// Changes of the ledger.
pub(super) async fn ledger(
    State(admin): State<Admin>,
    Asked(asked): Asked<BucketQuery>,
) -> Response {
    watch(admin, Wanted::ledger(asked.bucket))
}

fn watch(admin: Admin, wanted: Wanted) -> Response {
    // Made before the first line is sent: what it promises holds.
    let feed = Feed::new(admin.control, admin.ending, wanted, ALIVE_INTERVAL);
    response(Bytes::from_static(WATCHING), feed)
}

impl Source for Feed {
    async fn next(&mut self) -> Line {
        match Feed::next(self).await {
            Next::Told(told) => Line::Json(line(&told)),
            Next::Alive => Line::Alive,
            Next::End => Line::End,
        }
    }
}
