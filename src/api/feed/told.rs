//! What one watcher has been told of the mesh, so that it hears of a thing again only when that
//! has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::shapes::{NodeShape, Nodes, ServiceShape, Services, State, Usage};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;
use crate::mesh::view::{NodeView, View};

/// A round trip is news when it differs from the one last told by more than this part of it…
const RTT_PART: f64 = 0.25;
/// …and by more than this many milliseconds: what is below is noise.
const RTT_MS: f64 = 1.0;

/// Nodes as they were last told.
pub(super) struct NodesTold(BTreeMap<NodeId, Arc<NodeView>>);

impl NodesTold {
    /// Begins with every node of `view`.
    pub(super) fn begin(view: &View, now_ms: u64) -> (Self, State) {
        let all = State::Nodes(Nodes::of(view, now_ms));
        (Self(view.nodes.clone()), all)
    }

    /// What has changed since.
    pub(super) fn catch_up(&mut self, view: &View, now_ms: u64) -> Vec<State> {
        let is_listed = |id: &NodeId| view.nodes.contains_key(id);
        let removed = self.0.extract_if(.., |id, _| !is_listed(id));
        let mut changes: Vec<_> = removed.map(|(id, _)| State::NodeRemoved { id }).collect();
        for (id, node) in &view.nodes {
            // What did not change is shared between views: most nodes cost one comparison.
            let same = |told: &Arc<NodeView>| Arc::ptr_eq(told, node) || !is_news(told, node);
            if self.0.get(id).is_some_and(same) {
                continue;
            }
            self.0.insert(*id, node.clone());
            let node = NodeShape::of(node, now_ms);
            changes.push(State::Node { node });
        }
        changes
    }
}

/// Whether more differs than what always does: the moment an online node was last heard, and the
/// noise of its round trip.
fn is_news(told: &NodeView, now: &NodeView) -> bool {
    let mut like_told = now.clone();
    if told.online && now.online {
        like_told.last_seen_ms = told.last_seen_ms;
    }
    if !rtt_is_news(told.path.rtt_ms, now.path.rtt_ms) {
        like_told.path.rtt_ms = told.path.rtt_ms;
    }
    like_told != *told
}

fn rtt_is_news(told: Option<f64>, now: Option<f64>) -> bool {
    match (told, now) {
        (Some(told), Some(now)) => (told - now).abs() > (told * RTT_PART).max(RTT_MS),
        (told, now) => told.is_some() != now.is_some(),
    }
}

/// Services as they were last told, with the requests that this node counted.
pub(super) struct ServicesTold {
    view: Arc<View>,
    usage: Vec<Usage>,
    shapes: BTreeMap<Bucket, ServiceShape>,
}

impl ServicesTold {
    /// Begins with every service of `view`.
    pub(super) fn begin(view: Arc<View>, usage: Vec<Usage>) -> (Self, State) {
        let all = Services::of(&view, &usage);
        let shapes = by_name(all.services.clone());
        let told = Self {
            view,
            usage,
            shapes,
        };
        (told, State::Services(all))
    }

    /// What has changed since.
    pub(super) fn catch_up(&mut self, view: &Arc<View>, usage: Vec<Usage>) -> Vec<State> {
        let is_same_view = Arc::ptr_eq(&self.view, view) || self.view.services == view.services;
        self.view = Arc::clone(view);
        if is_same_view && self.usage == usage {
            return Vec::new();
        }
        self.usage = usage;
        let shapes = by_name(Services::of(view, &self.usage).services);
        let removed = self.shapes.keys().filter(|name| !shapes.contains_key(name));
        let removed = removed.map(|service| ServiceShape {
            service: service.clone(),
            nodes: Vec::new(),
        });
        let changed = shapes.iter().filter_map(|(name, shape)| {
            let is_news = self.shapes.get(name) != Some(shape);
            is_news.then(|| shape.clone())
        });
        let changes = removed.chain(changed).map(State::Service).collect();
        self.shapes = shapes;
        changes
    }
}

fn by_name(services: Vec<ServiceShape>) -> BTreeMap<Bucket, ServiceShape> {
    let pairs = services
        .into_iter()
        .map(|shape| (shape.service.clone(), shape));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;
    use crate::mesh::view::{PathKind, PathView, Provider};

    fn id(n: u8) -> NodeId {
        Identity::from_seed(&[n; 32]).id()
    }

    fn node(n: u8) -> NodeView {
        NodeView {
            id: id(n),
            name: format!("n{n}").parse().unwrap(),
            is_self: n == 1,
            online: true,
            stale: false,
            draining: false,
            last_seen_ms: 1,
            version: String::new(),
            addresses: Vec::new(),
            path: PathView {
                kind: PathKind::Direct,
                rtt_ms: Some(10.0),
                via: None,
            },
        }
    }

    fn view(nodes: &[NodeView]) -> View {
        let mut view = View::new(id(1));
        view.nodes = nodes
            .iter()
            .map(|node| (node.id, Arc::new(node.clone())))
            .collect();
        view
    }

    #[test]
    fn a_node_is_told_again_only_when_it_has_changed() {
        let (mut told, State::Nodes(all)) = NodesTold::begin(&view(&[node(1), node(2)]), 9) else {
            panic!("the list comes first")
        };
        assert_eq!(all.nodes.len(), 2);
        let mut heard = node(2);
        heard.last_seen_ms = 2;
        heard.path.rtt_ms = Some(12.0);
        assert_eq!(told.catch_up(&view(&[node(1), heard]), 9), []);

        // Measured against what was told, not against the last view: a slow drift is seen, too.
        let mut slower = node(2);
        slower.path.rtt_ms = Some(13.0);
        let changes = told.catch_up(&view(&[node(1), slower]), 9);
        let [State::Node { node: seen }] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!((seen.id, seen.path.rtt_ms), (id(2), Some(13.0)));

        let changes = told.catch_up(&view(&[node(1), node(3)]), 9);
        let kinds: Vec<_> = changes.iter().map(State::kind).collect();
        assert_eq!(kinds, ["node_removed", "node"]);
    }

    #[test]
    fn the_last_moment_of_a_node_that_is_gone_is_news() {
        let mut gone = node(2);
        gone.online = false;
        let (mut told, _) = NodesTold::begin(&view(&[gone.clone()]), 9);
        gone.last_seen_ms = 5;
        assert_eq!(told.catch_up(&view(&[gone]), 9).len(), 1);
    }

    #[test]
    fn a_service_is_told_again_when_a_node_or_a_count_has_changed() {
        let provider = Provider {
            id: id(2),
            name: "n2".parse().unwrap(),
            online: true,
            ready: true,
            draining: false,
            target: "h:1".into(),
            protocol: crate::mesh::records::Protocol::Tcp,
            wants_client: false,
        };
        let chat: Bucket = "chat".parse().unwrap();
        let mut served = view(&[node(1)]);
        served.services.insert(chat.clone(), vec![provider].into());
        let (served, empty) = (Arc::new(served), Arc::new(view(&[node(1)])));
        let (mut told, _) = ServicesTold::begin(Arc::clone(&empty), Vec::new());

        let service = |changes: Vec<State>| match changes.as_slice() {
            [State::Service(shape)] => shape.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(service(told.catch_up(&served, Vec::new())).nodes.len(), 1);
        assert_eq!(told.catch_up(&served, Vec::new()), []);
        let usage = Usage {
            service: chat,
            node: id(2),
            in_flight: 1,
            served: 7,
        };
        let counted = service(told.catch_up(&served, vec![usage.clone()]));
        assert_eq!(
            (counted.nodes[0].in_flight, counted.nodes[0].served),
            (1, 7)
        );
        assert!(service(told.catch_up(&empty, vec![usage])).nodes.is_empty());
    }
}
