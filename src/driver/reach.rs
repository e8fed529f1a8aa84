//! A link for whoever needs one now: the one there is, or a dial that all who wait share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::turn::Turn;
use super::{Driver, Reply, Request, lock};
use crate::mesh::brain::{Dialled, Input, Reach};
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;

/// How long a request waits for a dial. A dial may take longer, and serves the next request.
const REACH_LIMIT: Duration = Duration::from_secs(5);
/// Requests that may wait for links.
const MAX_WAITING: usize = 4_096;

/// Why there is no link to a node. Nothing reached it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// Nobody is known by this id.
    #[error("no node is known by this id")]
    Unknown,
    /// It left, does not answer the mesh, or has no address to dial.
    #[error("the node is not online")]
    Offline,
    /// It was dialled, and that failed.
    #[error("no link could be made: {0}")]
    Failed(String),
    /// The dial still waits for an answer.
    #[error("no link came up within {REACH_LIMIT:?}")]
    TimedOut,
    /// 4,096 others wait.
    #[error("too many requests wait for links")]
    Busy,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

type Answer = Result<LinkId, ReachError>;

impl Driver {
    /// The link that work for `node` goes over, if one is up.
    pub fn linked(&self, node: NodeId) -> Option<LinkId> {
        let known = lock(&self.shown).routes.get(&node).copied();
        known.filter(|link| self.net.is_up(*link))
    }

    /// The link that work for `node` goes over; without one the node is dialled, once for all who
    /// ask. The link may end before it is used: then ask again, once. Dropping the future leaves
    /// nothing behind but the dial.
    ///
    /// # Errors
    /// See [`ReachError`].
    pub async fn reach(&self, node: NodeId) -> Result<LinkId, ReachError> {
        if let Some(link) = self.linked(node) {
            return Ok(link);
        }
        let mut waiter = self.waiting.join(node).ok_or(ReachError::Busy)?;
        let answer = async {
            let asked = self.requests.send(Request::Reach { node }).await;
            asked.map_err(|_| ReachError::Stopped)?;
            let answer = (&mut waiter.answer).await;
            answer.unwrap_or(Err(ReachError::Stopped))
        };
        tokio::select! {
            answer = answer => answer,
            () = self.net.stopped() => Err(ReachError::Stopped),
            () = sleep(REACH_LIMIT) => Err(ReachError::TimedOut),
        }
    }
}

impl Turn {
    /// Answers those who wait for `node`, if there is an answer; the brain dials if it must.
    pub(super) fn settle(&mut self, node: NodeId) {
        // Whoever asked may have gone: then nobody needs a dial.
        if !self.waiting.has(node) {
            return;
        }
        let answer = match self.brain.reach(self.clock.now(), node) {
            Reach::Linked(link) if self.net.is_up(link) => Ok(link),
            // A link that has just ended: the brain is about to hear of it.
            Reach::Linked(_) | Reach::Dialling => return,
            Reach::Unknown => Err(ReachError::Unknown),
            Reach::Offline => Err(ReachError::Offline),
            Reach::Failed => Err(ReachError::Failed("a dial failed a moment ago".to_owned())),
        };
        self.waiting.answer(node, &answer);
    }

    /// The same for everybody who waits: links or members have changed.
    pub(super) fn settle_all(&mut self) {
        for node in self.waiting.nodes() {
            self.settle(node);
        }
    }

    /// A dial is over: those who wait hear why, unless the node has dialled this one meanwhile.
    pub(super) fn settle_failed(&mut self, failed: FailedDial) {
        let FailedDial { node, reason } = failed;
        if self.brain.best_link(node).is_some() {
            return self.settle(node);
        }
        self.waiting.answer(node, &Err(ReachError::Failed(reason)));
    }
}

/// A dial of a node that made no link.
pub(super) struct FailedDial {
    node: NodeId,
    reason: String,
}

impl FailedDial {
    /// What `input` says of one, before the brain takes it.
    pub(super) fn of(input: &Input) -> Option<Self> {
        let Input::DialFailed {
            dialled: Dialled::Node(node),
            reason,
            ..
        } = input
        else {
            return None;
        };
        let (node, reason) = (*node, reason.clone());
        Some(Self { node, reason })
    }
}

/// Requests that wait for links, by node and number.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Waiters>>);

#[derive(Default)]
struct Waiters {
    replies: BTreeMap<(NodeId, u64), Reply<Answer>>,
    next: u64,
}

impl Waiting {
    /// One more; `None` if there are too many.
    fn join(&self, node: NodeId) -> Option<Waiter> {
        let mut waiters = self.lock();
        if waiters.replies.len() >= MAX_WAITING {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        let key = (node, waiters.next);
        waiters.next += 1;
        waiters.replies.insert(key, reply);
        let waiting = self.clone();
        Some(Waiter {
            waiting,
            key,
            answer,
        })
    }

    fn has(&self, node: NodeId) -> bool {
        let waiters = self.lock();
        waiters.replies.range(all_of(node)).next().is_some()
    }

    fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.lock().replies.keys().map(|(node, _)| *node).collect();
        nodes.dedup();
        nodes
    }

    fn answer(&self, node: NodeId, answer: &Answer) {
        let replies: Vec<Reply<Answer>> = {
            let mut waiters = self.lock();
            let answered = waiters.replies.extract_if(all_of(node), |_, _| true);
            answered.map(|(_, reply)| reply).collect()
        };
        for reply in replies {
            // Whoever asked may have gone.
            let _ = reply.send(answer.clone());
        }
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all_of(node: NodeId) -> std::ops::RangeInclusive<(NodeId, u64)> {
    (node, 0)..=(node, u64::MAX)
}

/// One request that waits; dropping it takes it out.
struct Waiter {
    waiting: Waiting,
    key: (NodeId, u64),
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiting.lock().replies.remove(&self.key);
    }
}

#[cfg(test)]
mod tests;
