//! Connections of strangers, with TLS where there is a certificate. When there is no room for one
//! more, the client with the most connections loses the one that has been without a request for
//! longest: slow clients push out their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::{Extension, Router};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::clients::{Site, V6};
use crate::api::serve::Acceptor;
use crate::service::client::Client;
use crate::service::tls::TlsSource;

/// Connections at once: half of what a process may have open where nobody raised the limit.
pub(super) const MAX_CONNECTIONS: usize = 512;
/// How many more are there for a moment, while others go for them.
pub(super) const WAITING: usize = 32;

/// Where clients come in.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<Arc<TlsSource>>,
    router: Router,
    seats: Arc<Seats>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<TlsSource>>, router: Router) -> Self {
        Self {
            listener,
            tls,
            router,
            seats: Arc::default(),
        }
    }
}

impl Acceptor for Door {
    type Io = Socket;

    async fn accept(&mut self) -> io::Result<(Socket, Router)> {
        let (stream, from) = self.listener.accept().await?;
        // Answers are whole when they are written; a missing option costs speed only.
        let _ = stream.set_nodelay(true);
        let (guest, cut) = Seats::take(&self.seats, from.ip());
        let way = match &self.tls {
            None => Way::Open(Client::Plain(stream)),
            // The handshake is the client's affair: it runs when its connection is served.
            Some(tls) => {
                let tls = Arc::clone(tls);
                Way::Greeting(Box::pin(async move {
                    let stream = tls.accept(stream).await?;
                    Ok(Client::Tls(Box::new(stream)))
                }))
            }
        };
        let scheme = match &self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        let router = self.router.clone();
        let router = router
            .layer(Extension(Arc::new(guest)))
            .layer(Extension(scheme));
        let cut = Box::pin(cut.cancelled_owned());
        Ok((Socket { way, cut }, router))
    }
}

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Everybody who is in.
#[derive(Default)]
struct Seats(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    by: BTreeMap<u64, Seat>,
    /// Counts arrivals and ends of requests: what is smaller was earlier.
    next: u64,
}

struct Seat {
    site: Site,
    /// Requests that run.
    running: usize,
    /// Since when none did.
    idle_since: u64,
    cut: CancellationToken,
}

impl Seats {
    /// Lets one in, and another out if need be.
    fn take(seats: &Arc<Self>, ip: IpAddr) -> (Guest, CancellationToken) {
        let cut = CancellationToken::new();
        let mut taken = seats.lock();
        if taken.by.len() >= MAX_CONNECTIONS {
            taken.push_one_out();
        }
        let id = taken.tick();
        let seat = Seat {
            site: Site::of(ip, V6::Link),
            running: 0,
            idle_since: id,
            cut: cut.clone(),
        };
        taken.by.insert(id, seat);
        let guest = Guest {
            seats: Arc::clone(seats),
            id,
            ip,
        };
        (guest, cut)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing that runs under the lock leaves the seats half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn push_one_out(&mut self) {
        let staying = || self.by.values().filter(|seat| !seat.cut.is_cancelled());
        let mut counts: BTreeMap<Site, usize> = BTreeMap::new();
        for seat in staying() {
            *counts.entry(seat.site).or_default() += 1;
        }
        // Of clients without an idle connection none goes, so look at the others first.
        let idle = staying().filter(|seat| seat.running == 0);
        let victim = idle.max_by_key(|seat| {
            let count = counts.get(&seat.site).copied().unwrap_or_default();
            (count, std::cmp::Reverse(seat.idle_since))
        });
        if let Some(seat) = victim {
            seat.cut.cancel();
        }
    }
}

/// A connection of a client; it leaves when this is dropped.
pub(super) struct Guest {
    seats: Arc<Seats>,
    id: u64,
    /// The address at its other end.
    pub(super) ip: IpAddr,
}

impl Guest {
    /// Until the result is dropped, the connection is not an idle one.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        if let Some(seat) = self.seats.lock().by.get_mut(&self.id) {
            seat.running += 1;
        }
        Busy(Arc::clone(self))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.seats.lock().by.remove(&self.id);
    }
}

/// A request that runs.
pub(super) struct Busy(Arc<Guest>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut taken = self.0.seats.lock();
        let now = taken.tick();
        if let Some(seat) = taken.by.get_mut(&self.0.id) {
            seat.running = seat.running.saturating_sub(1);
            seat.idle_since = now;
        }
    }
}

/// A client's socket. What it is cut from reads as broken.
pub(super) struct Socket {
    way: Way,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

enum Way {
    /// The handshake runs.
    Greeting(BoxFuture<'static, io::Result<Client>>),
    Open(Client),
    /// The handshake failed.
    Broken,
}

impl Socket {
    /// The stream, once the handshake is done.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut Client>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Way::Greeting(greeting) = &mut self.way {
            let greeted = ready!(greeting.as_mut().poll(cx));
            // A future that has ended must not be polled again.
            self.way = Way::Broken;
            self.way = Way::Open(greeted?);
        }
        match &mut self.way {
            Way::Open(client) => Poll::Ready(Ok(Pin::new(client))),
            Way::Greeting(_) | Way::Broken => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.way {
            // Nothing was said yet, and nothing need be.
            Way::Greeting(_) | Way::Broken => Poll::Ready(Ok(())),
            Way::Open(_) => ready!(self.poll_open(cx))?.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come(seats: &Arc<Seats>, ip: u8) -> (Arc<Guest>, CancellationToken) {
        let (guest, cut) = Seats::take(seats, [192, 0, 2, ip].into());
        (Arc::new(guest), cut)
    }

    #[test]
    fn the_greediest_client_loses_its_longest_idle_connection() {
        let seats = Arc::default();
        let modest = come(&seats, 1);
        let mut greedy: Vec<_> = (1..MAX_CONNECTIONS).map(|_| come(&seats, 2)).collect();
        let working = greedy[0].0.busy();
        let next = come(&seats, 3);
        assert!(!modest.1.is_cancelled() && !next.1.is_cancelled());
        let cut = |all: &[(Arc<Guest>, CancellationToken)]| {
            all.iter().position(|(_, cut)| cut.is_cancelled())
        };
        assert_eq!(cut(&greedy), Some(1), "the first one has a request");
        greedy.remove(1);
        assert_eq!(seats.lock().by.len(), MAX_CONNECTIONS);

        // A request that has ended makes it the youngest idle one.
        drop(working);
        let _more = come(&seats, 3);
        assert_eq!(cut(&greedy), Some(1));
        assert!(!modest.1.is_cancelled());
    }

    #[test]
    fn who_leaves_makes_room() {
        let seats = Arc::default();
        let mut all: Vec<_> = (0..MAX_CONNECTIONS).map(|_| come(&seats, 1)).collect();
        all.pop();
        all.push(come(&seats, 1));
        assert!(all.iter().all(|(_, cut)| !cut.is_cancelled()));
        all.clear();
        assert!(seats.lock().by.is_empty());
    }
}
