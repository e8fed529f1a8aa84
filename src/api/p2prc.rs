//! P2PRC's routes over HTTP, for programs that speak them: off unless asked for, and the only
//! server here that strangers may reach. What requests mean is said in
//! [`crate::formats::p2prc_http`]; what becomes of rows that are sent, in
//! [`crate::mesh::ip_table`]; of FRP servers, in [`crate::service::frps`]. Nothing that a stranger
//! sends is connected to, and `~/.ssh` is never touched.
//!
//! A client is bounded in requests, connections, bytes and time; pages in a browser are refused.

mod clients;
mod frp;
mod key;

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::clients::Who;
use super::serve::{self, Acceptor, Chunk, Limits};
use super::{Control, TableError};
use crate::formats::p2prc_http::{
    Answer, Asked, BadRequest, DOWNLOAD_BYTES, MAX_TABLE_BYTES, MAX_UPLOAD_BYTES, Machine, Route,
    TableForm, UploadForm, route,
};
use crate::mesh::ip_table::{Scope, Stranger};
use crate::service::frps::Frps;
use clients::{Clients, Cost};
pub use key::{Key, KeyError};

const LIMITS: Limits = Limits {
    connections: 128,
    head: Duration::from_secs(10),
    // What takes longer is cut: 50 MB pass in it at 4 Mbit/s.
    lifetime: Some(Duration::from_secs(120)),
    drain: Duration::from_secs(5),
};
/// How long a client may be silent in the middle of its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// Downloads and uploads at once; each is there to fill the line.
const TRANSFERS: usize = 8;
/// Random bytes that a download repeats, and how many are handed out at once.
const NOISE_BYTES: usize = 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;
/// How many rows of a request were not taken.
const LEFT_OUT: HeaderName = HeaderName::from_static("warren-left-out");

/// Serves `listener` until `cancel`, then lets running requests finish for a few seconds at most.
/// `machine` is what `/server_info` says; with a `key`, only requests that carry it are answered;
/// with `frps`, who asks for an FRP server gets one, which outlives this.
pub async fn serve(
    listener: TcpListener,
    control: Arc<dyn Control>,
    machine: Machine,
    key: Option<Key>,
    frps: Option<Frps>,
    cancel: CancellationToken,
) {
    let mut noise = vec![0; NOISE_BYTES];
    rand::fill(&mut noise[..]);
    let site = Arc::new(Site {
        control,
        machine,
        key,
        frps,
        clients: Mutex::default(),
        transfers: Arc::new(Semaphore::new(TRANSFERS)),
        noise: noise.into(),
    });
    let router = Router::new().fallback(answer).with_state(site.clone());
    let door = Door {
        listener,
        router,
        site,
    };
    serve::serve(door, LIMITS, cancel).await;
}

struct Door {
    listener: TcpListener,
    router: Router,
    site: Arc<Site>,
}

impl Acceptor for Door {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Router)> {
        loop {
            let (stream, from) = self.listener.accept().await?;
            let ip = from.ip().to_canonical();
            // One too many of a client is closed: it must not keep the others waiting.
            if let Some(guest) = Guest::enter(&self.site, ip) {
                let guest = Arc::new(guest);
                return Ok((stream, self.router.clone().layer(Extension(guest))));
            }
        }
    }
}

/// A connection of a client; it leaves when this is dropped.
struct Guest {
    site: Arc<Site>,
    ip: IpAddr,
    who: Who,
}

impl Guest {
    fn enter(site: &Arc<Site>, ip: IpAddr) -> Option<Self> {
        let now = site.control.now().mono;
        let who = site.clients().enter(ip, now)?;
        Some(Self {
            site: Arc::clone(site),
            ip,
            who,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.site.clients().leave(self.who);
    }
}

/// What the requests share.
struct Site {
    control: Arc<dyn Control>,
    machine: Machine,
    key: Option<Key>,
    frps: Option<Frps>,
    clients: Mutex<Clients>,
    transfers: Arc<Semaphore>,
    noise: Bytes,
}

async fn answer(
    State(site): State<Arc<Site>>,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
) -> Response {
    let answered = site.answer(&guest, request).await;
    let mut response = answered.unwrap_or_else(|refused| refused.into_response());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An answer that ends a request early, with one more header.
struct Refused {
    answer: Answer,
    header: Option<(HeaderName, &'static str)>,
}

impl Refused {
    fn with(status: StatusCode, why: &str, header: (HeaderName, &'static str)) -> Self {
        Self {
            answer: Answer::refusal(status.as_u16(), why),
            header: Some(header),
        }
    }

    fn into_response(self) -> Response {
        let mut response = respond(self.answer);
        if let Some((name, value)) = self.header {
            let headers = response.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            header: None,
        }
    }
}

impl From<BadRequest> for Refused {
    fn from(bad: BadRequest) -> Self {
        bad.answer().into()
    }
}

impl Site {
    async fn answer(&self, guest: &Guest, request: Request) -> Result<Response, Refused> {
        // Before anything else: whoever guesses keys is slow at it.
        self.charge(guest, Cost::Request)?;
        refuse_pages(request.headers())?;
        self.authenticate(request.headers())?;
        let asked = match route(request.method().as_str(), request.uri().path()) {
            Route::To(asked) => asked,
            Route::Not(methods) => {
                let why = format!("it answers {methods}");
                let status = StatusCode::METHOD_NOT_ALLOWED;
                return Err(Refused::with(status, &why, (header::ALLOW, methods)));
            }
            Route::Nowhere => return Err(Answer::nowhere().into()),
        };
        match asked {
            Asked::ServerInfo => Ok(respond(Answer::server_info(&self.machine))),
            Asked::FrpPort => self.frp_port(guest, request.headers()).await,
            Asked::Download => self.download(guest),
            Asked::Upload => self.upload(guest, request).await,
            Asked::Table => self.table(guest, request).await,
        }
    }

    fn download(&self, guest: &Guest) -> Result<Response, Refused> {
        self.charge(guest, Cost::Download)?;
        let permit = self.transfer()?;
        let noise = self.noise.clone();
        let pieces = stream::unfold((DOWNLOAD_BYTES, permit), move |(left, permit)| {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let at = usize::try_from(left).unwrap_or_default() % (NOISE_BYTES - PIECE_BYTES);
            let piece = noise.slice(at..at + most);
            let sent = u64::try_from(most).unwrap_or(left);
            let next = (sent > 0).then(|| (Chunk::Ok(piece), (left - sent, permit)));
            std::future::ready(next)
        });
        let mut response = Response::new(Body::from_stream(pieces));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, DOWNLOAD_BYTES.into());
        let kind = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    async fn upload(&self, guest: &Guest, request: Request) -> Result<Response, Refused> {
        self.charge(guest, Cost::Upload)?;
        let _permit = self.transfer()?;
        let mut form = UploadForm::new(content_type(request.headers()))?;
        read(request, MAX_UPLOAD_BYTES, |bytes| form.feed(bytes)).await?;
        let (name, _) = form.end()?;
        Ok(respond(Answer::uploaded(&name)))
    }

    async fn table(&self, guest: &Guest, request: Request) -> Result<Response, Refused> {
        self.charge(guest, Cost::Table)?;
        let from = self.stranger(guest.ip, request.headers());
        let mut form = TableForm::new(content_type(request.headers()))?;
        read(request, MAX_TABLE_BYTES, |bytes| form.feed(bytes)).await?;
        let rows = form.end()?;
        let table = self.control.ip_table();
        let now = self.control.now().mono;
        let room = self.clients().room(guest.who, now);
        let posted = table.post(rows, from, room).await;
        let posted = posted.map_err(|error| refuse_table(&error))?;
        self.clients().took(guest.who, now, posted.added);
        tracing::debug!(ip = %guest.ip, ?posted, "a table was sent");
        let mut response = respond(Answer::table(table.tell(from)));
        response
            .headers_mut()
            .insert(LEFT_OUT, posted.left_out.into());
        Ok(response)
    }

    /// Who it is. What came through a proxy came from anywhere; who has the key is of the site.
    fn stranger(&self, ip: IpAddr, headers: &HeaderMap) -> Stranger {
        let scope = match Scope::of(ip) {
            Some(scope) if !is_forwarded(headers) => scope,
            _ => Scope::Global,
        };
        let scope = match self.key {
            Some(_) => scope.min(Scope::Private),
            None => scope,
        };
        Stranger { ip, scope }
    }

    fn charge(&self, guest: &Guest, cost: Cost) -> Result<(), Refused> {
        match self
            .clients()
            .charge(guest.who, self.control.now().mono, cost)
        {
            true => Ok(()),
            false => Err(Refused::with(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests from this address; ask again later",
                (header::RETRY_AFTER, cost.retry_after()),
            )),
        }
    }

    fn transfer(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let permit = Arc::clone(&self.transfers).try_acquire_owned();
        permit.map_err(|_| {
            Refused::with(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many transfers run at once; ask again later",
                (header::RETRY_AFTER, "5"),
            )
        })
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let given = headers.get(header::AUTHORIZATION);
        let given = given.map(HeaderValue::as_bytes).unwrap_or_default();
        match &self.key {
            Some(key) if !key.admits(given) => Err(Refused::with(
                StatusCode::UNAUTHORIZED,
                "a key is needed: Authorization: Bearer KEY",
                (header::WWW_AUTHENTICATE, "Bearer"),
            )),
            _ => Ok(()),
        }
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        // Nothing that runs under the lock leaves the clients half changed.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request came through a proxy, which is who connected.
fn is_forwarded(headers: &HeaderMap) -> bool {
    const OF_PROXIES: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
    OF_PROXIES.iter().any(|name| headers.contains_key(*name))
}

/// P2PRC's clients are programs. A page that a browser shows could send forms from the inside.
fn refuse_pages(headers: &HeaderMap) -> Result<(), Refused> {
    let typed_in = |site: &HeaderValue| site.as_bytes() == b"none";
    let by_page = headers.contains_key(header::ORIGIN)
        || !headers.get_all("sec-fetch-site").iter().all(typed_in);
    match by_page {
        true => Err(Answer::refusal(403, "pages in a browser are not answered").into()),
        false => Ok(()),
    }
}

fn refuse_table(error: &TableError) -> Refused {
    tracing::warn!(%error, "a table that was sent is not stored");
    // What is wrong with this node's disk is not the stranger's business.
    Refused::with(
        StatusCode::SERVICE_UNAVAILABLE,
        "the table cannot be stored now; nothing of it was",
        (header::RETRY_AFTER, "60"),
    )
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// Reads a body of at most `limit` bytes.
async fn read(
    request: Request,
    limit: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), BadRequest>,
) -> Result<(), Refused> {
    let body = request.into_body();
    if body.size_hint().lower() > limit {
        return Err(BadRequest::TooLong(limit).into());
    }
    let mut body = pin!(body);
    loop {
        let frame = timeout(PATIENCE, body.frame()).await;
        let frame = frame.map_err(|_| Answer::refusal(408, "the body does not come"))?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|_| Answer::refusal(400, "the body is cut off"))?;
        if let Some(bytes) = frame.data_ref() {
            take(bytes)?;
        }
    }
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    let status = StatusCode::from_u16(answer.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = HeaderValue::from_static(answer.kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
