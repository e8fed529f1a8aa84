//! The side of the server, as an ingress sees it: another node, or this one.

use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::end::{End, MoveFault, QuicEnd, ReadFault, WriteFault};
use super::expose::InFlight;
use super::held::Held;
use crate::mesh::stream::Cut;

/// Where an ingress sends a connection.
#[derive(Debug)]
pub(super) enum Far {
    /// To another node.
    Quic(QuicEnd),
    /// To this node's own server. `counted` keeps the egress's books.
    Local {
        tcp: TcpStream,
        #[allow(dead_code, reason = "held for its drop")]
        counted: InFlight,
    },
}

impl Far {
    /// Whether it is this node's own server: no header, no status byte.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    /// Resolves when its node has been silent for too long to be waited for.
    pub(super) fn fell_silent(&self) -> impl Future<Output = ()> + use<> {
        let silence = match self {
            Self::Quic(end) => end.silence(),
            Self::Local { .. } => None,
        };
        async move {
            match silence {
                Some(mut silence) => silence.fell().await,
                None => std::future::pending().await,
            }
        }
    }
}

macro_rules! each {
    ($far:expr, $end:ident => $call:expr) => {
        match $far {
            Far::Quic($end) => $call,
            Far::Local { tcp: $end, .. } => $call,
        }
    };
}

impl End for Far {
    fn poll_hold(
        &mut self,
        cx: &mut Context<'_>,
        held: &mut Held,
        max: usize,
    ) -> Poll<Result<usize, ReadFault>> {
        each!(self, end => end.poll_hold(cx, held, max))
    }

    fn poll_move<E: End>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut E,
        held: &mut Held,
    ) -> Poll<Result<usize, MoveFault>> {
        each!(self, end => end.poll_move(cx, to, held))
    }

    fn may_wait(&mut self, cx: &Context<'_>) -> bool {
        each!(self, end => end.may_wait(cx))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WriteFault>> {
        each!(self, end => End::poll_write(end, cx, bytes))
    }

    fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<usize, WriteFault>> {
        each!(self, end => end.poll_write_chunk(cx, bytes))
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, WriteFault>> {
        each!(self, end => End::poll_write_vectored(end, cx, slices))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        each!(self, end => End::poll_flush(end, cx))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        each!(self, end => end.poll_finish(cx))
    }

    fn unwanted(&mut self) {
        each!(self, end => end.unwanted());
    }

    fn cut(&mut self, why: Cut) {
        each!(self, end => end.cut(why));
    }

    async fn hang_up(&mut self) {
        each!(self, end => end.hang_up().await);
    }
}
