//! One HTTP/1 request over one connection to the admin socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::clock;

use super::ClientError;
use crate::api::SOCKET_NAME;
use crate::api::cookie::Cookie;
use crate::api::shapes::ErrorDocument;

/// Longest answer that is read at once: an export of a full ledger.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// How often [`wait_gone`] looks.
const GONE_INTERVAL: Duration = Duration::from_millis(20);

/// How long the head of an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// The daemon has the answer at hand.
    Quick,
    /// It has to ask a disk or another machine first.
    Slow,
    /// It has to derive the secrets of many tokens first.
    Long,
}

impl Patience {
    fn limit(self) -> Duration {
        match self {
            Self::Quick => Duration::from_secs(10),
            Self::Slow => Duration::from_secs(60),
            Self::Long => Duration::from_secs(3600),
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    target: String,
    body: Bytes,
    json: bool,
    patience: Patience,
}

impl Request {
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            target: path.to_owned(),
            body: Bytes::new(),
            json: false,
            patience: Patience::Quick,
        }
    }

    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push(separator);
        self.target.push_str(name);
        self.target.push('=');
        percent_encode(value, &mut self.target);
        self
    }

    /// Asks for those of `flags` that are on.
    pub(super) fn flags(self, flags: &[(&str, bool)]) -> Self {
        let on = flags.iter().filter(|(_, on)| *on);
        on.fold(self, |request, (name, _)| request.query(name, "true"))
    }

    pub(super) fn json<T: Serialize>(mut self, body: &T) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Protocol {
            what: format!("the request cannot be written as JSON: {error}"),
        })?;
        self.body = body.into();
        self.json = true;
        Ok(self)
    }

    pub(super) fn bytes(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(super) fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    fn into_http(self, cookie: &Cookie) -> Result<http::Request<Full<Bytes>>, ClientError> {
        let kind = if self.json {
            "application/json"
        } else {
            "application/octet-stream"
        };
        let request = http::Request::builder()
            .method(self.method)
            .uri(self.target)
            .header(header::HOST, "warren")
            .header(header::AUTHORIZATION, cookie.bearer().as_str())
            .header(header::CONTENT_TYPE, kind);
        request
            .body(Full::new(self.body))
            .map_err(|error| ClientError::Protocol {
                what: format!("the request cannot be written: {error}"),
            })
    }
}

/// RFC 3986 §2.1: everything but the unreserved characters, so that any key survives.
fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
        }
    }
}

/// The task that moves a connection's bytes. Dropping it closes the connection, which is how the
/// daemon learns that nobody listens any more.
#[derive(Debug)]
pub(super) struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a daemon can be talked to, without asking it anything.
pub(super) async fn check(data_dir: &Path) -> Result<(), ClientError> {
    dial(data_dir).await?;
    read_cookie(data_dir).await.map(drop)
}

/// Waits until nobody accepts on the socket, at most until `end`. Looks again and again: nothing
/// tells of the end of a socket.
pub(super) async fn wait_gone(data_dir: &Path, end: Instant) -> bool {
    while UnixStream::connect(data_dir.join(SOCKET_NAME))
        .await
        .is_ok()
    {
        if clock::instant() >= end {
            return false;
        }
        sleep(GONE_INTERVAL).await;
    }
    true
}

/// Asks and reads the whole answer.
pub(super) async fn call(data_dir: &Path, request: Request) -> Result<Vec<u8>, ClientError> {
    let (body, _connection) = open(data_dir, request).await?;
    read_all(body).await
}

/// Asks, and leaves the answer's body to be read. Errors of the daemon are already recognised.
pub(super) async fn open(
    data_dir: &Path,
    request: Request,
) -> Result<(Incoming, Connection), ClientError> {
    let after = request.patience.limit();
    let deadline = clock::deadline(after);
    let silent = || ClientError::Silent {
        socket: data_dir.join(SOCKET_NAME),
        after,
    };
    let socket = timeout_at(deadline, dial(data_dir))
        .await
        .map_err(|_| silent())??;
    let request = request.into_http(&read_cookie(data_dir).await?)?;

    let (mut sender, driver) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| broken(&error))?;
    let connection = Connection(tokio::spawn(async move {
        // An error here also ends the body, where whoever reads it learns of it.
        let _ = driver.await;
    }));
    let answer = timeout_at(deadline, sender.send_request(request)).await;
    let (head, body) = answer
        .map_err(|_| silent())?
        .map_err(|error| broken(&error))?
        .into_parts();
    if head.status.is_success() {
        return Ok((body, connection));
    }
    let document = timeout(after, read_all(body))
        .await
        .map_err(|_| silent())??;
    Err(refusal(head.status, &document))
}

async fn dial(data_dir: &Path) -> Result<UnixStream, ClientError> {
    let socket = data_dir.join(SOCKET_NAME);
    UnixStream::connect(&socket)
        .await
        .map_err(|error| unreachable_socket(socket, &error))
}

fn unreachable_socket(socket: PathBuf, error: &io::Error) -> ClientError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "its daemon has ended".to_owned(),
        _ => error.to_string(),
    };
    match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied { socket, reason },
        _ => ClientError::NoDaemon { socket, reason },
    }
}

async fn read_cookie(data_dir: &Path) -> Result<Cookie, ClientError> {
    Cookie::read(data_dir)
        .await
        .map_err(|error| ClientError::Denied {
            socket: data_dir.join(SOCKET_NAME),
            reason: format!("its {} cannot be read: {error}", crate::api::COOKIE_NAME),
        })
}

async fn read_all(body: Incoming) -> Result<Vec<u8>, ClientError> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(answer) => Ok(answer.to_bytes().into()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ClientError::Protocol {
                what: format!("it is longer than {MAX_ANSWER_BYTES} bytes"),
            })
        }
        Err(_) => Err(ClientError::Lost),
    }
}

fn refusal(status: StatusCode, document: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorDocument>(document) {
        Ok(document) => ClientError::Refused(document.error),
        Err(_) => ClientError::Protocol {
            what: format!("status {status} without an error document"),
        },
    }
}

/// What hyper reports once the socket is open: the daemon ended, or is no HTTP server.
fn broken(error: &hyper::Error) -> ClientError {
    if error.is_parse() {
        ClientError::Protocol {
            what: error.to_string(),
        }
    } else {
        ClientError::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_survives_a_query() {
        let request = Request::new(Method::GET, "/e")
            .query("bucket", "a.b_c-d")
            .query("key", "a b/ü&=+%~");
        assert_eq!(
            request.target,
            "/e?bucket=a.b_c-d&key=a%20b%2F%C3%BC%26%3D%2B%25~"
        );
    }
}
