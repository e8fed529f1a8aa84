//! Repair: neighbours compare the sums of what they hold, and reconcile once more where they differ.

use std::time::Duration;

use super::Brain;
use crate::mesh::members::LinkId;
use crate::mesh::time::Now;
use crate::mesh::wire::Frame;

/// Between two sessions on one link because of differing sums. Doubled until they agree: nodes
/// whose limits made them keep different entries never will ...
pub(super) const REPAIR_PAUSE: Duration = Duration::from_secs(5);
/// ... up to this.
const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(300);

impl Brain {
    /// Tells a neighbour the sum of what this node holds, once it has been at rest; it rides with
    /// a ping, so that it costs no packet.
    pub(super) fn tell_digest(&mut self, now: Now, link: LinkId) {
        let at_rest = now.mono >= self.sessions.at_rest_at();
        let digest = self.digest();
        // Two that were cut off believe in the same members: that they agree proves nothing.
        let knows = self.caught_up && self.unsure.is_empty();
        let Some(state) = self.links.get_mut(&link).filter(|_| at_rest && knows) else {
            return;
        };
        let near = state.wanted || self.overlay.is_neighbour(&state.peer);
        if near && state.digest_told != Some(digest) {
            state.digest_told = Some(digest);
            self.send(link, Frame::Digest(digest));
        }
    }

    pub(super) fn take_digest(&mut self, now: Now, link: LinkId, digest: u64) {
        if let Some(state) = self.links.get_mut(&link) {
            let near = state.wanted || self.overlay.is_neighbour(&state.peer);
            state.digest_heard = near.then_some((digest, now.mono));
        }
        self.repair(now);
    }

    /// Asks for a session with every neighbour that holds something else, once both are at rest:
    /// something was lost. Each has its own pauses, so that one whose sums never agree keeps no
    /// other waiting.
    pub(super) fn repair(&mut self, now: Now) {
        if now.mono < self.sessions.at_rest_at() {
            return;
        }
        let digest = self.digest();
        let mut agreed = false;
        for (id, link) in &mut self.links {
            let Some((theirs, told)) = link.digest_heard else {
                continue;
            };
            agreed |= theirs == digest;
            if theirs == digest {
                link.repair_pause = REPAIR_PAUSE;
            }
            if theirs == digest || told < self.sessions.changed {
                // If what came since is news to the peer as well, it will tell its new sum.
                link.digest_heard = None;
            } else if now.mono >= link.next_repair {
                link.next_repair = now.mono + link.repair_pause;
                link.repair_pause = (link.repair_pause * 2).min(REPAIR_PAUSE_MAX);
                self.sessions.want(*id);
            }
        }
        if agreed {
            self.believe_all();
        }
    }
}
