//! Looking at a network without being one of its members (amendment D28).
//!
//! An explorer holds the token of each network it lists, and could join it. It does less: it dials
//! a node, says in its Hello that it only looks on ([`OBSERVES`](crate::mesh::hello::OBSERVES)),
//! and sends nothing more. The node shows it once who is online and which workers there are, and
//! ends. So an observer is in nobody's list and on nobody's ring; nobody dials it, probes it, or
//! passes on a word of it; there is nothing it could write; and what it signs says that it left.
//!
//! ```text
//! observer                         node
//!   Hello{OBSERVES}  ──▶
//!                    ◀──   Hello
//!                    ◀──   ALIVE, ENTRIES …, SYNC_DONE{session: 0, fresh}   and the end of the stream
//! ```
//!
//! The answer is stable when the node says so: it waits until it has caught up itself, 5 s at
//! most, and `fresh` is false if it has not. What it shows is its claim. An honest node shows what
//! others have signed; a dishonest one can invent members, as anybody can who has the token.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::addr::PeerAddr;
use super::alive::{Alive, LifeState};
use super::entry::{Class, Entry, NetworkId};
use super::id::NodeId;
use super::name::Bucket;
use super::networks::{Cluster, ClusterKind};
use super::records::{NodeRecord, ServiceRecord, display_id, is_node_record};
use super::wire::Frame;

/// Most nodes an observer is shown, and takes in.
pub const MAX_NODES: usize = 2_000;
/// Most bytes of frames it is shown, and takes in.
pub const MAX_BYTES: usize = 1 << 20;

/// Most nodes of which it is shown the addresses.
pub const MAX_PEERS: usize = 8;
/// Addresses taken in of each.
const MAX_ADDRESSES: usize = 2;

/// The cluster that a service belongs to, and its network id, empty without one; `None` for what
/// is no worker.
pub fn cluster_of(bucket: &Bucket, record: &ServiceRecord) -> Option<(ClusterKind, String)> {
    let bucket = bucket.as_str();
    let (id, service) = match &record.network_id {
        Some(id) => {
            let service = bucket.strip_prefix(id.as_str())?.strip_prefix('_')?;
            (id.as_str(), service)
        }
        None => ("", bucket),
    };
    Some((service.parse().ok()?, id.to_owned()))
}

/// What an observer was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Workers that are online, by kind and network id.
    pub clusters: Vec<Cluster>,
    /// Nodes that are online.
    pub nodes: u32,
    /// Where some of them are, as they say: another way in, should the one that was taken end.
    pub peers: Vec<PeerAddr>,
    /// Whether the node that showed it knew what had become of the others.
    pub fresh: bool,
}

/// Takes in what a node shows, as far as there is room: give it every frame to
/// [`Sight::take`] until that says that there is nothing more, then [`Sight::seen`].
pub struct Sight {
    network: NetworkId,
    alive: HashMap<NodeId, Alive>,
    workers: BTreeMap<(ClusterKind, String), BTreeSet<String>>,
    peers: BTreeMap<NodeId, Vec<PeerAddr>>,
    bytes: usize,
    fresh: bool,
}

impl Sight {
    /// Nothing seen yet of `network`.
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            alive: HashMap::new(),
            workers: BTreeMap::new(),
            peers: BTreeMap::new(),
            bytes: 0,
            fresh: false,
        }
    }

    /// Takes in a frame that was `bytes` long; whether there is more to come. What is not signed
    /// by whom it names, or has no room, is left out.
    pub fn take(&mut self, frame: Frame, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BYTES {
            return false;
        }
        match frame {
            Frame::Alive(all) => all.into_iter().for_each(|alive| self.take_alive(alive)),
            Frame::Entries(entries) => entries.iter().for_each(|entry| self.take_entry(entry)),
            Frame::SyncDone { fresh, .. } => {
                self.fresh = fresh;
                return false;
            }
            _ => {}
        }
        true
    }

    fn take_alive(&mut self, alive: Alive) {
        let is_here = alive.state == LifeState::Alive;
        if is_here && self.alive.len() < MAX_NODES && alive.verify(self.network) {
            self.alive.insert(alive.node, alive);
        }
    }

    /// A live entry counts for the start of its author that was seen.
    fn take_entry(&mut self, entry: &Entry) {
        let slot = &entry.slot;
        let start = self.alive.get(&slot.author).map(|alive| alive.boot);
        let is_live = slot.class == Class::Live && !entry.deleted && Some(entry.boot) == start;
        if !is_live {
            return;
        }
        if is_node_record(&slot.bucket, &slot.key) {
            return self.take_node(entry);
        }
        let Some(record) = ServiceRecord::from_value(&entry.value) else {
            return;
        };
        let Some(cluster) = cluster_of(&slot.bucket, &record) else {
            return;
        };
        if entry.verify(self.network).is_ok() {
            // What the record says its id is, anybody could say.
            let worker = display_id(&record.name, &slot.author);
            self.workers.entry(cluster).or_default().insert(worker);
        }
    }

    fn take_node(&mut self, entry: &Entry) {
        let id = entry.slot.author;
        let Some(record) = NodeRecord::from_value(&entry.value) else {
            return;
        };
        if self.peers.len() < MAX_PEERS && entry.verify(self.network).is_ok() {
            let addresses = record.addresses.into_iter().take(MAX_ADDRESSES);
            let peers = addresses.map(|addr| PeerAddr {
                id: Some(id),
                at: addr.into(),
            });
            self.peers.insert(id, peers.collect());
        }
    }

    /// What was seen.
    pub fn seen(self) -> Seen {
        let clusters = self.workers.into_iter();
        let clusters = clusters.map(|((kind, network_id), workers)| Cluster {
            kind,
            network_id,
            workers: workers.into_iter().collect(),
        });
        Seen {
            clusters: clusters.collect(),
            nodes: u32::try_from(self.alive.len()).unwrap_or(u32::MAX),
            peers: self.peers.into_values().flatten().collect(),
            fresh: self.fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::entry::Draft;
    use crate::mesh::id::Identity;
    use crate::mesh::records::Protocol;

    const NETWORK: NetworkId = NetworkId([5; 16]);

    fn record(network_id: Option<&str>) -> ServiceRecord {
        ServiceRecord {
            name: "atlas".parse().unwrap(),
            id: "made-up".to_owned(),
            ready: true,
            target: "127.0.0.1:1".to_owned(),
            network_id: network_id.map(|id| id.parse().unwrap()),
            protocol: Protocol::Tcp,
            wants_client: false,
        }
    }

    fn alive(of: &Identity, boot: u64) -> Alive {
        Alive::sign(NETWORK, of, boot, 0, LifeState::Alive)
    }

    fn entry(of: &Identity, boot: u64, bucket: &str, network_id: Option<&str>) -> Entry {
        let draft = Draft {
            bucket: bucket.parse().unwrap(),
            key: of.id().short(),
            class: Class::Live,
            version: 1,
            boot,
            deleted: false,
            value: serde_json::to_vec(&record(network_id)).unwrap(),
        };
        Entry::sign(NETWORK, of, draft).unwrap()
    }

    #[test]
    fn a_network_id_may_have_any_character_of_a_service() {
        for (bucket, id, cluster) in [
            ("worker", None, Some((ClusterKind::Worker, ""))),
            ("mlx_worker", None, Some((ClusterKind::MlxWorker, ""))),
            (
                "mlx_worker",
                Some("mlx"),
                Some((ClusterKind::Worker, "mlx")),
            ),
            (
                "gpu_lab_federated",
                Some("gpu_lab"),
                Some((ClusterKind::Federated, "gpu_lab")),
            ),
            (
                "a_mlx_worker",
                Some("a_mlx"),
                Some((ClusterKind::Worker, "a_mlx")),
            ),
            (
                "a_mlx_worker",
                Some("a"),
                Some((ClusterKind::MlxWorker, "a")),
            ),
            ("lab_federated", None, None),
            ("lab_chat", Some("lab"), None),
            ("lab_federated", Some("la"), None),
        ] {
            let found = cluster_of(&bucket.parse().unwrap(), &record(id));
            let cluster = cluster.map(|(kind, id)| (kind, id.to_owned()));
            assert_eq!(found, cluster, "{bucket} {id:?}");
        }
    }

    #[test]
    fn only_workers_of_nodes_that_are_there_are_seen() {
        let node = |n| Identity::from_seed(&[n; 32]);
        let mut sight = Sight::new(NETWORK);
        let gone = Alive::sign(NETWORK, &node(3), 1, 0, LifeState::Leave);
        let elsewhere = Alive::sign(NetworkId([6; 16]), &node(4), 1, 0, LifeState::Alive);
        assert!(sight.take(
            Frame::Alive(vec![
                alive(&node(1), 7),
                alive(&node(2), 1),
                gone,
                elsewhere
            ]),
            100
        ));
        let entries = vec![
            entry(&node(1), 7, "lab_worker", Some("lab")),
            entry(&node(2), 9, "worker", None),
            entry(&node(3), 1, "worker", None),
            entry(&node(5), 1, "worker", None),
        ];
        assert!(sight.take(Frame::Entries(entries), 100));
        let done = Frame::SyncDone {
            session: 0,
            fresh: true,
        };
        assert!(!sight.take(done, 10));
        let seen = sight.seen();
        assert_eq!((seen.nodes, seen.fresh), (2, true));
        let worker = display_id(&"atlas".parse().unwrap(), &node(1).id());
        let cluster = Cluster {
            kind: ClusterKind::Worker,
            network_id: "lab".to_owned(),
            workers: vec![worker],
        };
        assert_eq!(seen.clusters, [cluster]);
    }

    #[test]
    fn what_is_taken_in_is_bounded() {
        let mut sight = Sight::new(NETWORK);
        let unknown = || Frame::Unknown { kind: 99, len: 0 };
        assert!(sight.take(unknown(), MAX_BYTES));
        assert!(!sight.take(unknown(), 1));

        let mut sight = Sight::new(NETWORK);
        for n in 0..=u16::try_from(MAX_NODES).unwrap() {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&n.to_be_bytes());
            sight.take(Frame::Alive(vec![alive(&Identity::from_seed(&seed), 1)]), 1);
        }
        assert_eq!(sight.seen().nodes as usize, MAX_NODES);
    }
}
