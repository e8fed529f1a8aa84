//! The snapshot the rest of the program sees, and the events that follow from its changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Brain, Effect};
use crate::mesh::entry::Class;
use crate::mesh::event::What;
use crate::mesh::id::NodeId;
use crate::mesh::members::Member;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::records::{ServiceRecord, is_node_record};
use crate::mesh::time::Now;
use crate::mesh::view::{NodeView, PathKind, PathView, Provider, View};

impl Brain {
    /// The new view, if it changed since the last call; service events become effects.
    pub fn take_view(&mut self, now: Now) -> Option<Arc<View>> {
        if !std::mem::take(&mut self.view_dirty) {
            return None;
        }
        let version = self.view.version + 1;
        let view = View {
            version,
            me: self.me,
            nodes: self.node_views(now),
            services: self.providers(),
        };
        let (before, after) = (usable(&self.view), usable(&view));
        for (service, id) in after.difference(&before).cloned() {
            self.effects
                .push_back(Effect::Event(What::ServiceUp { service, id }));
        }
        for (service, id) in before.difference(&after).cloned() {
            self.effects
                .push_back(Effect::Event(What::ServiceDown { service, id }));
        }
        self.view = view.clone();
        Some(Arc::new(view))
    }

    /// Whether `id` counts as online, without making a view of all nodes.
    pub fn is_online(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(Member::is_online)
    }

    fn node_views(&self, now: Now) -> BTreeMap<NodeId, NodeView> {
        let own = NodeView {
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
        };
        let others = self
            .members
            .values()
            .filter(|member| member.alive.is_some() || member.last_seen_ms > 0);
        let others = others.filter(|member| !member.has_left());
        let others = others.map(|member| (member.id, self.node_view(now, member)));
        std::iter::once((self.me, own)).chain(others).collect()
    }

    fn node_view(&self, now: Now, member: &Member) -> NodeView {
        let online = member.is_online();
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
                kind: if online {
                    PathKind::Direct
                } else {
                    PathKind::None
                },
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

    fn providers(&self) -> BTreeMap<Bucket, Vec<Provider>> {
        let mut services: BTreeMap<Bucket, Vec<Provider>> = BTreeMap::new();
        let live = self.ledger.entries().filter(|entry| {
            let slot = &entry.slot;
            slot.class == Class::Live && !entry.deleted && !is_node_record(&slot.bucket, &slot.key)
        });
        for entry in live {
            let author = entry.slot.author;
            let Some(record) = ServiceRecord::from_value(&entry.value) else {
                continue;
            };
            let (name, online, draining) = if author == self.me {
                (self.record.name.clone(), true, self.record.draining)
            } else {
                let Some(member) = self.members.get(&author) else {
                    continue;
                };
                let draining = member.record.as_ref().is_some_and(|record| record.draining);
                (self.name_of(member), member.is_online(), draining)
            };
            let providers = services.entry(entry.slot.bucket.clone()).or_default();
            // One provider per author and bucket, whatever keys it uses.
            if providers.iter().all(|provider| provider.id != author) {
                let (ready, target) = (record.ready, record.target);
                providers.push(Provider {
                    id: author,
                    name,
                    online,
                    ready,
                    draining,
                    target,
                });
            }
        }
        for providers in services.values_mut() {
            providers.sort_by_key(|provider| provider.id);
        }
        services
    }
}

fn usable(view: &View) -> BTreeSet<(Bucket, NodeId)> {
    let pairs = view.services.iter().flat_map(|(bucket, providers)| {
        let usable = providers.iter().filter(|provider| provider.usable());
        usable.map(|provider| (bucket.clone(), provider.id))
    });
    pairs.collect()
}
