//! The time before a connection belongs to a node: while no byte of a server has come back, it
//! may still move. It never repeats more than [`REPLAY_BYTES`], and nothing after the first byte.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::ReadError;
use tokio::time::{sleep, timeout};

use super::end::{End, Guarded, ReadFault};
use super::held::Held;
use super::pipe::{Stage, Start};
use super::tunnels::OpenError;
use crate::mesh::stream::{Refusal, Status};
use crate::net::link::ends_only_the_link;

/// Most bytes of a client that are kept to be sent again.
pub(super) const REPLAY_BYTES: usize = 256 * 1024;
/// How long a node may take to say whether its server accepted: its own limit for connecting
/// and some way there and back.
pub(super) const STATUS_LIMIT: Duration = Duration::from_secs(7);

/// Why an attempt at one node came to nothing. No byte of a server had come back.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the connection was reset before an answer")]
    Reset,
    #[error("the link was lost before an answer")]
    Lost,
    #[error("the link was given up before an answer")]
    LetGo,
    #[error("the connection was closed without an answer")]
    Empty,
    #[error("the node did not say in time whether its server accepts")]
    Silent,
}

impl Failure {
    /// What the end of a stream says.
    pub(super) fn of(error: &ReadError) -> Self {
        match error {
            ReadError::Reset(_) => Self::Reset,
            ReadError::ConnectionLost(end) if ends_only_the_link(end) => Self::LetGo,
            _ => Self::Lost,
        }
    }
}

impl From<ReadFault> for Failure {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Reset | ReadFault::GivenUp => Self::Reset,
            ReadFault::Lost => Self::Lost,
            ReadFault::LetGo => Self::LetGo,
        }
    }
}

/// What the client has said so far, behind the header that goes first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    header: usize,
    eof: bool,
}

impl Kept {
    /// Puts the header for the next node in front.
    pub(super) fn behind(&mut self, header: &[u8]) -> &mut Self {
        if self.bytes[..self.header] != *header {
            drop(self.bytes.splice(..self.header, header.iter().copied()));
            self.header = header.len();
        }
        self
    }

    /// The client's own bytes.
    pub(super) fn client(&self) -> &[u8] {
        &self.bytes[self.header..]
    }

    fn room(&self) -> usize {
        REPLAY_BYTES.saturating_sub(self.client().len())
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The connection stays with this node; the directions continue from here.
    Committed { up: Start, down: Start },
    /// It may move.
    Failed(Failure),
    /// The client has reset the connection.
    ClientGone,
}

/// Waits until the server has accepted, before anything of the client is read.
pub(super) async fn connect<F: End>(far: &mut Guarded<F>, header: &[u8], local: bool) -> Attempt {
    if local {
        // Our own server has accepted, or there would be no socket.
        return committed(Start::default(), Held::default());
    }
    let mut header = Held::of(header);
    let mut down = Held::default();
    let waiting = poll_fn(|cx| {
        // Reading tells as well why writing failed.
        let _ = header.poll_write(cx, &mut far.end);
        far.end.poll_hold(cx, &mut down, 1)
    });
    let read = match timeout(STATUS_LIMIT, waiting).await {
        Ok(Ok(_)) => down.take_u8(),
        Ok(Err(fault)) => return Attempt::Failed(fault.into()),
        Err(_) => return Attempt::Failed(Failure::Silent),
    };
    match read.map(Status::from_byte) {
        Some(Status::Connected) => committed(Start::default(), down),
        Some(Status::Refused(refusal)) => Attempt::Failed(refusal.into()),
        None => Attempt::Failed(Failure::Empty),
    }
}

fn committed(up: Start, down: Held) -> Attempt {
    let down = Start {
        moved: down.len() as u64,
        held: down,
        ..Start::default()
    };
    Attempt::Committed { up, down }
}

/// Sends what is kept and what the client goes on saying, until the first byte of the server.
pub(super) async fn replay<N: End, F: End>(
    near: &mut Guarded<N>,
    far: &mut Guarded<F>,
    kept: &mut Kept,
    local: bool,
) -> Attempt {
    let mut run = Run {
        sent: if local { kept.header } else { 0 },
        kept,
        connected: local,
        finished: false,
        refused: false,
        down: Held::default(),
    };
    let mut late = pin!(sleep(STATUS_LIMIT));
    poll_fn(|cx| {
        if let Poll::Ready(attempt) = run.poll(cx, &mut near.end, &mut far.end) {
            return Poll::Ready(attempt);
        }
        if !run.connected && late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Attempt::Failed(Failure::Silent));
        }
        Poll::Pending
    })
    .await
}

struct Run<'a> {
    kept: &'a mut Kept,
    /// How many bytes of `kept` this node has.
    sent: usize,
    /// The node has said that its server accepted.
    connected: bool,
    /// The client's EOF has been passed on.
    finished: bool,
    /// The node takes no more; reading will tell why.
    refused: bool,
    down: Held,
}

impl Run<'_> {
    fn poll<N: End, F: End>(
        &mut self,
        cx: &mut Context<'_>,
        near: &mut N,
        far: &mut F,
    ) -> Poll<Attempt> {
        if self.poll_up(cx, near, far).is_err() {
            return Poll::Ready(Attempt::ClientGone);
        }
        if let Poll::Ready(attempt) = self.poll_down(cx, far) {
            return Poll::Ready(attempt);
        }
        // More than can be repeated: from here on it belongs to this node. Not before its
        // server has accepted, so that a refusal can still move it.
        if self.connected && self.kept.room() == 0 {
            return Poll::Ready(self.commit());
        }
        Poll::Pending
    }

    /// `Err` if the client has reset the connection.
    fn poll_up<N: End, F: End>(
        &mut self,
        cx: &mut Context<'_>,
        near: &mut N,
        far: &mut F,
    ) -> Result<(), ReadFault> {
        loop {
            let unsent = &self.kept.bytes[self.sent..];
            if !unsent.is_empty() && !self.refused {
                match far.poll_write(cx, unsent) {
                    Poll::Ready(Ok(count)) => self.sent += count,
                    Poll::Ready(Err(_)) => self.refused = true,
                    Poll::Pending => return Ok(()),
                }
            } else if self.kept.eof {
                if !self.finished && !self.refused {
                    // A failure shows when reading.
                    let _ = far.poll_finish(cx);
                    self.finished = true;
                }
                return Ok(());
            } else if self.kept.room() == 0 {
                return Ok(());
            } else {
                let mut read = Held::default();
                match near.poll_hold(cx, &mut read, self.kept.room()) {
                    Poll::Ready(Ok(0)) => self.kept.eof = true,
                    Poll::Ready(Ok(_)) => read.append_to(&mut self.kept.bytes),
                    Poll::Ready(Err(fault)) => return Err(fault),
                    Poll::Pending => return Ok(()),
                }
            }
        }
    }

    fn poll_down<F: End>(&mut self, cx: &mut Context<'_>, far: &mut F) -> Poll<Attempt> {
        loop {
            if !self.connected {
                match self.down.take_u8().map(Status::from_byte) {
                    Some(Status::Connected) => self.connected = true,
                    Some(Status::Refused(refusal)) => {
                        return Poll::Ready(Attempt::Failed(refusal.into()));
                    }
                    None => {}
                }
            }
            if self.connected && !self.down.is_empty() {
                return Poll::Ready(self.commit());
            }
            match far.poll_hold(cx, &mut self.down, usize::MAX) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                // A server that says nothing to somebody who said nothing has answered.
                Poll::Ready(Ok(0)) if self.connected && self.kept.client().is_empty() => {
                    return Poll::Ready(self.commit_ended());
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Attempt::Failed(Failure::Empty)),
                Poll::Ready(Err(fault)) => return Poll::Ready(Attempt::Failed(fault.into())),
            }
        }
    }

    fn commit(&mut self) -> Attempt {
        let stage = match (self.refused, self.finished, self.kept.eof) {
            (true, ..) => Stage::Refused,
            (_, true, _) => Stage::Done,
            (.., true) => Stage::Ending,
            _ => Stage::Moving,
        };
        let up = Start {
            held: Held::of(&self.kept.bytes[self.sent..]),
            stage,
            moved: self.kept.client().len() as u64,
        };
        committed(up, std::mem::take(&mut self.down))
    }

    fn commit_ended(&mut self) -> Attempt {
        match self.commit() {
            Attempt::Committed { up, mut down } => {
                down.stage = Stage::Ending;
                Attempt::Committed { up, down }
            }
            other => other,
        }
    }
}
