//! What QUIC runs on: tokio, with timers and a socket that wake nobody for nothing.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

use super::udp::PolledSocket;

/// quinn's runtime for tokio, but for its timers and its socket. An endpoint and its connections
/// run on it wherever they are asked for.
#[derive(Debug)]
pub(super) struct QuietRuntime(Handle);

impl QuietRuntime {
    /// The runtime that this is called on.
    pub(super) fn here() -> Self {
        Self(Handle::current())
    }

    /// That of a shard.
    pub(super) fn on(shard: &Handle) -> Self {
        Self(shard.clone())
    }
}

impl Runtime for QuietRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        // Only connections ask, and those are here.
        Box::pin(Timer(Box::pin(sleep_until(at.into()))))
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(task);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _here = self.0.enter();
        Ok(Arc::new(PolledSocket::new(socket)?))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// Moved by less than this a timer keeps the moment it had: under load it moves with every packet,
/// and making it anew would cost more than one wake.
const NEAR: Duration = Duration::from_millis(100);

/// A timer that is made anew when it is moved far. tokio's own reset leaves the old moment in
/// place when the new one is later, and the process wakes then, for nothing: on an idle link the
/// retransmission timer of every pong, which the ACK has moved away just before.
#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        let before = self.0.deadline().into_std();
        match at.saturating_duration_since(before) < NEAR {
            true => self.0.as_mut().reset(at.into()),
            false => self.0.set(sleep_until(at.into())),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), cx)
    }
}
