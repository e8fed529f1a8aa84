//! The explorer over HTTP: LocalAI's routes with its messages, a page for people, and `/api/v1`
//! with a stream of changes. Strangers reach it: whoever asks is bounded in requests, bytes,
//! connections and time, nothing that is posted is connected to from here, and what networks say
//! of themselves is passed on as text.
//!
//! Tokens are shown only where whoever posted one agreed to it and the operator did not forbid it.

mod add;
mod admin;
mod answers;
mod changes;
pub mod commands;
mod door;
mod lists;
mod metrics;
mod page;
mod prefix;
mod run;
mod shapes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::clients::{Clients, V6};
use super::serve::{self, Limits};
use crate::clock::Clock;
use crate::service::networks::NetworkDb;
use crate::service::tls::TlsSource;
use add::Spending;
use answers::no_such_page;
use changes::Changes;
use door::{Door, Guest};
use lists::Lists;
use metrics::Metrics;
use page::Assets;
pub use run::{Explorer, Setup};

const LIMITS: Limits = Limits {
    connections: door::MAX_CONNECTIONS + door::WAITING,
    head: Duration::from_secs(10),
    // Whoever stops reading an answer gives up its slot. A stream renews this while it is read.
    lifetime: Some(Duration::from_secs(60)),
    drain: Duration::from_secs(5),
};

/// What the operator says.
struct Options {
    add_rate: Option<f64>,
    publish_tokens: bool,
    tls: Option<Arc<TlsSource>>,
}

/// Serves `listener` until `cancel`, then ends streams and lets running requests finish for a few
/// seconds at most.
async fn serve(
    listener: TcpListener,
    db: NetworkDb,
    clock: Clock,
    options: Options,
    cancel: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let changes = Changes::start(&db, options.publish_tokens, &clock, &cancel, &mut tasks);
    let spending = Spending::new(options.add_rate);
    let site = Arc::new(Site {
        lists: Lists::new(options.publish_tokens),
        spending: Mutex::new(Clients::new(spending, V6::Link)),
        assets: Assets::new(),
        metrics: Metrics::new(),
        ending: cancel.clone(),
        changes,
        db,
        clock,
    });
    let door = Door::new(listener, options.tls, router(site));
    serve::serve(door, LIMITS, cancel).await;
    while tasks.join_next().await.is_some() {}
}

/// What the routes share.
struct Site {
    db: NetworkDb,
    clock: Clock,
    lists: Lists,
    changes: Changes,
    spending: Mutex<Clients<Spending>>,
    assets: Assets,
    metrics: Metrics,
    ending: CancellationToken,
}

type Shared = State<Arc<Site>>;

fn router(site: Arc<Site>) -> Router {
    let routes = Router::new()
        .route("/", get(page::home))
        .route("/favicon.svg", get(page::icon))
        .route("/static/explorer.css", get(page::style))
        .route("/static/explorer.js", get(page::script))
        .route("/networks", get(lists::localai))
        .route("/network/add", post(add::add))
        .route("/api/v1/networks", get(lists::page))
        .route("/api/v1/networks/{fingerprint}", get(lists::one))
        .route("/api/v1/events", get(changes::stream))
        .route("/api/v1/openapi.json", get(page::openapi))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::show))
        .fallback(no_such_page)
        .method_not_allowed_fallback(answers::no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&site), around))
        .with_state(site);
    // The path is looked at after the prefix is off.
    prefix::stripped(routes)
}

/// Counts the request, keeps its connection from being taken for an idle one, and says what
/// browsers shall not do with any answer.
async fn around(
    State(site): Shared,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
    next: Next,
) -> Response {
    const FIXED: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let _busy = guest.busy();
    let route = metrics::route(request.uri().path());
    let began = site.clock.now().mono;
    let mut response = next.run(request).await;
    let took = site.clock.now().mono.saturating_sub(began);
    site.metrics.answered(route, response.status(), took);
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn readyz(State(site): Shared) -> Response {
    if site.ending.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ok\n".into_response()
}
