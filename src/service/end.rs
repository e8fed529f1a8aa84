//! One end of a tunnelled connection: a TCP socket, TLS over one, or a pair of QUIC streams.
//!
//! [`End`] says in one vocabulary what each can do and how it fails, so that
//! [`Pipe`](super::pipe::Pipe) can translate: EOF and FIN, RST and RESET_STREAM, a full socket
//! buffer and flow control.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::held::Held;
use super::scratch::{poll_hold_bytes, poll_move_bytes};
use crate::mesh::stream::Cut;
use crate::net::link::ends_only_the_link;
use crate::net::tunnel::{Silence, TunnelGuard};

/// Chunks taken from a QUIC stream, and slices given to one vectored write, at once.
pub const CHUNKS: usize = 64;
/// Writes to a QUIC stream up to this size are never put behind others: answers and requests, and
/// the byte that says whether a server accepted.
const SMALL: usize = 4 * 1024;
/// How long a socket is read and discarded before it is closed hard, so that the kernel's RST
/// does not destroy an answer the client has not read yet.
const LINGER: Duration = Duration::from_secs(1);
/// How much of it at once, and the pause after that.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_PAUSE: Duration = Duration::from_millis(2);

thread_local! {
    /// Places for what a stream gives. They are empty between two reads.
    static CHUNKS_READ: RefCell<[Bytes; CHUNKS]> =
        const { RefCell::new([const { Bytes::new() }; CHUNKS]) };
}

/// Why no more bytes can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// The other side reset the connection.
    Reset,
    /// The link under the stream is gone.
    Lost,
    /// The same, and it says nothing of the other node: no side had a use for the link.
    LetGo,
    /// What came was left unread for too long.
    GivenUp,
}

/// Why no more bytes can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// The other side takes no more, but what it sent stays good: STOP_SENDING, or `EPIPE`,
    /// which Linux reports when a FIN came before the RST.
    Refused,
    /// The other side reset the connection; an EOF read later is not a real one.
    Reset,
    /// The link under the stream is gone.
    Lost,
}

/// Failure of [`End::poll_move`], by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveFault {
    /// The side that was read.
    Read(ReadFault),
    /// The side that was written.
    Write(WriteFault),
}

/// One side of a connection.
pub trait End: Send + Unpin {
    /// Reads once into `held`; 0 is the end of what this side sends. A hint keeps what sockets
    /// give to at most `max` bytes (more than 0); QUIC streams give whole chunks.
    ///
    /// # Errors
    /// Why nothing more can be read.
    fn poll_hold(
        &mut self,
        cx: &mut Context<'_>,
        held: &mut Held,
        max: usize,
    ) -> Poll<Result<usize, ReadFault>>;

    /// Reads once and writes as much of it as `to` takes; the rest is in `held`, which must be
    /// empty before. 0 is the end of what this side sends.
    ///
    /// # Errors
    /// Either side's failure.
    fn poll_move<E: End>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut E,
        held: &mut Held,
    ) -> Poll<Result<usize, MoveFault>>;

    /// What was read waits for the other side. Whether it may: a link has not always the room for
    /// what nobody reads. Woken when that changes.
    fn may_wait(&mut self, _cx: &Context<'_>) -> bool {
        true
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// Why nothing more can be written.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8])
    -> Poll<Result<usize, WriteFault>>;

    /// Writes some of `bytes` and takes it off their front.
    ///
    /// # Errors
    /// As [`End::poll_write`].
    fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<usize, WriteFault>> {
        let count = ready!(self.poll_write(cx, bytes))?;
        bytes.advance(count.min(bytes.len()));
        Poll::Ready(Ok(count))
    }

    /// Writes some of `slices`.
    ///
    /// # Errors
    /// As [`End::poll_write`].
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, WriteFault>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    /// Pushes out what a layer of this end (TLS) has accepted but not sent.
    ///
    /// # Errors
    /// As [`End::poll_write`].
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>>;

    /// Ends the writing half; reading goes on.
    ///
    /// # Errors
    /// As [`End::poll_write`].
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>>;

    /// Tells the sender that nobody wants more of its bytes, where the protocol can say so.
    fn unwanted(&mut self);

    /// Resets both halves. What was written and not delivered may be lost.
    fn cut(&mut self, why: Cut);

    /// Closes after one half was refused and the other ended well: reads and discards for a
    /// moment (see `LINGER`), then resets.
    fn hang_up(&mut self) -> impl Future<Output = ()> + Send;
}

fn socket_write_fault(error: &io::Error) -> WriteFault {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::NotConnected | ErrorKind::WriteZero => {
            WriteFault::Refused
        }
        _ => WriteFault::Reset,
    }
}

async fn drain<R: AsyncRead + Unpin>(from: &mut R) {
    let discard = async {
        let mut bytes = vec![0; LINGER_BYTES];
        while matches!(from.read(&mut bytes).await, Ok(1..)) {
            // Who pours without end is not read as fast as it can: everything else would wait.
            sleep(LINGER_PAUSE).await;
        }
    };
    // Running into the limit is the expected end against a client that goes on sending.
    let _ = timeout(LINGER, discard).await;
}

fn reset_on_close(tcp: &TcpStream) {
    // Fails only on a socket that is already gone.
    let _ = tcp.set_zero_linger();
}

macro_rules! socket_end {
    ($type:ty, $tcp:expr) => {
        impl End for $type {
            fn poll_hold(
                &mut self,
                cx: &mut Context<'_>,
                held: &mut Held,
                max: usize,
            ) -> Poll<Result<usize, ReadFault>> {
                poll_hold_bytes(self, cx, held, max)
            }

            fn poll_move<E: End>(
                &mut self,
                cx: &mut Context<'_>,
                to: &mut E,
                held: &mut Held,
            ) -> Poll<Result<usize, MoveFault>> {
                poll_move_bytes(self, cx, to, held)
            }

            fn poll_write(
                &mut self,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<Result<usize, WriteFault>> {
                let wrote = AsyncWrite::poll_write(Pin::new(self), cx, bytes);
                wrote.map_err(|error| socket_write_fault(&error))
            }

            fn poll_write_vectored(
                &mut self,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<Result<usize, WriteFault>> {
                let wrote = AsyncWrite::poll_write_vectored(Pin::new(self), cx, slices);
                wrote.map_err(|error| socket_write_fault(&error))
            }

            fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
                let flushed = AsyncWrite::poll_flush(Pin::new(self), cx);
                flushed.map_err(|error| socket_write_fault(&error))
            }

            fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
                let finished = AsyncWrite::poll_shutdown(Pin::new(self), cx);
                finished.map_err(|error| socket_write_fault(&error))
            }

            fn unwanted(&mut self) {}

            fn cut(&mut self, _why: Cut) {
                reset_on_close($tcp(self));
            }

            async fn hang_up(&mut self) {
                drain(self).await;
                reset_on_close($tcp(self));
            }
        }
    };
}

socket_end!(TcpStream, plain);
socket_end!(Client, Client::tcp);

fn plain(tcp: &TcpStream) -> &TcpStream {
    tcp
}

/// Both directions of one QUIC stream.
pub struct QuicEnd {
    /// Towards the other node.
    pub send: SendStream,
    /// From the other node.
    pub recv: RecvStream,
    tunnel: Option<TunnelGuard>,
    /// Something was read since the last look at whether it may wait.
    has_read: bool,
    /// How often writing lets others go first, before it tries again.
    gives_way: u8,
}

impl QuicEnd {
    /// A stream that nothing else depends on.
    pub fn new(send: SendStream, recv: RecvStream) -> Self {
        Self {
            send,
            recv,
            tunnel: None,
            has_read: false,
            gives_way: 0,
        }
    }

    /// A stream that is a `tunnel` of a link, which it counts for until it is dropped.
    pub fn on(mut self, tunnel: impl Into<Option<TunnelGuard>>) -> Self {
        self.tunnel = tunnel.into();
        self
    }

    /// Tells when the other node has been silent for too long.
    pub fn silence(&self) -> Option<Silence> {
        self.tunnel.as_ref().map(TunnelGuard::silence)
    }
}

impl fmt::Debug for QuicEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuicEnd({})", self.send.id())
    }
}

/// The QUIC form of a [`Cut`].
pub fn code(cut: Cut) -> VarInt {
    VarInt::from_u64(cut.code()).unwrap_or(VarInt::MAX)
}

fn quic_read_fault(error: &ReadError) -> ReadFault {
    match error {
        ReadError::Reset(_) => ReadFault::Reset,
        ReadError::ConnectionLost(end) if ends_only_the_link(end) => ReadFault::LetGo,
        _ => ReadFault::Lost,
    }
}

fn quic_write_fault(error: &WriteError) -> WriteFault {
    match error {
        WriteError::Stopped(_) | WriteError::ClosedStream => WriteFault::Refused,
        _ => WriteFault::Lost,
    }
}

impl End for QuicEnd {
    fn poll_hold(
        &mut self,
        cx: &mut Context<'_>,
        held: &mut Held,
        _max: usize,
    ) -> Poll<Result<usize, ReadFault>> {
        CHUNKS_READ.with_borrow_mut(|chunks| {
            // `read_chunks` keeps its place in the stream, not in the future: it may be made anew.
            let Poll::Ready(read) = pin!(self.recv.read_chunks(chunks)).poll(cx) else {
                if let Some(tunnel) = &mut self.tunnel {
                    tunnel.caught_up();
                }
                return Poll::Pending;
            };
            let count = read.map_err(|error| quic_read_fault(&error))?.unwrap_or(0);
            let mut bytes = 0;
            self.has_read |= count > 0;
            for chunk in chunks.iter_mut().take(count) {
                bytes += chunk.len();
                held.push(std::mem::take(chunk));
            }
            Poll::Ready(Ok(bytes))
        })
    }

    fn poll_move<E: End>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut E,
        held: &mut Held,
    ) -> Poll<Result<usize, MoveFault>> {
        let count = ready!(self.poll_hold(cx, held, usize::MAX)).map_err(MoveFault::Read)?;
        match held.poll_write(cx, to) {
            Poll::Ready(Err(fault)) => Poll::Ready(Err(MoveFault::Write(fault))),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    fn may_wait(&mut self, cx: &Context<'_>) -> bool {
        let has_read = std::mem::take(&mut self.has_read);
        let tunnel = self.tunnel.as_mut();
        tunnel.is_none_or(|tunnel| tunnel.may_wait(has_read, cx))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WriteFault>> {
        if self.gives_way > 0 {
            self.gives_way -= 1;
            // Not before those that were woken with it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let wrote = SendStream::poll_write(Pin::new(&mut self.send), cx, bytes);
        if wrote.is_pending() && bytes.len() > SMALL {
            // When the peer lets the connection send more, quinn wakes whom that held back as they
            // lie on a stack, and the first takes all of it: some would never have their turn. So
            // what is small goes first, and the rest in an order of chance.
            self.gives_way = 1 + u8::from(rand::random::<bool>());
        }
        wrote.map_err(|error| quic_write_fault(&error))
    }

    fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<usize, WriteFault>> {
        // What is taken is taken at once: the future keeps nothing that dropping it would lose.
        let written = ready!(pin!(self.send.write_chunks(std::slice::from_mut(bytes))).poll(cx));
        let written = written.map_err(|error| quic_write_fault(&error))?;
        Poll::Ready(Ok(written.bytes))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        Poll::Ready(self.send.finish().map_err(|_| WriteFault::Refused))
    }

    fn unwanted(&mut self) {
        // Fails only on a stream that has already ended.
        let _ = self.recv.stop(code(Cut::Unwanted));
    }

    fn cut(&mut self, why: Cut) {
        // Either fails only on a stream that has already ended.
        let _ = self.send.reset(code(why));
        let _ = self.recv.stop(code(why));
    }

    async fn hang_up(&mut self) {
        self.unwanted();
    }
}

/// An end that is reset when dropped, unless [`disarm`](Self::disarm)ed: a task that is
/// cancelled or panics must not look to the other side like an orderly end of the data.
#[derive(Debug)]
pub struct Guarded<E: End> {
    /// The end.
    pub end: E,
    armed: bool,
}

impl<E: End> Guarded<E> {
    /// Takes charge of `end`.
    pub fn new(end: E) -> Self {
        Self { end, armed: true }
    }

    /// From now on dropping it is an orderly close.
    pub fn disarm(&mut self) {
        self.armed = false;
    }
}

impl<E: End> Drop for Guarded<E> {
    fn drop(&mut self) {
        if self.armed {
            self.end.cut(Cut::Shutdown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that pours at full speed into a download that its client gave up.
    #[tokio::test(start_paused = true)]
    async fn who_pours_without_end_is_read_in_pieces_and_not_for_long() {
        let mut endless = tokio::io::repeat(b'x').take(u64::MAX);
        drain(&mut endless).await;
        let read = u64::MAX - endless.limit();
        let pieces = LINGER.as_millis() / LINGER_PAUSE.as_millis();
        assert!(read >= LINGER_BYTES as u64);
        assert!(u128::from(read) <= (pieces + 1) * LINGER_BYTES as u128);
    }
}
