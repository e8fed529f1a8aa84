//! Throughput of the way to another node, over one stream of the link: what one tunnelled
//! connection would get beside all others. [`Measuring`] serves what others ask,
//! [`download`] and [`upload`] ask. What is counted and when it ends: [`crate::mesh::measure`].
//!
//! A measurement fills the line on purpose. So its stream has the least priority, whatever else
//! is to be sent goes first, and its window is that of one stream: it never holds more than half
//! of what a link may have on its way. A node serves few at once ([`guests`](Guests)).

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout, timeout_at};

use super::end::{End, Guarded, QuicEnd, code};
use crate::clock::{self, Clock};
use crate::mesh::id::NodeId;
use crate::mesh::measure::guests::Guests;
use crate::mesh::measure::wire::{REPORT_BYTES, Report, Request, Way};
use crate::mesh::measure::{Counter, Limits, Throughput};
use crate::mesh::stream::{Cut, Opening, Refusal, Status};

/// Below every tunnel, whose priority is 0.
const PRIORITY: i32 = -1;
/// How long the other side may keep silent: before its answer, and after the time is over.
const GRACE: Duration = Duration::from_secs(5);
/// How long a peer's new measurement waits for the end of its last.
const HANDOVER: Duration = Duration::from_millis(500);
/// Bytes handed to QUIC at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Pieces taken from QUIC at once.
const PIECES: usize = 32;

/// Bytes without meaning: nobody gains by keeping them, and QUIC does not compress.
static FILL: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// Serves the measurements that other nodes ask for. Clones share their limits.
#[derive(Clone, Debug)]
pub struct Measuring {
    guests: Arc<Mutex<Guests>>,
    /// One of them has left.
    left: Arc<Notify>,
    clock: Clock,
}

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// It measures with others, or with this node too often.
    #[error("the node measures with too many at once, or with this one again too soon")]
    Busy,
    /// Another refusal.
    #[error(transparent)]
    Refused(Refusal),
    /// It does not know this kind of stream.
    #[error("the node's version of warren cannot measure")]
    TooOld,
    /// Nothing came for too long.
    #[error("the node did not answer within {GRACE:?}")]
    Silent,
    /// The link ended, or the node broke off.
    #[error("the measurement broke off: {0}")]
    Broken(String),
}

impl Measuring {
    /// Serves nobody yet. `clock` times the rates of peers.
    pub fn new(clock: Clock) -> Self {
        Self {
            guests: Arc::default(),
            left: Arc::default(),
            clock,
        }
    }

    /// Serves one stream whose opening was read, to its end.
    pub async fn serve(&self, peer: NodeId, request: Request, mut near: Guarded<QuicEnd>) {
        let admitted = self.admit(peer).await;
        let status = match admitted {
            Ok(()) => Status::Connected,
            Err(refusal) => Status::Refused(refusal),
        };
        let _place = admitted.is_ok().then(|| Place {
            measuring: self.clone(),
            peer,
        });
        let QuicEnd { send, recv, .. } = &mut near.end;
        let limits = request.limits.within(Limits::MAX);
        // Fails only on a stream that has already ended.
        let _ = send.set_priority(PRIORITY);
        let served = async {
            send.write_all(&[status.byte()]).await?;
            match (admitted, request.way) {
                (Err(_), _) => {}
                (Ok(()), Way::Download) => fill(send, limits).await?,
                (Ok(()), Way::Upload) => {
                    let mut counter = Counter::new(limits);
                    count(recv, &mut counter, &self.clock, &mut |_| {}).await?;
                    send.write_all(&Report::of(&counter).encode()).await?;
                }
            }
            Ok::<_, MeasureError>(())
        };
        let served = served.await;
        tracing::debug!(peer = %peer.short(), ?request, ?status, ?served, "measured");
        if served.is_ok() {
            // Fails if the other side has stopped it, which is how a download ends early.
            let _ = near.end.send.finish();
            near.end.unwanted();
            near.disarm();
        }
    }

    /// Admits `peer`. Where its last measurement has not ended it is waited for, a little: the peer
    /// knows of the end first, and goes on with the other way.
    async fn admit(&self, peer: NodeId) -> Result<(), Refusal> {
        let end = clock::deadline(HANDOVER);
        loop {
            // Registered before the look, or the end could be missed.
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            let (admitted, measures) = {
                let mut guests = self.lock();
                let measures = guests.measures(&peer);
                (guests.admit(self.clock.now().mono, peer), measures)
            };
            if !measures || timeout_at(end, left).await.is_err() {
                return admitted;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        // No code panics while it holds this lock.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's place, given up however its stream ends.
struct Place {
    measuring: Measuring,
    peer: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.measuring.lock().leave(&self.peer);
        self.measuring.left.notify_waiters();
    }
}

/// Takes bytes from the node at the other end of a new stream; `progress` is told how many so
/// far. `None` if too few came to tell.
///
/// # Errors
/// See [`MeasureError`].
pub async fn download(
    mut end: QuicEnd,
    limits: Limits,
    clock: &Clock,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Option<Throughput>, MeasureError> {
    ask(&mut end, Way::Download, limits).await?;
    let mut counter = Counter::new(limits);
    count(&mut end.recv, &mut counter, clock, progress).await?;
    Ok(counter.throughput())
}

/// Sends bytes to the node at the other end of a new stream, which counts; `progress` is told
/// how many were sent so far. `None` if too few arrived to tell.
///
/// # Errors
/// See [`MeasureError`]. A report that cannot be true is one.
pub async fn upload(
    mut end: QuicEnd,
    limits: Limits,
    clock: &Clock,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Option<Throughput>, MeasureError> {
    ask(&mut end, Way::Upload, limits).await?;
    let began = clock.now().mono;
    let QuicEnd { send, recv, .. } = &mut end;
    let mut sent = 0;
    let report = {
        let report = read_report(recv, limits.time.saturating_add(GRACE));
        let filling = async {
            match fill_counting(send, limits, &mut sent, progress).await {
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        tokio::select! {
            biased;
            report = report => report?,
            error = filling => return Err(error),
        }
    };
    // It has counted enough: what is still queued here is not wanted. Fails if all was sent.
    let _ = send.reset(code(Cut::Unwanted));
    // A peer is believed what is possible; two clocks may differ by a little.
    let passed = clock.now().mono.saturating_sub(began);
    if report.bytes > sent || report.elapsed > passed + passed / 100 {
        let what = "it reports more bytes, or more time, than there were";
        return Err(MeasureError::Broken(what.to_owned()));
    }
    Ok(Throughput::of(report.bytes, report.elapsed))
}

/// Opens the measurement and waits until the other side agrees.
async fn ask(end: &mut QuicEnd, way: Way, limits: Limits) -> Result<(), MeasureError> {
    // Fails only on a stream that has already ended.
    let _ = end.send.set_priority(PRIORITY);
    let opening = Opening::Measure(Request { way, limits });
    end.send.write_all(&opening.encode()).await?;
    let mut status = [0];
    let read = timeout(GRACE, end.recv.read_exact(&mut status)).await;
    match read.map_err(|_| MeasureError::Silent)? {
        Ok(()) => {}
        Err(quinn::ReadExactError::ReadError(error)) => return Err(error.into()),
        Err(error) => return Err(MeasureError::Broken(error.to_string())),
    }
    match Status::from_byte(status[0]) {
        Status::Connected => Ok(()),
        Status::Refused(Refusal::TooMany) => Err(MeasureError::Busy),
        Status::Refused(refusal) => Err(MeasureError::Refused(refusal)),
    }
}

/// Counts what comes until there is enough, the time is over, or the stream ends.
async fn count(
    recv: &mut RecvStream,
    counter: &mut Counter,
    clock: &Clock,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), MeasureError> {
    let mut end = clock::deadline(GRACE);
    loop {
        let mut pieces = [const { Bytes::new() }; PIECES];
        let read = tokio::select! {
            read = recv.read_chunks(&mut pieces) => read?,
            () = sleep_until(end) => {
                // Of nothing at all no speed can be told.
                if counter.total() == 0 {
                    return Err(MeasureError::Silent);
                }
                counter.cut(clock.now().mono);
                break;
            }
        };
        let Some(count) = read else {
            return Ok(());
        };
        let bytes: usize = pieces.iter().take(count).map(Bytes::len).sum();
        let started = counter.total() > 0;
        let now = clock.now().mono;
        let wanted = counter.arrived(now, u64::try_from(bytes).unwrap_or(u64::MAX));
        progress(counter.total());
        if !wanted {
            break;
        }
        if !started && let Some(ends) = counter.ends() {
            end = clock::deadline(ends.saturating_sub(now));
        }
    }
    // Fails only on a stream that has already ended.
    let _ = recv.stop(code(Cut::Unwanted));
    Ok(())
}

/// Sends until the limit or until the receiver, whose clock it is, has enough.
async fn fill(send: &mut SendStream, limits: Limits) -> Result<(), MeasureError> {
    let mut sent = 0;
    fill_counting(send, limits, &mut sent, &mut |_| {}).await
}

async fn fill_counting(
    send: &mut SendStream,
    limits: Limits,
    sent: &mut u64,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), MeasureError> {
    let chunk = Bytes::from_static(&FILL);
    let end = clock::deadline(limits.time.saturating_add(GRACE));
    while *sent < limits.bytes {
        let left = usize::try_from(limits.bytes - *sent).unwrap_or(usize::MAX);
        let mut piece = [chunk.slice(..left.min(CHUNK_BYTES))];
        let written = tokio::select! {
            written = send.write_chunks(&mut piece) => written,
            // It neither reads nor says that it has enough.
            () = sleep_until(end) => return Err(MeasureError::Silent),
        };
        match written {
            Ok(written) => *sent += u64::try_from(written.bytes).unwrap_or(u64::MAX),
            Err(WriteError::Stopped(why)) if why == code(Cut::Unwanted) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        progress(*sent);
    }
    // Fails if the receiver has stopped it meanwhile.
    let _ = send.finish();
    Ok(())
}

async fn read_report(recv: &mut RecvStream, limit: Duration) -> Result<Report, MeasureError> {
    let mut bytes = [0; REPORT_BYTES];
    match timeout(limit, recv.read_exact(&mut bytes)).await {
        Err(_) => Err(MeasureError::Silent),
        Ok(Ok(())) => Ok(Report::decode(bytes)),
        Ok(Err(quinn::ReadExactError::ReadError(error))) => Err(error.into()),
        Ok(Err(error)) => Err(MeasureError::Broken(error.to_string())),
    }
}

impl From<ReadError> for MeasureError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(why) if why == code(Cut::BadHeader) => Self::TooOld,
            other => Self::Broken(io::Error::from(other).to_string()),
        }
    }
}

impl From<WriteError> for MeasureError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(why) if why == code(Cut::BadHeader) => Self::TooOld,
            other => Self::Broken(io::Error::from(other).to_string()),
        }
    }
}
