//! One P2PRC server over plain HTTP/1.1. Every answer is bounded in bytes and time, and only
//! status 200 is one.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::Rng;
use serde::de::IgnoredAny;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use super::Settings;
use super::upload::{Form, Uploading};
use crate::clock;
use crate::mesh::addr::HostPort;
use crate::mesh::measure::{Counter, Limits, RoundTrip, Throughput};
use crate::mesh::probe::{Miss, Undecided, Unmeasured};

/// Longest `/server_info`; those of P2PRC have a few hundred bytes.
const MAX_INFO_BYTES: usize = 64 * 1024;
/// Longest answer to an upload that is read.
const MAX_ANSWER_BYTES: usize = 4 * 1024;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// What hyper may buffer each way.
const BUFFER_BYTES: usize = 256 * 1024;
/// Unsent bytes that the system may hold: an upload that ends by time must not go on for long.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Why a server is not reached.
pub(super) enum Trouble {
    /// It is the server's, or this machine is offline.
    Miss(Miss),
    /// It is this machine's.
    Undecided(Undecided),
}

impl From<Miss> for Trouble {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

/// A server and where it was found.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) target: &'a HostPort,
    pub(super) addr: SocketAddr,
    pub(super) patience: Duration,
}

/// Finds out whether a server answers, and how long that takes once the connection is warm.
/// `tell` is told which address is tried.
pub(super) async fn greet(
    target: &HostPort,
    settings: &Settings,
    tell: &watch::Sender<Option<SocketAddr>>,
) -> Result<Option<RoundTrip>, Trouble> {
    let patience = settings.patience;
    let (addr, tcp) = timeout(patience, connect(target, settings, tell))
        .await
        .unwrap_or(Err(Miss::Silent.into()))?;
    let at = At {
        target,
        addr,
        patience,
    };
    let mut line = Line::on(tcp).await?;
    timeout(patience, line.info(at))
        .await
        .unwrap_or(Err(Miss::Silent))?;
    let mut samples = Vec::new();
    let sampling = async {
        for _ in 0..settings.round_trips {
            if line.sender.ready().await.is_err() {
                // It keeps no connection; a new one is as warm before the request is sent.
                line = Line::open(at).await.map_err(|_| Miss::Silent)?;
            }
            samples.push(line.info(at).await?);
        }
        Ok::<_, Miss>(())
    };
    // It answered once. What comes after can only be fewer samples.
    let _ = timeout(patience, sampling).await;
    Ok(RoundTrip::of(&samples))
}

/// Measures `GET /50`.
pub(super) async fn download(at: At<'_>, limits: Limits) -> Result<Throughput, Unmeasured> {
    let mut line = Line::for_transfer(at).await?;
    let asked = timeout(at.patience, line.get(at, "/50")).await;
    let answer = asked.map_err(|_| Unmeasured::OutOfTime)?.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        return Err(Unmeasured::NotOffered(answer.status().as_u16()));
    }
    let mut body = answer.into_body();
    let mut counter = Counter::new(limits);
    let start = clock::instant();
    let mut end = start + at.patience;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = sleep_until(end) => {
                counter.cut(start.elapsed());
                break;
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(broken)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if !counter.arrived(start.elapsed(), bytes) {
            break;
        }
        if let Some(ends) = counter.ends() {
            end = start + ends;
        }
    }
    counter.throughput().ok_or(Unmeasured::TooLittle)
}

/// Measures `/upload`. The server counts by answering: P2PRC says `uploaded!` when it has read
/// everything. `least` is the round trip that the answer takes besides.
///
/// P2PRC's route is `GET` with a body; the same with `POST` is what others serve. A file of one
/// byte finds out which, so that no bulk is sent to a server that refuses it.
pub(super) async fn upload(
    at: At<'_>,
    limits: Limits,
    least: Duration,
) -> Result<Throughput, Unmeasured> {
    let mut line = Line::for_transfer(at).await?;
    let mut refused = None;
    for method in [Method::POST, Method::GET] {
        if line.sender.ready().await.is_err() {
            line = Line::for_transfer(at).await?;
        }
        let tried = timeout(at.patience, line.upload_one_byte(at, &method)).await;
        let status = tried.map_err(|_| Unmeasured::OutOfTime)??;
        if status == StatusCode::OK {
            return line.upload(at, &method, limits, least).await;
        }
        // What P2PRC answers counts, not what it answers to a method that it does not know.
        refused = Some(status.as_u16());
    }
    Err(Unmeasured::NotOffered(refused.unwrap_or_default()))
}

/// One connection. Dropping it closes it.
struct Line {
    sender: http1::SendRequest<Body>,
    driver: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Line {
    async fn open(at: At<'_>) -> Result<Self, Trouble> {
        let tcp = timeout(at.patience, dial(at.addr)).await;
        Self::on(tcp.unwrap_or(Err(Miss::Silent.into()))?).await
    }

    async fn for_transfer(at: At<'_>) -> Result<Self, Unmeasured> {
        Self::open(at).await.map_err(|trouble| match trouble {
            Trouble::Miss(Miss::Silent) => Unmeasured::OutOfTime,
            Trouble::Miss(miss) => Unmeasured::Broken(miss.to_string()),
            Trouble::Undecided(why) => Unmeasured::Broken(why.to_string()),
        })
    }

    async fn on(tcp: TcpStream) -> Result<Self, Trouble> {
        let made = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(tcp))
            .await;
        let (sender, connection) = made.map_err(|error| Miss::Wrong(error.to_string()))?;
        let driver = tokio::spawn(async move {
            // An error here also ends the request, where whoever waits learns of it.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    async fn get(&mut self, at: At<'_>, path: &str) -> hyper::Result<Response<Incoming>> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        self.send(at, request(at, &Method::GET, path), body).await
    }

    async fn send(
        &mut self,
        at: At<'_>,
        request: http::request::Builder,
        body: Body,
    ) -> hyper::Result<Response<Incoming>> {
        let made = request.body(body);
        // Every part was made here, of an address that was parsed.
        let request = made.unwrap_or_else(|error| {
            tracing::error!(%error, target = %at.target, "a request cannot be written");
            Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
        });
        self.sender.send_request(request).await
    }

    /// Asks `/server_info`; how long the head of the answer took.
    async fn info(&mut self, at: At<'_>) -> Result<Duration, Miss> {
        let wrong = |error: hyper::Error| Miss::Wrong(error.to_string());
        let asked = clock::instant();
        let answer = self.get(at, "/server_info").await.map_err(wrong)?;
        let took = asked.elapsed();
        if answer.status() != StatusCode::OK {
            return Err(Miss::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), MAX_INFO_BYTES).collect();
        let body = body.await.map_err(|error| Miss::Wrong(error.to_string()))?;
        let body = body.to_bytes();
        let is_object = body.trim_ascii_start().starts_with(b"{");
        if !is_object || serde_json::from_slice::<IgnoredAny>(&body).is_err() {
            // Such as the page of a hotel, which answers for everybody.
            return Err(Miss::Wrong("its /server_info is no JSON object".to_owned()));
        }
        Ok(took)
    }

    async fn upload_one_byte(
        &mut self,
        at: At<'_>,
        method: &Method,
    ) -> Result<StatusCode, Unmeasured> {
        let form = Form::new();
        let file = [&form.head, &b"w"[..], &form.tail].concat();
        let request = form.describe(request(at, method, "/upload"));
        let body = Full::from(file)
            .map_err(|never| match never {})
            .boxed_unsync();
        let answer = self.send(at, request, body).await.map_err(broken)?;
        let status = answer.status();
        // Read to its end, or the connection cannot be used again.
        let rest = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect();
        rest.await.map_err(|e| Unmeasured::Broken(e.to_string()))?;
        Ok(status)
    }

    async fn upload(
        mut self,
        at: At<'_>,
        method: &Method,
        limits: Limits,
        least: Duration,
    ) -> Result<Throughput, Unmeasured> {
        if self.sender.ready().await.is_err() {
            self = Self::for_transfer(at).await?;
        }
        let form = Form::new();
        // hyper sends no body with GET unless it is told to.
        let request = form
            .describe(request(at, method, "/upload"))
            .header(header::TRANSFER_ENCODING, "chunked");
        let (uploading, body) = Uploading::new(form, limits, noise());
        // What the system and the server have buffered when the time is over still has to go.
        let longest = (limits.time + at.patience).saturating_mul(2);
        let answer = timeout(longest, self.send(at, request, body)).await;
        let answer = answer.map_err(|_| Unmeasured::OutOfTime)?.map_err(broken)?;
        let (bytes, elapsed) = uploading.so_far();
        if answer.status() != StatusCode::OK {
            return Err(Unmeasured::NotOffered(answer.status().as_u16()));
        }
        let text = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect();
        let text = timeout(at.patience, text).await;
        let text = text.map_err(|_| Unmeasured::OutOfTime)?;
        let text = text.map_err(|error| Unmeasured::Broken(error.to_string()))?;
        let text = text.to_bytes();
        if !text.windows(UPLOADED.len()).any(|part| part == UPLOADED) {
            let what = "the server does not say that it has read everything";
            return Err(Unmeasured::Broken(what.to_owned()));
        }
        let elapsed = elapsed.saturating_sub(least.min(elapsed / 2));
        Throughput::of(bytes, elapsed).ok_or(Unmeasured::TooLittle)
    }
}

/// In P2PRC's answer to a file that it has read.
const UPLOADED: &[u8] = b"uploaded";

fn request(at: At<'_>, method: &Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, at.target.to_string())
        .header(
            header::USER_AGENT,
            concat!("warren/", env!("CARGO_PKG_VERSION")),
        )
}

/// Resolves and connects, one address after another.
async fn connect(
    target: &HostPort,
    settings: &Settings,
    tell: &watch::Sender<Option<SocketAddr>>,
) -> Result<(SocketAddr, TcpStream), Trouble> {
    let found = lookup_host((target.host(), target.port())).await;
    let mut found: Vec<SocketAddr> = found.map_err(|_| Miss::Unresolved)?.collect();
    if found.is_empty() {
        return Err(Miss::Unresolved.into());
    }
    if let Some(policy) = &settings.policy {
        found.retain(|addr| policy(target, addr.ip().to_canonical()));
    }
    let mut last = Trouble::Undecided(Undecided::Forbidden);
    for addr in found.into_iter().take(MAX_ADDRESSES) {
        tell.send_replace(Some(addr));
        match dial(addr).await {
            Ok(tcp) => return Ok((addr, tcp)),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

async fn dial(addr: SocketAddr) -> Result<TcpStream, Trouble> {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    use io::ErrorKind::{HostUnreachable, TimedOut};
    let tcp = TcpStream::connect(addr)
        .await
        .map_err(|error| match error.kind() {
            ConnectionRefused => Miss::Refused.into(),
            ConnectionReset | ConnectionAborted => Miss::Wrong(error.to_string()).into(),
            TimedOut => Miss::Silent.into(),
            HostUnreachable => Miss::Unreachable.into(),
            // No network, no route, no address, no descriptor, not allowed.
            _ => Trouble::Undecided(Undecided::NoWay(error.to_string())),
        })?;
    // Fails only on a socket that is already gone.
    let _ = tcp.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES);
    Ok(tcp)
}

/// Bytes that nothing on the way can make fewer.
fn noise() -> Bytes {
    static NOISE: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let mut noise = BytesMut::zeroed(64 * 1024);
        rand::rng().fill_bytes(&mut noise);
        noise.freeze()
    };
    NOISE.get_or_init(make).clone()
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn broken(error: hyper::Error) -> Unmeasured {
    Unmeasured::Broken(error.to_string())
}
