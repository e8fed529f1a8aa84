//! A link to a node on demand: the one there is, or a dial.

use std::time::Duration;

use super::Brain;
use crate::mesh::alive::LifeState;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::time::Now;

/// A node whose last dial failed less than this ago is not dialled for work: each request would
/// wait for one more failure.
const FAILED_LASTS: Duration = Duration::from_secs(1);
/// Dials under way at once, beyond which none is made on demand.
const MAX_DIALS_ON_DEMAND: usize = 256;

/// How work for a node gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Over this link.
    Linked(LinkId),
    /// A dial is under way: it ends in a link or in [`Input::DialFailed`](super::Input).
    Dialling,
    /// Nobody is known by this id.
    Unknown,
    /// It left, nobody hears it, or it has no address to dial.
    Offline,
    /// A dial of it failed a moment ago, or too many dials are under way.
    Failed,
}

impl Brain {
    /// The link that work for `node` goes over. Without one the node is dialled, whatever the
    /// pauses between dials that nobody waits for.
    pub fn reach(&mut self, now: Now, node: NodeId) -> Reach {
        if let Some(link) = self.best_link(node) {
            return Reach::Linked(link);
        }
        let Some(member) = self.members.get(&node) else {
            return Reach::Unknown;
        };
        if member.backoff.failed_within(FAILED_LASTS, now.mono) {
            return Reach::Failed;
        }
        let leaving = self.alive.state == LifeState::Leave;
        if leaving || !self.is_online(&node) || !member.is_dialable() {
            return Reach::Offline;
        }
        if !member.backoff.dialling {
            if self.dialling.len() >= MAX_DIALS_ON_DEMAND {
                return Reach::Failed;
            }
            self.dial_member(node);
        }
        Reach::Dialling
    }
}
