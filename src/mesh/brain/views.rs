//! The snapshot the rest of the program sees, and the events that follow from its changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Brain, Effect};
use crate::mesh::entry::{Class, Entry};
use crate::mesh::event::What;
use crate::mesh::id::NodeId;
use crate::mesh::members::Member;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::records::{ServiceRecord, is_node_record};
use crate::mesh::time::Now;
use crate::mesh::view::{NodeView, PathKind, PathView, Provider, View};

/// What of the view is out of date.
#[derive(Default)]
pub(super) struct Dirty {
    nodes: BTreeSet<NodeId>,
    buckets: BTreeSet<Bucket>,
}

impl Dirty {
    pub(super) fn node(&mut self, id: NodeId) {
        self.nodes.insert(id);
    }

    pub(super) fn bucket(&mut self, bucket: Bucket) {
        self.buckets.insert(bucket);
    }
}

impl Brain {
    /// The new view, if it changed since the last call; service events become effects. The cost
    /// follows the change: what did not change is shared with the view before.
    pub fn take_view(&mut self, now: Now) -> Option<Arc<View>> {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.nodes.is_empty() && dirty.buckets.is_empty() {
            return None;
        }
        self.view.version += 1;
        for id in dirty.nodes {
            match self.shown_node(now, id) {
                Some(node) => self.view.nodes.insert(id, Arc::new(node)),
                None => self.view.nodes.remove(&id),
            };
        }
        for bucket in dirty.buckets {
            let after = self.providers(&bucket);
            let before = self.view.services.get(&bucket);
            let before: BTreeSet<NodeId> = usable(before.map_or(&[], |all| all));
            let now_usable = usable(&after);
            for id in now_usable.difference(&before).copied() {
                let service = bucket.clone();
                let up = What::ServiceUp { service, id };
                self.effects.push_back(Effect::Event(up));
            }
            for id in before.difference(&now_usable).copied() {
                let service = bucket.clone();
                let down = What::ServiceDown { service, id };
                self.effects.push_back(Effect::Event(down));
            }
            match after.is_empty() {
                true => self.view.services.remove(&bucket),
                false => self.view.services.insert(bucket, Arc::new(after)),
            };
        }
        Some(Arc::new(self.view.clone()))
    }

    /// Something about a node changed that every service of it shows.
    pub(super) fn touch_services_of(&mut self, id: NodeId) {
        for bucket in self.ledger.live_buckets_of(id) {
            self.dirty.bucket(bucket.clone());
        }
    }

    /// What is shown of a node; `None` for one that left or was never met.
    fn shown_node(&self, now: Now, id: NodeId) -> Option<NodeView> {
        if id == self.me {
            return Some(self.own_view(now));
        }
        let member = self.members.get(&id)?;
        let met = member.alive.is_some() || member.last_seen_ms > 0;
        (met && !member.has_left()).then(|| self.node_view(now, member))
    }

    fn own_view(&self, now: Now) -> NodeView {
        NodeView {
            id: self.me,
            name: self.record.name.clone(),
            is_self: true,
            online: true,
            stale: false,
            draining: self.record.draining,
            last_seen_ms: now.unix_ms,
            version: self.record.version.clone(),
            addresses: self.record.addresses.clone(),
            path: PathView {
                kind: PathKind::Own,
                rtt_ms: Some(0.0),
                via: None,
            },
        }
    }

    fn node_view(&self, now: Now, member: &Member) -> NodeView {
        let online = self.is_online(&member.id);
        let link = self
            .best_link(member.id)
            .and_then(|link| self.links.get(&link));
        let rtt = link.and_then(|link| link.rtt);
        let mut addresses = member.addresses.clone();
        if let Some(record) = &member.record {
            // The rest is from before its last start, or from where it was seen.
            addresses.sort_by_key(|address| !record.addresses.contains(address));
        }
        NodeView {
            id: member.id,
            name: self.name_of(member),
            is_self: false,
            online,
            stale: !online,
            draining: member.record.as_ref().is_some_and(|record| record.draining),
            last_seen_ms: if online {
                now.unix_ms
            } else {
                member.last_seen_ms
            },
            version: member
                .record
                .as_ref()
                .map(|r| r.version.clone())
                .unwrap_or_default(),
            addresses,
            path: PathView {
                kind: link.map_or(PathKind::None, |_| PathKind::Direct),
                rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
                via: None,
            },
        }
    }

    /// A node that has not said its name yet is shown by its short id.
    fn name_of(&self, member: &Member) -> Name {
        let short = || {
            member
                .id
                .short()
                .parse()
                .unwrap_or_else(|_| self.record.name.clone())
        };
        member.name.clone().unwrap_or_else(short)
    }

    /// Who serves `bucket`, by id; one provider per author, whatever keys it uses.
    fn providers(&self, bucket: &Bucket) -> Vec<Provider> {
        let live = self.ledger.bucket(bucket).filter(|entry| {
            let slot = &entry.slot;
            slot.class == Class::Live && !entry.deleted && !is_node_record(&slot.bucket, &slot.key)
        });
        let mut providers: Vec<Provider> = live.filter_map(|entry| self.provider(entry)).collect();
        providers.sort_by_key(|provider| provider.id);
        providers.dedup_by_key(|provider| provider.id);
        providers
    }

    fn provider(&self, entry: &Entry) -> Option<Provider> {
        let author = entry.slot.author;
        let record = ServiceRecord::from_value(&entry.value)?;
        let (name, online, draining) = if author == self.me {
            (self.record.name.clone(), true, self.record.draining)
        } else {
            let member = self.members.get(&author)?;
            let draining = member.record.as_ref().is_some_and(|record| record.draining);
            (self.name_of(member), self.is_online(&author), draining)
        };
        Some(Provider {
            id: author,
            name,
            online,
            ready: record.ready,
            draining,
            target: record.target,
            protocol: record.protocol,
            wants_client: record.wants_client,
        })
    }
}

fn usable(providers: &[Provider]) -> BTreeSet<NodeId> {
    let usable = providers.iter().filter(|provider| provider.usable());
    usable.map(|provider| provider.id).collect()
}
