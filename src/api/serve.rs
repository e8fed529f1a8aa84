//! Serves HTTP/1 on a listener: bounded connections, bounded heads, an end in a stated order.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long accepting pauses after the system refused, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Largest head of a request, in bytes. Hyper asks for 8 KiB at least.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once; more wait in the system's queue.
    pub(super) connections: usize,
    /// How long a request's head may take, counted from the end of the request before it.
    pub(super) head: Duration,
    /// How long one connection is kept, counted anew when its [`Lease`] is renewed; `None` for as
    /// long as its peer likes.
    pub(super) lifetime: Option<Duration>,
    /// How long running requests may take to end once the server is told to.
    pub(super) drain: Duration,
}

/// Where connections come from.
pub(super) trait Acceptor: Send {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection and what answers it. Must not lose one when dropped.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Router)>> + Send;
}

/// Renews the lifetime of a connection: for answers that go on as long as somebody reads them.
/// Handlers find it among the extensions of a request.
#[derive(Clone, Default)]
pub(super) struct Lease(Arc<Notify>);

impl Lease {
    /// The lifetime begins anew.
    pub(super) fn renew(&self) {
        self.0.notify_one();
    }
}

/// Serves until `cancel`; then accepts no more, lets running requests end until
/// [`Limits::drain`], and cuts the rest.
pub(super) async fn serve<A: Acceptor>(mut acceptor: A, limits: Limits, cancel: CancellationToken) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    while let Some((io, router, slot)) = next(&mut acceptor, &slots, &cancel).await {
        let cancel = cancel.clone();
        connections.spawn(async move {
            connection(io, router, limits, cancel).await;
            drop(slot);
        });
        // Finished ones are let go of here, so that the set is no longer than the limit allows.
        while connections.try_join_next().is_some() {}
    }
    drop(acceptor);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, ended).await.is_err() {
        connections.shutdown().await;
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// The next connection with its slot; `None` at the end.
async fn next<A: Acceptor>(
    acceptor: &mut A,
    slots: &Arc<Semaphore>,
    cancel: &CancellationToken,
) -> Option<(A::Io, Router, Slot)> {
    let accepted = async {
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match acceptor.accept().await {
                Ok((io, router)) => return Some((io, router, slot)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(accepted).await.flatten()
}

async fn connection<I>(io: I, router: Router, limits: Limits, cancel: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lease = Lease::default();
    let router = match limits.lifetime {
        Some(_) => router.layer(Extension(lease.clone())),
        None => router,
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(serving);
    tokio::select! {
        // How a peer's connection ends is the peer's business.
        _ = serving.as_mut() => return,
        () = cancel.cancelled() => {}
        () = lifetime(limits.lifetime, &lease) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(limits.drain, serving).await;
}

/// Ends when a lifetime has passed in which the lease was not renewed.
async fn lifetime(limit: Option<Duration>, lease: &Lease) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    while timeout(limit, lease.0.notified()).await.is_ok() {}
}

/// What a stream of a body yields: it cannot fail.
pub(super) type Chunk = Result<bytes::Bytes, Infallible>;

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use futures_util::stream;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    struct Queue {
        waiting: mpsc::Receiver<DuplexStream>,
        accepted: Arc<AtomicUsize>,
    }

    impl Acceptor for Queue {
        type Io = DuplexStream;
        async fn accept(&mut self) -> io::Result<(DuplexStream, Router)> {
            let Some(io) = self.waiting.recv().await else {
                return std::future::pending().await;
            };
            self.accepted.fetch_add(1, Ordering::SeqCst);
            let router = Router::new()
                .route("/", get(async || "hello"))
                .route("/stream", get(renewing))
                .route("/never", get(std::future::pending::<String>));
            Ok((io, router))
        }
    }

    /// Says something in each of [`LINES`] halves of [`SHORT`], and renews the lease with it.
    async fn renewing(Extension(lease): Extension<Lease>) -> Response {
        let lines = stream::unfold(0, move |said| {
            let lease = lease.clone();
            async move {
                sleep(SHORT / 2).await;
                lease.renew();
                (said < LINES).then(|| (Chunk::Ok("line\n".into()), said + 1))
            }
        });
        Body::from_stream(lines).into_response()
    }

    struct Server {
        door: mpsc::Sender<DuplexStream>,
        accepted: Arc<AtomicUsize>,
        cancel: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(limits: Limits) -> Server {
        let (door, waiting) = mpsc::channel(8);
        let accepted = Arc::new(AtomicUsize::new(0));
        let cancel = CancellationToken::new();
        let queue = Queue {
            waiting,
            accepted: Arc::clone(&accepted),
        };
        Server {
            task: tokio::spawn(serve(queue, limits, cancel.clone())),
            door,
            accepted,
            cancel,
        }
    }

    impl Server {
        async fn dial(&self) -> DuplexStream {
            let (ours, theirs) = duplex(4096);
            self.door.send(theirs).await.unwrap();
            ours
        }
    }

    const ROOMY: Limits = Limits {
        connections: 8,
        head: Duration::from_secs(60),
        lifetime: None,
        drain: Duration::from_secs(60),
    };

    async fn answer(io: &mut DuplexStream) -> String {
        let mut buffer = [0; 1024];
        let len = io.read(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_for_one_to_end() {
        let server = start(Limits {
            connections: 1,
            ..ROOMY
        });
        let mut first = server.dial().await;
        let mut second = server.dial().await;
        first.write_all(REQUEST).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut first).await.ends_with("hello"));
        assert_eq!(server.accepted.load(Ordering::SeqCst), 1);
        drop(first);
        assert!(answer(&mut second).await.ends_with("hello"));
    }

    const NEVER: &[u8] = b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(20);
    const LINES: usize = 8;

    /// Reads to the end, which without the limit under test would not come.
    async fn is_closed(io: &mut DuplexStream) -> bool {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(30), io.read_to_end(&mut rest))
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_cut() {
        let server = start(Limits {
            head: SHORT,
            ..ROOMY
        });
        let mut slow = server.dial().await;
        slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        assert!(is_closed(&mut slow).await);
    }

    #[tokio::test]
    async fn a_connection_gives_up_its_slot_in_the_end() {
        let server = start(Limits {
            lifetime: Some(SHORT),
            drain: SHORT,
            ..ROOMY
        });
        let mut stuck = server.dial().await;
        stuck.write_all(NEVER).await.unwrap();
        assert!(is_closed(&mut stuck).await);
    }

    // Time passes only while everything waits, so that a loaded machine changes nothing.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_gets_through_outlives_the_lifetime_of_its_connection() {
        let server = start(Limits {
            lifetime: Some(SHORT),
            drain: Duration::ZERO,
            ..ROOMY
        });
        let mut client = server.dial().await;
        client
            .write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("line\n").count(), LINES);
        assert!(answer.ends_with("\r\n0\r\n\r\n"), "it was cut: {answer:?}");
    }

    #[tokio::test]
    async fn the_end_closes_connections_that_are_idle() {
        let server = start(ROOMY);
        let mut idle = server.dial().await;
        idle.write_all(REQUEST).await.unwrap();
        answer(&mut idle).await;
        server.cancel.cancel();
        let end = timeout(Duration::from_secs(30), server.task).await;
        assert!(end.is_ok(), "an idle connection held up the end");
    }

    #[tokio::test]
    async fn the_end_waits_no_longer_than_it_says() {
        let server = start(Limits {
            drain: SHORT,
            ..ROOMY
        });
        let mut stuck = server.dial().await;
        stuck.write_all(NEVER).await.unwrap();
        while server.accepted.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        server.cancel.cancel();
        let end = timeout(Duration::from_secs(30), server.task).await;
        assert!(end.is_ok(), "a stuck request held up the end");
    }
}
