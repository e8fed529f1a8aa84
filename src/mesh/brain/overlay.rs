//! Which links this node keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, RngExt};

use super::{Brain, Effect};
use crate::mesh::alive::LifeState;
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::rings::{RINGS, Rings, Way};
use crate::mesh::time::Now;
use crate::mesh::wire::Frame;

/// Up to this many other members, everybody is everybody's neighbour.
pub(super) const FULL_MESH: usize = 7;
/// A neighbour without link for this long is hard to reach: whoever is next on its ring is taken
/// as well.
const LATE: Duration = Duration::from_secs(1);
/// A neighbour that cannot be dialled has this long to dial: then it is held against it.
const UNSEEN: Duration = Duration::from_secs(5);
/// Members tried beyond the nearest one, in each direction on each ring.
const FURTHER: usize = 4;
/// The random neighbour changes about this often: of two overlays that came to be without a link
/// between them some node finds the other half within moments.
const DRAW_EVERY: Duration = Duration::from_secs(120);
/// Peers beyond this node's own neighbours that get news because they count this node among
/// theirs. An honest node is counted by few who are not its neighbours, too.
const MAX_ADOPTED: usize = 8;
/// Between two questions whether a link that is nobody's neighbour's is still used.
const TRIM_EVERY: Duration = Duration::from_secs(10);

/// A neighbour.
struct Near {
    /// Since when it has had no link; `None` while it has one.
    missing: Option<Duration>,
    late: bool,
    unseen: bool,
}

/// The neighbours, and what they follow from.
pub(super) struct Overlay {
    rings: Rings,
    /// Of the members on the rings those with which this node once had a link. A member can make
    /// up thousands of others, but not that they were met.
    met: Rings,
    neighbours: BTreeMap<NodeId, Near>,
    /// Those of them without link, or with one that will not do for much longer.
    missing: BTreeSet<NodeId>,
    random: Option<NodeId>,
    /// A member that was lost until this node reached it, and has not refuted that yet.
    found: Option<NodeId>,
    next_draw: Duration,
    /// Members that could be dialled and are not known to be there.
    absent: BTreeSet<NodeId>,
    next_trim: Option<Duration>,
    dirty: bool,
}

impl Overlay {
    pub(super) fn new(rings: Rings) -> Self {
        Self {
            met: rings.clone(),
            rings,
            neighbours: BTreeMap::new(),
            missing: BTreeSet::new(),
            random: None,
            found: None,
            next_draw: Duration::ZERO,
            absent: BTreeSet::new(),
            next_trim: None,
            dirty: false,
        }
    }

    pub(super) fn is_neighbour(&self, id: &NodeId) -> bool {
        self.neighbours.contains_key(id)
    }

    /// Members that stand, without this node.
    pub(super) fn standing(&self) -> usize {
        self.rings.len()
    }

    pub(super) fn absent(&self) -> impl Iterator<Item = &NodeId> {
        self.absent.iter()
    }

    /// Neighbours that want a link, or a newer one.
    pub(super) fn missing(&self) -> impl Iterator<Item = &NodeId> {
        self.missing.iter()
    }

    pub(super) fn linked(&mut self, id: &NodeId) {
        if let Some(near) = self.neighbours.get_mut(id) {
            self.dirty |= near.late;
            (near.missing, near.late, near.unseen) = (None, false, false);
            self.missing.remove(id);
        }
    }

    /// A dial reached a member that was lost. Once it stands again it is the random neighbour: it
    /// may be the only way to a whole half of the network, and what either half says goes over it
    /// until the rings have closed.
    pub(super) fn found(&mut self, id: NodeId) {
        self.found = Some(id);
    }

    pub(super) fn unlinked(&mut self, now: Duration, id: &NodeId) {
        if let Some(near) = self.neighbours.get_mut(id) {
            near.missing = Some(now);
            self.missing.insert(*id);
        }
    }

    fn add(&mut self, id: NodeId, missing: Option<Duration>) {
        let near = Near {
            missing,
            late: false,
            unseen: false,
        };
        self.neighbours.insert(id, near);
        if missing.is_some() {
            self.missing.insert(id);
        }
    }

    fn remove(&mut self, id: &NodeId) {
        self.neighbours.remove(id);
        self.missing.remove(id);
    }

    /// A dial of it failed: whoever is next is needed.
    pub(super) fn unreachable(&mut self, id: &NodeId) {
        if let Some(near) = self.neighbours.get_mut(id) {
            self.dirty |= !std::mem::replace(&mut near.late, true);
        }
    }

    /// Whom the rings name, nearest first on each, and further while one is hard to reach; if all
    /// are, who was met before: they may be made up, every one.
    fn wanted(&self, me: NodeId) -> BTreeSet<NodeId> {
        if self.rings.len() <= FULL_MESH {
            return self.rings.members().collect();
        }
        let mut wanted: BTreeSet<NodeId> = self.random.into_iter().collect();
        let late = |id: &NodeId| self.neighbours.get(id).is_some_and(|near| near.late);
        for ring in 0..RINGS {
            for way in [Way::Next, Way::Previous] {
                let near = self.rings.walk(ring, way, me).take(1 + FURTHER);
                let met = self.met.walk(ring, way, me).take(1 + FURTHER);
                for id in near.chain(met) {
                    wanted.insert(id);
                    if !late(&id) {
                        break;
                    }
                }
            }
        }
        wanted
    }
}

impl Brain {
    /// Puts a member where it belongs after anything about it changed: on the rings, or among
    /// those that are missed.
    pub(super) fn place(&mut self, id: NodeId) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let (stands, dialable) = (member.stands(), member.is_dialable());
        let overlay = &mut self.overlay;
        overlay.dirty |= match stands {
            true => overlay.rings.insert(id),
            false => overlay.rings.remove(id),
        };
        overlay.dirty |= match stands && member.last_seen_ms > 0 {
            true => overlay.met.insert(id),
            false => overlay.met.remove(id),
        };
        match !stands && dialable && member.links.is_empty() {
            true => overlay.absent.insert(id),
            false => overlay.absent.remove(&id),
        };
        if stands && overlay.found.take_if(|found| *found == id).is_some() {
            overlay.dirty |= overlay.random.replace(id) != Some(id);
        }
        if !stands && overlay.random == Some(id) {
            (overlay.random, overlay.next_draw) = (None, Duration::ZERO);
        }
    }

    /// Brings the neighbours in line with the rings, and tells those concerned.
    pub(super) fn update_neighbours(&mut self, now: Now) {
        if !std::mem::take(&mut self.overlay.dirty) || self.alive.state == LifeState::Leave {
            return;
        }
        let wanted = self.overlay.wanted(self.me);
        let gone = self.overlay.neighbours.keys();
        let gone: Vec<NodeId> = gone.filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            self.overlay.remove(&id);
            if let Some(link) = self.best_link(id) {
                self.send(link, Frame::Neighbour(false));
                self.consider_trimming(now, link);
            }
        }
        for id in wanted {
            if !self.overlay.is_neighbour(&id) {
                self.add_neighbour(now, id);
            }
        }
    }

    fn add_neighbour(&mut self, now: Now, id: NodeId) {
        let link = self.best_link(id);
        let missing = link.is_none().then_some(now.mono);
        self.overlay.add(id, missing);
        if let Some(link) = link {
            self.send(link, Frame::Neighbour(true));
            self.consider_trimming(now, link);
            self.reconcile(link);
        } else if let Some(member) = self.members.get_mut(&id) {
            member.be_courteous(self.me, now.mono);
        }
    }

    /// Opens a reconciliation on a link of this node's own dialling; the peer opens the others.
    fn reconcile(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(|link| link.dialled_by_me) {
            self.sessions.want(link);
        }
    }

    /// The peer says whether it counts this node among its neighbours.
    pub(super) fn take_neighbour(&mut self, now: Now, link: LinkId, wanted: bool) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let peer = state.peer;
        let before = std::mem::replace(&mut state.wanted, wanted);
        if wanted && !before && !self.overlay.is_neighbour(&peer) {
            self.reconcile(link);
        }
        self.consider_trimming(now, link);
    }

    /// The links that news goes over: one for each neighbour, and for those few others that
    /// count this node among theirs.
    pub(super) fn news_links(&self) -> Vec<(LinkId, NodeId)> {
        let near = self.overlay.neighbours.keys();
        let mut links: Vec<(LinkId, NodeId)> = near
            .filter_map(|id| Some((self.best_link(*id)?, *id)))
            .collect();
        let others = self
            .links
            .iter()
            .filter(|(_, link)| link.wanted && !self.overlay.is_neighbour(&link.peer));
        links.extend(others.map(|(id, link)| (*id, link.peer)).take(MAX_ADOPTED));
        links
    }

    /// Looks for neighbours whose link is about to be of no use: too old, or retired.
    pub(super) fn check_renewals(&mut self, now: Now) {
        let near = self.overlay.neighbours.keys();
        let old = near.filter(|id| {
            let links = self.members.get(id).map_or(&[][..], |member| &member.links);
            let links = links.iter().filter_map(|link| self.links.get(link));
            let renew = links.map(|link| link.renew_at(&self.timing));
            renew
                .reduce(|a, b| Some(a?.max(b?)))
                .flatten()
                .is_some_and(|at| at <= now.mono)
        });
        let old: Vec<NodeId> = old.copied().collect();
        self.overlay.missing.extend(old);
    }

    /// Draws another random neighbour now and then.
    pub(super) fn draw(&mut self, now: Now, rng: &mut impl Rng) {
        let count = self.overlay.rings.len();
        if count <= FULL_MESH || now.mono < self.overlay.next_draw {
            return;
        }
        self.overlay.next_draw = now.mono + DRAW_EVERY.mul_f64(rng.random_range(0.75..1.25));
        let drawn = self.overlay.rings.members().nth(rng.random_range(0..count));
        self.overlay.random = drawn;
        self.overlay.dirty = true;
    }

    /// Whether nobody counts on this link for anything but tunnels.
    fn is_spare(&self, link: LinkId) -> bool {
        self.links
            .get(&link)
            .is_some_and(|link| !link.wanted && !self.overlay.is_neighbour(&link.peer))
    }

    pub(super) fn consider_trimming(&mut self, now: Now, link: LinkId) {
        let spare = self.is_spare(link);
        if let Some(state) = self.links.get_mut(&link) {
            state.trim_at = match (spare, state.trim_at) {
                (false, _) => None,
                (true, None) => Some(now.mono + TRIM_EVERY),
                (true, at) => at,
            };
            self.overlay.next_trim = [self.overlay.next_trim, state.trim_at]
                .into_iter()
                .flatten()
                .min();
        }
    }

    /// Notes which neighbours are late, and speaks against those that only they themselves could
    /// have linked: no failed dial would ever tell that they are gone.
    pub(super) fn check_missing(&mut self, now: Now) {
        let overlay = &mut self.overlay;
        let mut unseen = Vec::new();
        for (id, near) in &mut overlay.neighbours {
            let missing = |long| near.missing.is_some_and(|since| now.mono >= since + long);
            let (late, is_unseen) = (missing(LATE), missing(UNSEEN));
            overlay.dirty |= late && !near.late;
            near.late |= late;
            if is_unseen && !std::mem::replace(&mut near.unseen, true) {
                unseen.push(*id);
            }
        }
        let members = &self.members;
        unseen.retain(|id| members.get(id).is_some_and(|member| !member.is_dialable()));
        for id in unseen {
            self.hold_against(now, id);
        }
    }

    /// Asks the driver whether spare links are still used.
    pub(super) fn trim(&mut self, now: Now) {
        if self.overlay.next_trim.is_none_or(|at| now.mono < at) {
            return;
        }
        let due = self
            .links
            .iter()
            .filter(|(_, link)| link.trim_at.is_some_and(|at| now.mono >= at));
        let due: Vec<LinkId> = due.map(|(id, _)| *id).collect();
        for link in due {
            if let Some(state) = self.links.get_mut(&link) {
                state.trim_at = Some(now.mono + TRIM_EVERY);
            }
            self.effects.push_back(Effect::Trim { link });
        }
        self.overlay.next_trim = self.links.values().filter_map(|link| link.trim_at).min();
    }

    pub(super) fn next_overlay_check(&self) -> Option<Duration> {
        let overlay = &self.overlay;
        let late = overlay.neighbours.values().filter_map(|near| {
            let wait = match (near.late, near.unseen) {
                (false, _) => LATE,
                (true, false) => UNSEEN,
                (true, true) => return None,
            };
            near.missing.map(|since| since + wait)
        });
        let draw = (overlay.rings.len() > FULL_MESH).then_some(overlay.next_draw);
        late.chain(draw).chain(overlay.next_trim).min()
    }
}
