//! Servers to be probed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A piece of the file, and the pause before it.
const PIECE: usize = 100_000;
const PAUSE: Duration = Duration::from_millis(2);

/// What P2PRC's server says of its machine.
pub(crate) const INFO: &str =
    r#"{"Hostname":"h","Platform":"linux","CPU":"c","RAM":1,"Disk":1,"GPU":null}"#;

/// What a server was asked for.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) infos: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Bytes of the largest upload, with what stands around the file.
    pub(crate) uploaded: AtomicU64,
}

/// Whether `/upload` is P2PRC's own `GET`, or `POST`.
pub(crate) enum Upload {
    Get,
    Post,
}

/// Serves as P2PRC does. The file of `/50` has `bytes`.
pub(crate) async fn p2prc(bytes: usize, upload: Upload) -> (SocketAddr, Arc<Asked>) {
    p2prc_on(loopback().await, bytes, upload)
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The same on a listener that is there.
pub(crate) fn p2prc_on(
    listener: TcpListener,
    bytes: usize,
    upload: Upload,
) -> (SocketAddr, Arc<Asked>) {
    let asked = Arc::<Asked>::default();
    let counted = Arc::clone(&asked);
    let take = async move |body: Body| {
        let mut body = body.into_data_stream();
        let mut all = 0;
        let mut text = Vec::new();
        while let Some(Ok(more)) = body.next().await {
            all += more.len() as u64;
            text.extend_from_slice(&more[..more.len().min(300)]);
        }
        counted.uploaded.fetch_max(all, Ordering::SeqCst);
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains(r#"name="file"; filename="warren.bin""#) && text.ends_with("--\r\n") {
            (StatusCode::OK, "'warren.bin' uploaded!").into_response()
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "").into_response()
        }
    };
    let upload: MethodRouter = match upload {
        Upload::Get => get(take).fallback(StatusCode::NOT_FOUND),
        Upload::Post => post(take),
    };
    let counted = Arc::clone(&asked);
    let info = async move || {
        counted.infos.fetch_add(1, Ordering::SeqCst);
        INFO
    };
    // Slower than loopback, which moves it in less time than can be measured.
    let file = async move || {
        let pieces = stream::unfold(0, move |sent| async move {
            let piece = vec![7_u8; (bytes - sent).min(PIECE)];
            sleep(PAUSE).await;
            (sent < bytes).then(|| (Ok::<_, Infallible>(piece), (sent + PIECE).min(bytes)))
        });
        Body::from_stream(pieces)
    };
    let router = Router::new()
        .route("/server_info", get(info))
        .route("/50", get(file))
        .route("/upload", upload);
    (serve(listener, router, Arc::clone(&asked)), asked)
}

fn serve(listener: TcpListener, router: Router, asked: Arc<Asked>) -> SocketAddr {
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use axum::serve::ListenerExt;
        let counting = listener.tap_io(move |_| {
            asked.connections.fetch_add(1, Ordering::SeqCst);
        });
        axum::serve(counting, router).await.unwrap();
    });
    addr
}

/// Gives each connection to `handle`.
pub(crate) async fn raw<H, F>(handle: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = loopback().await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(handle(tcp));
        }
    });
    addr
}

/// Reads one request, says `answer`, and does nothing more, for ever.
pub(crate) async fn says(answer: &'static [u8]) -> SocketAddr {
    raw(async move |mut tcp: TcpStream| {
        let mut request = [0; 4096];
        if tcp.read(&mut request).await.is_ok() && tcp.write_all(answer).await.is_ok() {
            std::future::pending::<()>().await;
        }
    })
    .await
}

/// Reads one request, says `answer`, and closes; again for the next connection.
pub(crate) async fn says_and_closes(answer: String) -> SocketAddr {
    let answer = Arc::new(answer);
    raw(move |mut tcp| {
        let answer = Arc::clone(&answer);
        async move {
            let mut request = [0; 4096];
            let _ = tcp.read(&mut request).await;
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

/// An address that refuses: its listener is gone.
pub(crate) async fn refuses() -> SocketAddr {
    loopback().await.local_addr().unwrap()
}

/// Accepts and says nothing.
pub(crate) async fn silent() -> SocketAddr {
    says(b"").await
}
