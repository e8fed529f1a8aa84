//! A pretended daemon, and ways to ask it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warren::api::shapes::RoleSpec;
use warren::api::socket::AdminSocket;
use warren::api::{COOKIE_NAME, Control, SOCKET_NAME, admin, http};
use warren::service::spec::{ExposeSpec, Failover, IngressSpec};
use warren::{Client, ClientError};

use crate::fake::FakeNode;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A pretended daemon with both servers.
pub(crate) struct Daemon {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) http: std::net::SocketAddr,
    pub(crate) cancel: CancellationToken,
    pub(crate) admin: JoinHandle<()>,
    pub(crate) http_server: JoinHandle<()>,
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        Self::with(FakeNode::default()).await
    }

    pub(crate) async fn with(node: FakeNode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Arc::new(node);
        let cancel = CancellationToken::new();
        let socket = AdminSocket::bind(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let control: Arc<dyn Control> = node.clone();
        let hosts = vec!["mesh.test".to_owned()];
        let http_server = http::serve(listener, hosts, control.clone(), cancel.clone());
        Self {
            admin: tokio::spawn(admin::serve(socket, control, cancel.clone())),
            http_server: tokio::spawn(http_server),
            dir,
            node,
            http,
            cancel,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.dir.path()).await.unwrap()
    }

    pub(crate) fn cookie(&self) -> String {
        std::fs::read_to_string(self.dir.path().join(COOKIE_NAME)).unwrap()
    }

    /// Status and body of a request on the admin socket.
    pub(crate) async fn ask_admin(&self, head: &str, cookie: &str, body: &[u8]) -> (u16, Value) {
        let socket = UnixStream::connect(self.dir.path().join(SOCKET_NAME)).await;
        let len = body.len();
        let head = format!(
            "{head} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nAuthorization: Bearer {cookie}\r\n\
             Content-Length: {len}\r\n\r\n"
        );
        let (status, body) = ask(socket.unwrap(), &head, body).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Status and body of a request over HTTP, with these further headers.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        self.request("GET", path, &format!("Host: {}\r\n{headers}", self.http))
            .await
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let socket = TcpStream::connect(self.http).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        ask(socket, &head, b"").await
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path, "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    head: &str,
    body: &[u8],
) -> (u16, String) {
    io.write_all(head.as_bytes()).await.unwrap();
    io.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, io.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(crate) fn expose(service: &str) -> RoleSpec {
    RoleSpec::Expose(ExposeSpec::new(
        service.parse().unwrap(),
        "127.0.0.1:8080".parse().unwrap(),
    ))
}

pub(crate) fn ingress() -> RoleSpec {
    RoleSpec::Ingress(IngressSpec {
        strategy: Default::default(),
        failover: Failover::Replay,
        mode: Default::default(),
        tls: None,
        ..IngressSpec::new("llm".parse().unwrap(), "127.0.0.1:0".parse().unwrap())
    })
}

pub(crate) fn code(error: &ClientError) -> String {
    error.to_node_error().code
}
