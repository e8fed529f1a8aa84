//! The admin socket: everything that a command can ask of the daemon. Obeys only processes of
//! its own user or root that have also read `admin.cookie`; does nothing itself but translate
//! between HTTP and [`Control`].

mod bench;
mod ip_table;
mod ledger;
mod networks;
mod probe;
mod roles;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::{StatusCode, header};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(feature = "p2p")]
pub(super) use stream::stream_lines;

use super::cookie::Cookie;
use super::input::Input;
use super::refusal::{Refusal, no_such_method, no_such_route};
use super::serve::{self, Acceptor, Limits};
use super::shapes::{
    DrainRequest, NodeError, Nodes, PingRequest, Pong, Roles, Services, Status, StopRequest,
};
use super::socket::AdminSocket;
use super::{Control, Stop};
use crate::clock::Clock;
use crate::service::networks::NetworkDb;
use networks::Operated;
pub use networks::{add_network, edit_network};

const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(10),
    // Watchers and held roles stay.
    lifetime: None,
    drain: Duration::from_secs(5),
};

/// Serves `socket` until `cancel`, then ends streams, lets running requests and the removal of
/// held roles finish, both for a few seconds at most, and removes the socket.
pub async fn serve(socket: AdminSocket, control: Arc<dyn Control>, cancel: CancellationToken) {
    let state = Admin {
        control,
        ending: cancel.clone(),
        tasks: TaskTracker::new(),
        runtime: Handle::current(),
    };
    serve_routes(socket, router(state.clone()), cancel).await;
    state.tasks.close();
    let _ = timeout(LIMITS.drain, state.tasks.wait()).await;
}

/// Serves an explorer's networks on `socket` until `cancel`, and `more` beside them; then lets
/// running requests finish for a few seconds at most, and removes the socket.
pub async fn serve_networks(
    socket: AdminSocket,
    db: NetworkDb,
    clock: Clock,
    more: Router,
    cancel: CancellationToken,
) {
    let routes = networks::routes().with_state(Explorer { db, clock });
    serve_routes(socket, routes.merge(more), cancel).await;
}

/// What a process has that runs an explorer and no node.
#[derive(Clone)]
struct Explorer {
    db: NetworkDb,
    clock: Clock,
}

impl FromRef<Explorer> for Operated {
    fn from_ref(explorer: &Explorer) -> Self {
        Self {
            db: explorer.db.clone(),
            now_ms: explorer.clock.now().unix_ms,
        }
    }
}

/// Serves `routes` to those who may ask.
async fn serve_routes(socket: AdminSocket, routes: Router, cancel: CancellationToken) {
    let cookie = Arc::new(socket.cookie().clone());
    let allowed = routes
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(cookie, ask_cookie));
    let acceptor = Local {
        allowed,
        denied: denied(),
        own_uid: rustix::process::geteuid().as_raw(),
        socket,
    };
    serve::serve(acceptor, LIMITS, cancel).await;
}

/// What the routes share.
#[derive(Clone)]
struct Admin {
    control: Arc<dyn Control>,
    ending: CancellationToken,
    /// What must be finished even if whoever asked is gone.
    tasks: TaskTracker,
    runtime: Handle,
}

struct Local {
    socket: AdminSocket,
    allowed: Router,
    denied: Router,
    own_uid: u32,
}

impl Acceptor for Local {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Router)> {
        let (stream, _) = self.socket.listener().accept().await?;
        let router = match stream.peer_cred() {
            Ok(peer) if may_ask(peer.uid(), self.own_uid) => &self.allowed,
            _ => &self.denied,
        };
        Ok((stream, router.clone()))
    }
}

fn may_ask(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

fn router(state: Admin) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/nodes", get(nodes))
        .route("/v1/services", get(services))
        .route("/v1/roles", get(list_roles).post(roles::add))
        .route("/v1/roles/{id}", delete(roles::remove))
        .route("/v1/events", get(stream::events))
        .route("/v1/ledger", get(ledger::list))
        .route("/v1/ledger/watch", get(stream::ledger))
        .route(
            "/v1/ledger/entry",
            get(ledger::get).put(ledger::put).delete(ledger::remove),
        )
        .route("/v1/ledger/export", get(ledger::export))
        .route("/v1/ledger/import", post(ledger::import))
        .route("/v1/iptable", get(ip_table::list))
        .route("/v1/iptable/export", get(ip_table::export))
        .route("/v1/iptable/import", post(ip_table::import))
        .route("/v1/iptable/rows", post(ip_table::add))
        .route("/v1/iptable/remove", post(ip_table::remove))
        .route("/v1/iptable/prune", post(ip_table::prune))
        .route("/v1/iptable/probe", post(probe::run))
        .route("/v1/iptable/annotate", post(ip_table::annotate))
        .route("/v1/ping", post(ping))
        .route("/v1/bench", post(bench::bench))
        .route("/v1/drain", post(drain))
        .route("/v1/leave", post(leave))
        .route("/v1/stop", post(stop))
        .route("/v1/token", get(token))
        .merge(networks::routes())
        .with_state(state)
}

fn denied() -> Router {
    Router::new().fallback(async || {
        let error = NodeError::new("denied", "this daemon belongs to another user");
        Refusal::from(error.with_hint("run this as the daemon's user, or as root"))
    })
}

async fn ask_cookie(State(cookie): State<Arc<Cookie>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_some_and(|given| cookie.admits(given.as_bytes())) {
        return next.run(request).await;
    }
    let error = NodeError::new("denied", "the request lacks this run's admin.cookie");
    let error = error.with_hint("the daemon may have been restarted in between: try again");
    Refusal(StatusCode::UNAUTHORIZED, error).into_response()
}

async fn status(State(admin): State<Admin>) -> Json<Status> {
    Json(admin.control.status())
}

async fn nodes(State(admin): State<Admin>) -> Json<Nodes> {
    let now = admin.control.now();
    Json(Nodes::of(&admin.control.view(), now.unix_ms))
}

async fn services(State(admin): State<Admin>) -> Json<Services> {
    Json(Services::of(&admin.control.view(), &admin.control.usage()))
}

async fn list_roles(State(admin): State<Admin>) -> Json<Roles> {
    let roles = admin.control.roles();
    Json(Roles { roles })
}

async fn ping(
    State(admin): State<Admin>,
    Input(request): Input<PingRequest>,
) -> Result<Json<Pong>, Refusal> {
    let id = admin.control.resolve(&request.node)?;
    let rtt = admin.control.ping(id).await?;
    let view = admin.control.view();
    Ok(Json(Pong {
        id,
        name: view.nodes.get(&id).map(|node| node.name.clone()),
        rtt_ms: rtt.as_secs_f64() * 1000.0,
    }))
}

async fn drain(
    State(admin): State<Admin>,
    Input(request): Input<DrainRequest>,
) -> Result<StatusCode, Refusal> {
    admin.control.drain(request.on).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn leave(State(admin): State<Admin>) -> StatusCode {
    admin.control.stop(Stop::Leave);
    StatusCode::ACCEPTED
}

async fn stop(State(admin): State<Admin>, Input(request): Input<StopRequest>) -> StatusCode {
    let how = if request.now { Stop::Now } else { Stop::Drain };
    admin.control.stop(how);
    StatusCode::ACCEPTED
}

async fn token(State(admin): State<Admin>) -> Response {
    let token = admin.control.join_token();
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, token.as_str().to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_root_may_ask() {
        assert!(may_ask(1000, 1000) && may_ask(0, 1000));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
    }
}
