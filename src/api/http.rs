//! The HTTP server on loopback: health, `/api/v1` with a stream of events, and LocalAI's
//! `/api/p2p`. Read only. A browser on this machine runs other people's pages, so a request is answered only if it names this
//! server (`Host`, against DNS rebinding) and does not come from another page (`Origin`).

mod events;
mod guard;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, FromRef, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderName, StatusCode, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Control;
use super::input::Asked;
use super::ip_table::ListQuery;
use super::refusal::{Refusal, busy, no_such_method, no_such_route};
use super::serve::{self, Acceptor, Limits};
use super::shapes::{NodeError, Nodes, Services, Status};
use crate::formats::localai_p2p::{NodeList, P2p, Stats, Swarm, Workers};
use events::Streams;
use guard::LocalAddr;

const LIMITS: Limits = Limits {
    connections: 128,
    head: Duration::from_secs(10),
    // Whoever stops reading an answer gives up its slot. A stream renews this while it is read.
    lifetime: Some(Duration::from_secs(60)),
    drain: Duration::from_secs(5),
};

/// IP tables that are written at once: each takes a thread for as long as its client reads.
const MAX_TABLES: usize = 4;

/// Serves `listener` until `cancel`, then lets running requests finish for a few seconds at most.
///
/// Requests must name `localhost`, a loopback address, the address they arrived at, or one of
/// `hosts` (names without port), else they are refused.
pub async fn serve(
    listener: TcpListener,
    hosts: Vec<String>,
    control: Arc<dyn Control>,
    cancel: CancellationToken,
) {
    let site = Site {
        control,
        streams: Streams::new(cancel.clone()),
        tables: Arc::new(Semaphore::new(MAX_TABLES)),
    };
    let router = router(site, hosts);
    serve::serve(Loopback { listener, router }, LIMITS, cancel).await;
}

struct Loopback {
    listener: TcpListener,
    router: Router,
}

impl Acceptor for Loopback {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Router)> {
        let (stream, _) = self.listener.accept().await?;
        let at: SocketAddr = stream.local_addr()?;
        let router = self.router.clone().layer(Extension(LocalAddr(at.ip())));
        Ok((stream, router))
    }
}

/// What the routes share.
#[derive(Clone)]
struct Site {
    control: Arc<dyn Control>,
    streams: Streams,
    tables: Arc<Semaphore>,
}

impl FromRef<Site> for Arc<dyn Control> {
    fn from_ref(site: &Site) -> Self {
        Arc::clone(&site.control)
    }
}

type Node = State<Arc<dyn Control>>;

fn router(site: Site, hosts: Vec<String>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/api/p2p", get(p2p))
        .route("/api/p2p/token", get(p2p_token))
        .route("/api/p2p/workers", get(p2p_workers))
        .route("/api/p2p/federation", get(p2p_federation))
        .route("/api/p2p/stats", get(p2p_stats))
        .route("/api/v1/status", get(status))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/services", get(services))
        .route("/api/v1/iptable", get(ip_table))
        .route("/api/v1/events", get(events::stream))
        .fallback(no_such_page)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(
            Arc::new(hosts),
            guard::check,
        ))
        .layer(middleware::map_response(add_headers))
        .with_state(site)
}

/// People who open the address in a browser learn what there is.
async fn no_such_page(uri: http::Uri) -> Refusal {
    let Refusal(status, error) = no_such_route(uri).await;
    let hint = "try /api/v1/status, /api/v1/nodes, /api/v1/services, /api/v1/iptable, /api/v1/events, /api/p2p, /livez or /readyz";
    Refusal(status, error.with_hint(hint))
}

/// Answers change with every request, and are never anything but what they say they are.
async fn add_headers(mut response: Response) -> Response {
    const FIXED: [(HeaderName, &str); 2] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in FIXED {
        response
            .headers_mut()
            .insert(name, http::HeaderValue::from_static(value));
    }
    response
}

async fn readyz(State(node): Node) -> (StatusCode, String) {
    if node.is_ready() {
        (StatusCode::OK, "ok\n".into())
    } else {
        let state = node.status().state;
        (StatusCode::SERVICE_UNAVAILABLE, format!("{state}\n"))
    }
}

async fn status(State(node): Node) -> Json<Status> {
    Json(node.status())
}

async fn nodes(State(node): Node) -> Json<Nodes> {
    Json(Nodes::of(&node.view(), node.now().unix_ms))
}

async fn services(State(node): Node) -> Json<Services> {
    Json(Services::of(&node.view(), &node.usage()))
}

async fn ip_table(
    State(site): State<Site>,
    Asked(asked): Asked<ListQuery>,
) -> Result<Response, Response> {
    let slot = site.tables.try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_TABLES} clients read the table already, and no more may");
        let hint = "use `warren iptable ls --json`, which is not counted";
        busy(NodeError::new("busy", message).with_hint(hint))
    })?;
    Ok(asked.answer(site.control.ip_table(), Some(slot)))
}

fn swarm(node: &dyn Control) -> Swarm {
    let network_id = node.status().network_id;
    Swarm::of(&node.view(), network_id.as_ref(), node.now().unix_ms)
}

async fn p2p(State(node): Node) -> Json<P2p> {
    Json(swarm(&*node).p2p())
}

async fn p2p_workers(State(node): Node) -> Json<Workers> {
    Json(swarm(&*node).workers())
}

async fn p2p_federation(State(node): Node) -> Json<NodeList> {
    Json(swarm(&*node).federation())
}

async fn p2p_stats(State(node): Node) -> Json<Stats> {
    Json(swarm(&*node).stats())
}

/// An empty body where p2p is off is LocalAI's way to say so; here it also says that the operator
/// keeps the token off HTTP.
async fn p2p_token(State(node): Node) -> Response {
    let token = node.http_token();
    let text = token.map_or_else(String::new, |token| token.as_str().to_owned());
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
