//! Reading sockets: into one buffer of the thread, out of which small reads are copied and large
//! ones handed on.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::end::{End, MoveFault, ReadFault, WriteFault};
use super::held::Held;

/// Most bytes read from a socket at once: each read of a fast sender wakes it up, so few are
/// better than many. One buffer serves the whole thread: a buffer for each connection would cost
/// more than the copying (zeroing and cold caches).
const SCRATCH_BYTES: usize = 256 * 1024;
/// With less room than this left, a new buffer is begun.
const ENOUGH: usize = 64 * 1024;
/// Reads of at least this much are handed on in the buffer they were read into. It lives as long
/// as any part of it, so what waits to be acknowledged keeps at most four times as much.
const WORTH_GIVING: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// Reads once, at most `max` bytes, and gives them to `take`.
fn poll_scratch<R: AsyncRead + Unpin, T>(
    from: &mut R,
    cx: &mut Context<'_>,
    max: usize,
    take: impl FnOnce(&mut Context<'_>, &mut BytesMut) -> T,
) -> Poll<Result<(usize, T), ReadFault>> {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.capacity() < ENOUGH {
            scratch.reserve(SCRATCH_BYTES);
        }
        let mut room = (&mut *scratch).limit(max);
        // Every error of a socket means that the connection is gone without a FIN. With TLS a
        // FIN without close_notify counts as one: it may be an attacker's truncation.
        let read = ready!(poll_read_buf(Pin::new(from), cx, &mut room));
        let count = read.map_err(|_| ReadFault::Reset)?;
        let taken = take(cx, scratch);
        scratch.clear();
        Poll::Ready(Ok((count, taken)))
    })
}

/// [`End::poll_hold`] of a socket.
pub(super) fn poll_hold_bytes<R: AsyncRead + Unpin>(
    from: &mut R,
    cx: &mut Context<'_>,
    held: &mut Held,
    max: usize,
) -> Poll<Result<usize, ReadFault>> {
    let keep = |_: &mut Context<'_>, bytes: &mut BytesMut| held.push(Bytes::copy_from_slice(bytes));
    let (count, ()) = ready!(poll_scratch(from, cx, max, keep))?;
    Poll::Ready(Ok(count))
}

/// [`End::poll_move`] of a socket.
pub(super) fn poll_move_bytes<R: AsyncRead + Unpin, E: End>(
    from: &mut R,
    cx: &mut Context<'_>,
    to: &mut E,
    held: &mut Held,
) -> Poll<Result<usize, MoveFault>> {
    let write = |cx: &mut Context<'_>, bytes: &mut BytesMut| {
        let mut bytes = match bytes.len() {
            // Given away, the buffer lives until the last byte of it was acknowledged.
            WORTH_GIVING.. => bytes.split().freeze(),
            _ => return write_copied(cx, to, bytes, held),
        };
        while !bytes.is_empty() {
            match to.poll_write_chunk(cx, &mut bytes) {
                Poll::Ready(Ok(0)) => return Err(WriteFault::Refused),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(fault)) => return Err(fault),
                Poll::Pending => {
                    held.push(bytes);
                    break;
                }
            }
        }
        Ok(())
    };
    let moved = ready!(poll_scratch(from, cx, usize::MAX, write));
    let (count, wrote) = moved.map_err(MoveFault::Read)?;
    wrote.map_err(MoveFault::Write)?;
    Poll::Ready(Ok(count))
}

fn write_copied<E: End>(
    cx: &mut Context<'_>,
    to: &mut E,
    mut bytes: &[u8],
    held: &mut Held,
) -> Result<(), WriteFault> {
    while !bytes.is_empty() {
        match to.poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Err(WriteFault::Refused),
            Poll::Ready(Ok(count)) => bytes = &bytes[count.min(bytes.len())..],
            Poll::Ready(Err(fault)) => return Err(fault),
            Poll::Pending => {
                held.push(Bytes::copy_from_slice(bytes));
                break;
            }
        }
    }
    Ok(())
}
