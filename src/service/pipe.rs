//! Copies one connection, both directions in one task, and keeps what TCP means.
//!
//! Each half closes alone. A reset on one side is a reset on the other. Back-pressure is the
//! other side's flow control: at most one read's worth of bytes waits in each direction.
//! It never reconnects, never looks at the bytes, and never ends a direction on its own.
//!
//! Near is the side of the client, far the side of the server: on the ingress near is the
//! client's socket, on the egress it is the QUIC stream.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::end::{End, Guarded, MoveFault, ReadFault, WriteFault};
use super::held::Held;
use crate::mesh::stream::Cut;

/// How long a reset by the server is held back after it has sent bytes. A reset overtakes data
/// and destroys it on the way (RESET_STREAM and RST both), but an early answer followed by a
/// reset is what many HTTP servers do with a request they do not want to read.
pub const RESET_GRACE: Duration = Duration::from_millis(100);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Both halves were closed.
    Closed,
    /// One half was refused by its receiver, the other was closed.
    HalfRefused,
    /// The client's side reset it.
    NearReset,
    /// The server's side reset it.
    FarReset,
    /// The link in between was lost.
    LinkLost,
    /// One side left so much unread for so long that it was given up.
    GivenUp,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes from the server.
    pub bytes_down: u64,
    /// How it ended.
    pub ended: Ended,
}

/// A connection being copied. Dropped before [`run`](Self::run) has returned, it resets both
/// ends.
#[derive(Debug)]
pub struct Pipe<N: End, F: End> {
    near: Guarded<N>,
    far: Guarded<F>,
    up: Direction,
    down: Direction,
}

/// Where a direction begins: where whoever used the ends before has left it.
#[derive(Debug, Default)]
pub struct Start {
    /// Bytes read already and not yet written.
    pub held: Held,
    /// How far it has come.
    pub stage: Stage,
    /// Bytes read already, those held included.
    pub moved: u64,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Bytes are moving.
    #[default]
    Moving,
    /// The reading side has ended; what is held goes out, then FIN.
    Ending,
    /// FIN went out.
    Done,
    /// The writing side takes no more.
    Refused,
}

impl<N: End, F: End> Pipe<N, F> {
    /// Joins two ends.
    pub fn new(near: Guarded<N>, far: Guarded<F>) -> Self {
        Self {
            near,
            far,
            up: Direction::default(),
            down: Direction::default(),
        }
    }

    /// Continues upwards from where someone else stopped.
    #[must_use]
    pub fn up_from(mut self, start: Start) -> Self {
        self.up = Direction::from(start);
        self
    }

    /// Continues downwards from where someone else stopped.
    #[must_use]
    pub fn down_from(mut self, start: Start) -> Self {
        self.down = Direction::from(start);
        self
    }

    /// Copies until both directions are over. Dropping the future resets both ends.
    // What is small is kept small: of ten thousand connections most are idle. An `async fn` has
    // room for its arguments twice; how it ends is on the heap, where that takes a while.
    pub fn run(self) -> impl Future<Output = Summary> + Send {
        let mut pipe = self;
        async move {
            let ended = poll_fn(|cx| pipe.poll(cx)).await;
            match ended {
                Ended::Closed => {}
                Ended::HalfRefused => Box::pin(pipe.hang_up()).await,
                Ended::FarReset => {
                    if pipe.down.moved > 0 {
                        Box::pin(tokio::time::sleep(RESET_GRACE)).await;
                    }
                    pipe.cut();
                }
                Ended::NearReset | Ended::LinkLost | Ended::GivenUp => pipe.cut(),
            }
            pipe.near.disarm();
            pipe.far.disarm();
            Summary {
                bytes_up: pipe.up.moved,
                bytes_down: pipe.down.moved,
                ended,
            }
        }
    }

    async fn hang_up(&mut self) {
        self.near.end.hang_up().await;
        self.far.end.hang_up().await;
    }

    fn cut(&mut self) {
        self.near.end.cut(Cut::TcpReset);
        self.far.end.cut(Cut::TcpReset);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let (near, far) = (&mut self.near.end, &mut self.far.end);
        if let Poll::Ready(Err(fault)) = self.up.poll(cx, near, far) {
            return Poll::Ready(fault.ended(Ended::NearReset));
        }
        // A side that reset while it was written to has no orderly end: what is still readable
        // from it is delivered, then its EOF counts as the reset it was.
        self.down.eof_is_reset |= self.up.saw_reset;
        if let Poll::Ready(Err(fault)) = self.down.poll(cx, far, near) {
            return Poll::Ready(fault.ended(Ended::FarReset));
        }
        self.up.eof_is_reset |= self.down.saw_reset;
        match (self.up.stage, self.down.stage) {
            (Stage::Done, Stage::Done) => Poll::Ready(Ended::Closed),
            (Stage::Moving | Stage::Ending, _) | (_, Stage::Moving | Stage::Ending) => {
                Poll::Pending
            }
            (Stage::Refused, _) | (_, Stage::Refused) => Poll::Ready(Ended::HalfRefused),
        }
    }
}

enum Fault {
    /// The side that is read has reset the connection.
    From,
    Link,
    /// The other side does not take what comes from it.
    GivenUp,
}

impl Fault {
    /// The end of a connection whose read side has `reset` it, or not.
    fn ended(self, reset: Ended) -> Ended {
        match self {
            Self::From => reset,
            Self::Link => Ended::LinkLost,
            Self::GivenUp => Ended::GivenUp,
        }
    }
}

#[derive(Debug, Default)]
struct Direction {
    held: Held,
    stage: Stage,
    moved: u64,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The writing side was found reset.
    saw_reset: bool,
    /// The reading side is known to be reset.
    eof_is_reset: bool,
}

impl From<Start> for Direction {
    fn from(start: Start) -> Self {
        Self {
            unflushed: !start.held.is_empty(),
            held: start.held,
            stage: start.stage,
            moved: start.moved,
            ..Self::default()
        }
    }
}

impl Direction {
    /// Moves what can be moved. `Ready(Ok)` once this direction is over.
    fn poll<A: End, B: End>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
    ) -> Poll<Result<(), Fault>> {
        loop {
            match self.stage {
                Stage::Done | Stage::Refused => return Poll::Ready(Ok(())),
                Stage::Moving | Stage::Ending => {}
            }
            match self.step(cx, from, to) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(MoveFault::Read(ReadFault::Reset))) => {
                    return Poll::Ready(Err(Fault::From));
                }
                Poll::Ready(Err(
                    MoveFault::Read(ReadFault::Lost | ReadFault::LetGo)
                    | MoveFault::Write(WriteFault::Lost),
                )) => return Poll::Ready(Err(Fault::Link)),
                Poll::Ready(Err(MoveFault::Read(ReadFault::GivenUp))) => {
                    return Poll::Ready(Err(Fault::GivenUp));
                }
                Poll::Ready(Err(MoveFault::Write(refused))) => {
                    self.saw_reset = refused == WriteFault::Reset;
                    self.stage = Stage::Refused;
                    self.held = Held::default();
                    from.unwanted();
                }
            }
        }
    }

    fn step<A: End, B: End>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
    ) -> Poll<Result<(), MoveFault>> {
        if !self.held.is_empty() {
            let wrote = self.held.poll_write(cx, to).map_err(MoveFault::Write);
            return match wrote.is_pending() && !from.may_wait(cx) {
                true => Poll::Ready(Err(MoveFault::Read(ReadFault::GivenUp))),
                false => wrote,
            };
        }
        if self.stage == Stage::Ending {
            return to.poll_finish(cx).map(|finished| {
                self.stage = Stage::Done;
                finished.map_err(MoveFault::Write)
            });
        }
        match from.poll_move(cx, to, &mut self.held) {
            Poll::Ready(Ok(0)) if self.eof_is_reset => {
                Poll::Ready(Err(MoveFault::Read(ReadFault::Reset)))
            }
            Poll::Ready(Ok(0)) => {
                self.stage = Stage::Ending;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(count)) => {
                self.moved = self.moved.saturating_add(count as u64);
                self.unflushed = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
            Poll::Pending if self.unflushed => {
                // Idle: nothing may stay in a layer below (TLS) until the next bytes come.
                if let Poll::Ready(flushed) = to.poll_flush(cx) {
                    self.unflushed = false;
                    if let Err(fault) = flushed {
                        return Poll::Ready(Err(MoveFault::Write(fault)));
                    }
                }
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
