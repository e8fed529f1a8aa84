//! One link: a connection whose Hello was checked. Frames go through a queue, tunnels are
//! streams of their own, and the end is reported once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::clock;
use crate::mesh::brain::{Input, LinkUp};
use crate::mesh::close::CloseCode;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::wire::{Frame, WireError, decode_frame};

use super::close::close;
use super::flow::Flows;
use super::refused::Refused;
use super::setup::LinkEvent;
use super::tunnel::TunnelGuard;
use super::window::{Budget, Windows};

/// Streams a peer may have open at once on one link.
const MAX_STREAMS: u32 = 16_384;
/// The same while few are open: QUIC keeps a place for each that may be.
const FIRST_STREAMS: u32 = 1_024;
/// Control frames waiting for a peer that does not read; above the largest ledger, because a
/// newcomer may need all of it. Beyond this the peer is cut off.
const MAX_QUEUED: usize = 96 << 20;
/// Above every tunnel: pings and entries must not wait behind a bulk transfer.
const CONTROL_PRIORITY: i32 = 1;
/// A link is not trimmed this soon after its last tunnel: who came once comes again.
const KEPT_AFTER_TUNNEL: Duration = Duration::from_secs(30);
/// Nor this soon after it came up: whoever dialled it is about to use it.
const KEPT_AFTER_UP: Duration = Duration::from_secs(5);

/// A link on which nothing was heard for too long keeps its tunnels for this much longer. A path
/// that comes back carries them on with QUIC's next probe: after an outage of five seconds that
/// may take five more, since probes go at doubling intervals (RFC 9002 §6.2).
const KEPT_IN_SILENCE: Duration = Duration::from_secs(10);
/// Between two looks whether such a link is heard again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Datagrams sorted before the link looks after its frames again.
const SORTED_AT_ONCE: u32 = 64;

/// In place of a frame, which is never empty: the end of the control stream.
const LAST: Bytes = Bytes::new();

/// A link that is up.
pub struct Link {
    /// Number.
    pub id: LinkId,
    /// Who is at the other end.
    pub peer: NodeId,
    /// The /24 or /56 it came up from.
    pub(super) source: Vec<u8>,
    /// The peer is no member: it is shown who is here, and that is all.
    pub(super) observes: bool,
    /// Where its tunnels run.
    pub(super) runtime: Handle,
    pub(super) connection: Connection,
    queue: mpsc::UnboundedSender<Bytes>,
    queued: AtomicUsize,
    uses: Mutex<Uses>,
    retiring: AtomicBool,
    pub(super) lost: watch::Sender<bool>,
    idle: Notify,
    frames: AtomicU64,
    pub(super) flows: Flows,
    pub(super) windows: Windows,
}

/// What tells whether a link is in use. One lock for counting a tunnel and for ending the link:
/// no tunnel is taken on a link that was found unused.
struct Uses {
    tunnels: usize,
    /// Streams the peer may have open now.
    streams: u32,
    kept_until: Instant,
    ended: bool,
}

impl Link {
    /// Takes over a greeted connection and raises its limits to those of a member (D27), unless
    /// the peer only `observes`.
    pub(super) fn new(
        id: LinkId,
        peer: NodeId,
        source: Vec<u8>,
        connection: Connection,
        observes: bool,
        budget: Arc<Budget>,
        runtime: Handle,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Bytes>) {
        let windows = match observes {
            true => Windows::closed(&connection, budget),
            false => Windows::open(&connection, budget),
        };
        if !observes {
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(FIRST_STREAMS));
        }
        let (queue, waiting) = mpsc::unbounded_channel();
        let link = Self {
            id,
            peer,
            source,
            observes,
            runtime,
            connection,
            queue,
            queued: AtomicUsize::new(0),
            uses: Mutex::new(Uses {
                tunnels: 0,
                streams: FIRST_STREAMS,
                kept_until: clock::deadline(KEPT_AFTER_UP),
                ended: false,
            }),
            retiring: AtomicBool::new(false),
            lost: watch::Sender::new(false),
            idle: Notify::new(),
            frames: AtomicU64::new(0),
            flows: Flows::default(),
            windows,
        };
        (Arc::new(link), waiting)
    }

    /// Queues a frame. A peer that does not read what it is sent is cut off, not waited for.
    pub fn send(&self, frame: &Frame) {
        let bytes = Bytes::from(frame.encode());
        if self.queued.fetch_add(bytes.len(), Ordering::AcqRel) > MAX_QUEUED {
            self.close(CloseCode::Flood);
        } else if self.queue.send(bytes).is_err() {
            tracing::trace!(link = self.id.0, "frame for a link that has ended");
        }
    }

    /// Ends this side's control stream behind everything that is queued. The peer closes the
    /// connection when it has read that far: QUIC forgets what is not sent yet when it closes.
    pub fn finish(&self) {
        if self.queue.send(LAST).is_err() {
            tracing::trace!(link = self.id.0, "the link has ended already");
        }
    }

    /// Closes the connection now.
    pub fn close(&self, code: CloseCode) {
        close(&self.connection, code);
    }

    /// Closes the connection when its last tunnel has ended.
    pub fn retire(&self) {
        self.retiring.store(true, Ordering::Release);
        self.idle.notify_one();
    }

    /// The peer is silent: the connection is closed, or lives on for its tunnels.
    pub fn lose(&self) {
        if !self.close_if(CloseCode::Timeout, |_| true) {
            self.lost.send_replace(true);
        }
    }

    /// Closes the connection unless a tunnel is open on it or was a moment ago, or it has just
    /// come up.
    pub fn trim(&self) {
        let now = clock::instant();
        self.close_if(CloseCode::Idle, |uses| now >= uses.kept_until);
    }

    /// Whether the connection has not ended.
    pub fn is_up(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Whether anything that was written has left: the first is this side's Hello.
    pub fn has_spoken(&self) -> bool {
        self.connection.stats().frame_tx.stream > 0
    }

    /// Opens a stream for a tunnel.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn open(
        self: &Arc<Self>,
    ) -> Result<(SendStream, RecvStream, TunnelGuard), ConnectionError> {
        let guard = self.guard().ok_or(ConnectionError::LocallyClosed)?;
        let (send, recv) = self.connection.open_bi().await?;
        Ok((send, recv, guard))
    }

    /// Counts a tunnel; `None` on a link that was closed as unused.
    fn guard(self: &Arc<Self>) -> Option<TunnelGuard> {
        let mut uses = self.uses();
        if uses.ended {
            return None;
        }
        uses.tunnels += 1;
        // Twice as many before the last one is taken, so that nobody waits for it.
        if uses.tunnels > uses.streams as usize / 2 && uses.streams < MAX_STREAMS {
            uses.streams *= 2;
            let streams = VarInt::from_u32(uses.streams);
            self.connection.set_max_concurrent_bi_streams(streams);
        }
        self.windows.suit(uses.tunnels);
        Some(TunnelGuard::new(Arc::clone(self)))
    }

    /// A tunnel has ended.
    pub(super) fn give_back(&self) {
        let mut uses = self.uses();
        uses.tunnels -= 1;
        self.windows.suit(uses.tunnels);
        if uses.tunnels == 0 {
            uses.kept_until = clock::deadline(KEPT_AFTER_TUNNEL);
            self.idle.notify_one();
        }
    }

    /// Closes a link without tunnels if `also` holds; whether it did.
    fn close_if(&self, code: CloseCode, also: impl FnOnce(&Uses) -> bool) -> bool {
        let mut uses = self.uses();
        let closes = uses.tunnels == 0 && also(&uses);
        if closes {
            uses.ended = true;
            self.close(code);
        }
        closes
    }

    /// No code panics while it holds this lock.
    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer has sent anything since the last call: bytes served count as life, and so
    /// does the ACK of a ping. Only frames count, for they were decrypted: anybody can send packets
    /// with the connection id of a peer that is gone.
    pub fn heard(&self) -> Option<Duration> {
        let now = self.received();
        let before = self.frames.swap(now, Ordering::AcqRel);
        (now > before).then(|| self.connection.rtt())
    }

    /// Frames of QUIC that came from the peer.
    fn received(&self) -> u64 {
        let frames = self.connection.stats().frame_rx;
        frames.acks + frames.stream + frames.datagram + frames.ping
    }

    /// The connection's round trip, as QUIC measures it.
    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Where the peer's datagrams come from now.
    pub fn remote(&self) -> SocketAddr {
        let addr = self.connection.remote_address();
        SocketAddr::new(addr.ip().to_canonical(), addr.port())
    }

    /// Packets sent so far on the present path, and how many of them were lost. Probes for a
    /// larger packet are left out: they are meant to be lost.
    pub fn packets(&self) -> (u64, u64) {
        let path = self.connection.stats().path;
        let sent = path.sent_packets.saturating_sub(path.sent_plpmtud_probes);
        (sent, path.lost_packets)
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) -> ConnectionError {
        self.connection.closed().await
    }

    /// Runs the link until its connection ends; gives what ended it. If it was lost and is heard
    /// again, `events` are told so with `again`.
    pub async fn run(
        self: &Arc<Self>,
        control: (SendStream, RecvStream),
        waiting: mpsc::UnboundedReceiver<Bytes>,
        events: &mpsc::Sender<LinkEvent>,
        again: &LinkUp,
        refused: &Refused,
        mut tunnel: impl FnMut(SendStream, RecvStream, TunnelGuard),
    ) -> ConnectionError {
        let (send, recv) = control;
        let accept = async {
            while let Ok((send, recv)) = self.connection.accept_bi().await {
                // Dropping the streams tells nobody anything: the connection is closed.
                let Some(guard) = self.guard() else { return };
                tunnel(send, recv, guard);
            }
        };
        tokio::select! {
            () = self.write(send, waiting) => {}
            () = self.read(recv, events, again, refused) => {}
            () = accept => {}
            () = self.sort_datagrams(refused) => {}
            () = self.retired() => {}
            () = self.windows.follow() => {}
            () = self.silent(events, again) => {}
        }
        // Whatever ended first, the connection's own reason is what people want to know; closing
        // it again would replace that.
        if self.connection.close_reason().is_none() {
            self.close(CloseCode::Protocol);
        }
        self.connection.closed().await
    }

    async fn sort_datagrams(&self, refused: &Refused) {
        let mut sorted = 0_u32;
        while let Ok(datagram) = self.connection.read_datagram().await {
            if let Err(lost) = self.flows.deliver(&datagram) {
                refused.count(lost.word());
            }
            sorted = sorted.wrapping_add(1);
            if sorted.is_multiple_of(SORTED_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn write(&self, mut send: SendStream, mut waiting: mpsc::UnboundedReceiver<Bytes>) {
        if send.set_priority(CONTROL_PRIORITY).is_err() {
            return;
        }
        while let Some(bytes) = waiting.recv().await {
            if bytes == LAST {
                break;
            }
            self.queued.fetch_sub(bytes.len(), Ordering::AcqRel);
            if send.write_chunk(bytes).await.is_err() {
                return;
            }
        }
        // Now the peer has the word.
        if send.finish().is_ok() {
            std::future::pending::<()>().await;
        }
    }

    async fn read(
        &self,
        mut recv: RecvStream,
        events: &mpsc::Sender<LinkEvent>,
        again: &LinkUp,
        refused: &Refused,
    ) {
        let mut buffer = BytesMut::new();
        loop {
            match self.deliver(&mut buffer, events, again).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(peer = %self.peer.short(), %error, "link closed");
                    refused.count(match error {
                        WireError::TooLong { .. } => "frame_too_long",
                        WireError::Body { .. } => "frame_bad",
                    });
                    self.close(CloseCode::Protocol);
                    return;
                }
            }
            // The limit of a frame was checked before its body is waited for, so the buffer
            // holds at most one frame and one chunk.
            match recv.read_chunk(64 * 1024, true).await {
                Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
                Ok(None) if buffer.is_empty() => return self.close(CloseCode::Done),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Hands every whole frame in `buffer` to the driver; false when the driver is gone.
    async fn deliver(
        &self,
        buffer: &mut BytesMut,
        events: &mpsc::Sender<LinkEvent>,
        again: &LinkUp,
    ) -> Result<bool, WireError> {
        while let Some((frame, used)) = decode_frame(buffer)? {
            let _ = buffer.split_to(used);
            self.find(events, again).await;
            let input = Input::Frame {
                link: self.id,
                frame,
            };
            if events.send(LinkEvent::Input(input)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Resolves when the peer was lost and is not heard again.
    async fn silent(&self, events: &mpsc::Sender<LinkEvent>, again: &LinkUp) {
        let mut lost = self.lost.subscribe();
        while lost.wait_for(|lost| *lost).await.is_ok() {
            let (before, end) = (self.received(), clock::deadline(KEPT_IN_SILENCE));
            while *self.lost.borrow() {
                if self.received() > before {
                    self.find(events, again).await;
                } else if clock::instant() >= end {
                    return self.close(CloseCode::Timeout);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// The peer is heard. If it was lost, the driver is told of the link anew, and before anything
    /// that came on it since: the peer may not have missed this node at all.
    async fn find(&self, events: &mpsc::Sender<LinkEvent>, again: &LinkUp) {
        let found = |lost: &mut bool| std::mem::take(lost);
        if self.lost.send_if_modified(found) {
            let up = Input::LinkUp(again.clone());
            // The driver is gone only while the node stops.
            let _ = events.send(LinkEvent::Input(up)).await;
        }
    }

    async fn retired(&self) {
        loop {
            self.idle.notified().await;
            let lost = || *self.lost.borrow();
            let retiring = |_: &Uses| self.retiring.load(Ordering::Acquire) || lost();
            if self.close_if(CloseCode::Duplicate, retiring) {
                return;
            }
        }
    }
}

/// Whether a connection's end says nothing of the node at its other end: what was opened on it
/// and has no answer yet may be opened again.
pub fn ends_only_the_link(error: &ConnectionError) -> bool {
    let ConnectionError::ApplicationClosed(close) = error else {
        return false;
    };
    CloseCode::from_number(close.error_code.into_inner()).is_some_and(CloseCode::ends_only_the_link)
}

/// Why a connection ended, for people.
pub fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = CloseCode::from_number(close.error_code.into_inner());
            code.map_or_else(
                || format!("closed with code {}", close.error_code),
                |code| code.meaning().to_owned(),
            )
        }
        ConnectionError::TimedOut => "nothing came back".to_owned(),
        ConnectionError::LocallyClosed => "closed by this node".to_owned(),
        other => other.to_string(),
    }
}
