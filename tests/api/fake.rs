//! A node that keeps its word without a mesh.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard, broadcast, watch};
use warren::api::shapes::{
    Bench, BenchPhase, BenchProgress, NodeError, Problem, RoleInfo, RoleKind, Status, Usage,
};
use warren::api::{Control, Stop};
use warren::mesh::entry::{Class, Draft, Entry, NetworkId};
use warren::mesh::event::{Event, What};
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::measure::{Limits, Loss, Measurement, RoundTrip, Throughput};
use warren::mesh::name::Bucket;
use warren::mesh::networks::Held;
use warren::mesh::time::Now;
use warren::mesh::view::{NodeView, PathKind, PathView, Provider, View};
use warren::service::ip_table::IpTable;
use warren::service::networks::NetworkDb;
use warren::service::spec::{ExposeSpec, IngressSpec};
use zeroize::Zeroizing;

const NOW_MS: u64 = 1_700_000_000_500;
const NETWORK: NetworkId = NetworkId([7; 16]);

/// Node number `n`.
pub(crate) fn id(n: u8) -> NodeId {
    Identity::from_seed(&[n; 32]).id()
}

/// A durable entry of node number `author`; the lower the number, the newer.
pub(crate) fn entry(author: u8, bucket: &str, key: &str, value: &[u8]) -> Entry {
    sign(author, bucket.parse().unwrap(), key.into(), value.into()).unwrap()
}

fn sign(author: u8, bucket: Bucket, key: String, value: Vec<u8>) -> Result<Entry, NodeError> {
    let draft = Draft {
        bucket,
        key,
        class: Class::Durable,
        version: (NOW_MS << 16) - u64::from(author),
        boot: 0,
        deleted: false,
        value,
    };
    let identity = Identity::from_seed(&[author; 32]);
    Entry::sign(NETWORK, &identity, draft)
        .map_err(|error| NodeError::new("usage", error.to_string()))
}

pub(crate) struct FakeNode {
    pub(crate) http_token: bool,
    pub(crate) events: broadcast::Sender<Event>,
    view: watch::Sender<Arc<View>>,
    state: Mutex<String>,
    roles: Mutex<BTreeMap<u64, RoleInfo>>,
    roles_changed: watch::Sender<()>,
    next_role: Mutex<u64>,
    removed: watch::Sender<Vec<u64>>,
    gate: Arc<Gate<()>>,
    at_gate: watch::Sender<bool>,
    ledger: Mutex<Vec<Entry>>,
    imports: Mutex<usize>,
    ip_table: IpTable,
    networks: NetworkDb,
    _data: TempDir,
    _networks: TempDir,
    served: Mutex<u64>,
    stops: Mutex<Vec<Stop>>,
}

impl Default for FakeNode {
    fn default() -> Self {
        let data = tempfile::tempdir().unwrap();
        let networks = tempfile::tempdir().unwrap();
        Self {
            networks: NetworkDb::open(networks.path(), Held::default(), NOW_MS).unwrap(),
            _networks: networks,
            ip_table: IpTable::open(data.path(), NOW_MS).unwrap(),
            _data: data,
            http_token: false,
            events: broadcast::channel(16).0,
            view: watch::channel(Arc::new(view())).0,
            state: Mutex::new("running".into()),
            roles: Mutex::default(),
            roles_changed: watch::Sender::new(()),
            next_role: Mutex::new(1),
            removed: watch::channel(Vec::new()).0,
            gate: Arc::default(),
            at_gate: watch::channel(false).0,
            ledger: Mutex::default(),
            imports: Mutex::default(),
            served: Mutex::new(40),
            stops: Mutex::default(),
        }
    }
}

fn view() -> View {
    let node = |n: u8, online, last_seen_ms, path| NodeView {
        id: id(n),
        name: format!("n{n}").parse().unwrap(),
        is_self: n == 1,
        online,
        stale: !online,
        draining: false,
        last_seen_ms,
        version: "0.1.0".into(),
        addresses: vec!["[::1]:7717".parse().unwrap()],
        path,
    };
    let path = |kind, rtt_ms, via| PathView { kind, rtt_ms, via };
    let provider = |n: u8, online| Provider {
        id: id(n),
        name: format!("n{n}").parse().unwrap(),
        online,
        ready: true,
        draining: false,
        target: "127.0.0.1:8080".into(),
        protocol: warren::mesh::records::Protocol::Tcp,
        wants_client: false,
    };
    let mut view = View::new(id(1));
    for node in [
        node(1, true, 0, path(PathKind::Own, Some(0.0), None)),
        node(
            2,
            false,
            1_699_999_940_000,
            path(PathKind::None, None, None),
        ),
        node(3, false, 0, path(PathKind::Relay, Some(12.25), Some(id(1)))),
    ] {
        view.nodes.insert(node.id, node.into());
    }
    for (bucket, providers) in [
        ("lab_federated", vec![provider(1, true), provider(2, false)]),
        ("lab_worker", vec![provider(1, true)]),
        // Of another network id, or of none: not LocalAI's groups of this node.
        ("worker", vec![provider(2, true)]),
        ("other_federated", vec![provider(2, true)]),
        ("lab_x_federated", vec![provider(2, true)]),
    ] {
        view.services
            .insert(bucket.parse().unwrap(), providers.into());
    }
    view
}

impl FakeNode {
    pub(crate) fn set_state(&self, state: &str) {
        *self.state.lock().unwrap() = state.into();
    }

    /// Changes the mesh.
    pub(crate) fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.version += 1;
            change(view);
        });
    }

    /// Node `n` answers from now on, or no longer.
    pub(crate) fn set_online(&self, n: u8, online: bool) {
        self.change(|view| {
            let node = view.nodes.get_mut(&id(n)).unwrap();
            let node = Arc::make_mut(node);
            (node.online, node.stale) = (online, !online);
        });
    }

    /// Counts a request of `lab_federated` at node 1.
    pub(crate) fn serve_one(&self) {
        *self.served.lock().unwrap() += 1;
    }

    pub(crate) fn stops(&self) -> Vec<Stop> {
        self.stops.lock().unwrap().clone()
    }

    pub(crate) fn imports(&self) -> usize {
        *self.imports.lock().unwrap()
    }

    pub(crate) fn removed(&self) -> Vec<u64> {
        self.removed.borrow().clone()
    }

    pub(crate) async fn wait_removed(&self, id: u64) {
        let mut removed = self.removed.subscribe();
        let wait = removed.wait_for(|removed| removed.contains(&id));
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .expect("the role was not removed")
            .unwrap();
    }

    /// Makes roles wait until the result is dropped.
    pub(crate) fn close_gate(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.gate).try_lock_owned().unwrap()
    }

    /// Waits until a role waits.
    pub(crate) async fn wait_at_gate(&self) {
        let mut at_gate = self.at_gate.subscribe();
        at_gate.wait_for(|there| *there).await.unwrap();
    }

    /// Merges an entry.
    pub(crate) fn take(&self, entry: Entry) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.retain(|known| known.slot != entry.slot);
        let _ = self.events.send(Event {
            at_ms: NOW_MS,
            what: What::ledger(&entry),
        });
        ledger.push(entry);
        ledger.sort_by(|a, b| a.slot.cmp(&b.slot));
    }

    async fn add(&self, kind: RoleKind, kept: bool) -> Result<RoleInfo, NodeError> {
        self.at_gate.send_replace(true);
        drop(self.gate.lock().await);
        let mut next = self.next_role.lock().unwrap();
        let role = RoleInfo {
            id: *next,
            kind,
            kept,
        };
        *next += 1;
        self.roles.lock().unwrap().insert(role.id, role.clone());
        self.roles_changed.send_replace(());
        Ok(role)
    }

    fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let ledger = self.ledger.lock().unwrap();
        ledger
            .iter()
            .filter(|entry| wanted(entry))
            .cloned()
            .collect()
    }
}

impl Control for FakeNode {
    fn now(&self) -> Now {
        Now {
            mono: Duration::ZERO,
            unix_ms: NOW_MS,
        }
    }

    fn status(&self) -> Status {
        Status {
            id: id(1),
            name: "n1".parse().unwrap(),
            version: "0.1.0".into(),
            network: "fingerprint".into(),
            network_id: Some("lab".parse().unwrap()),
            pid: std::process::id(),
            uptime_s: 5,
            state: self.state.lock().unwrap().clone(),
            udp: vec!["[::]:7717".parse().unwrap()],
            shards: 2,
            steered: 7,
            http: Some("127.0.0.1:7718".parse().unwrap()),
            p2prc_http: None,
            nodes_online: 1,
            nodes_known: 3,
            roles: self.roles(),
            usage: self.usage(),
            problems: vec![Problem {
                code: "clock".into(),
                message: "a clock is wrong".into(),
            }],
            refused: BTreeMap::from([("bad_signature".into(), 3)]),
        }
    }

    fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn watch_roles(&self) -> watch::Receiver<()> {
        self.roles_changed.subscribe()
    }

    fn roles(&self) -> Vec<RoleInfo> {
        self.roles.lock().unwrap().values().cloned().collect()
    }

    fn usage(&self) -> Vec<Usage> {
        vec![Usage {
            service: "lab_federated".parse().unwrap(),
            node: id(1),
            in_flight: 2,
            served: *self.served.lock().unwrap(),
        }]
    }

    fn resolve(&self, text: &str) -> Result<NodeId, NodeError> {
        let view = self.view();
        let found = view.nodes.values().find(|node| node.name.as_str() == text);
        found
            .map(|node| node.id)
            .ok_or_else(|| NodeError::new("not_found", format!("no node is called {text:?}")))
    }

    fn join_token(&self) -> Zeroizing<String> {
        Zeroizing::new("warren1secret".into())
    }

    fn http_token(&self) -> Option<Zeroizing<String>> {
        self.http_token.then(|| self.join_token())
    }

    fn ip_table(&self) -> IpTable {
        self.ip_table.clone()
    }

    fn networks(&self) -> NetworkDb {
        self.networks.clone()
    }

    fn expose(&self, spec: ExposeSpec, keep: bool) -> BoxFuture<'_, Result<RoleInfo, NodeError>> {
        Box::pin(async move {
            if spec.service.as_str() == "refused" {
                let error = NodeError::new("unreachable", "nobody listens there");
                return Err(error.with_hint("start the server first"));
            }
            self.add(RoleKind::Expose { spec, ready: true }, keep).await
        })
    }

    fn ingress(&self, spec: IngressSpec, keep: bool) -> BoxFuture<'_, Result<RoleInfo, NodeError>> {
        let listen = "127.0.0.1:40404".parse().unwrap();
        Box::pin(self.add(RoleKind::Ingress { spec, listen }, keep))
    }

    fn remove_role(&self, id: u64) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let removed = self.roles.lock().unwrap().remove(&id);
            removed.ok_or_else(|| NodeError::new("not_found", format!("there is no role {id}")))?;
            self.roles_changed.send_replace(());
            self.removed.send_modify(|removed| removed.push(id));
            Ok(())
        })
    }

    fn ping(&self, _node: NodeId) -> BoxFuture<'_, Result<Duration, NodeError>> {
        Box::pin(async { Ok(Duration::from_micros(1500)) })
    }

    /// Measures node 3; node 2 is silent, node 1 takes for ever.
    fn bench(
        &self,
        node: NodeId,
        limits: Limits,
        progress: watch::Sender<BenchProgress>,
    ) -> BoxFuture<'_, Result<Bench, NodeError>> {
        Box::pin(async move {
            if node == id(2) {
                return Err(NodeError::new("unreachable", "it is silent"));
            }
            let measured = Measurement {
                round_trip: RoundTrip::of(&[Duration::from_micros(1500)]),
                download: Throughput::of(limits.bytes, Duration::from_secs(1)),
                upload: None,
            };
            progress.send_replace(BenchProgress {
                phase: BenchPhase::Download,
                done: 1,
                of: limits.bytes,
            });
            if node == id(1) {
                std::future::pending::<()>().await;
            }
            Ok(Bench::of(
                node,
                None,
                &measured,
                Loss::of(10, 1),
                Loss::of(4, 2),
            ))
        })
    }

    fn drain(&self, on: bool) -> BoxFuture<'_, Result<(), NodeError>> {
        self.set_state(if on { "draining" } else { "running" });
        Box::pin(async { Ok(()) })
    }

    fn stop(&self, how: Stop) {
        self.stops.lock().unwrap().push(how);
    }

    fn ledger_put(
        &self,
        bucket: Bucket,
        key: String,
        value: Vec<u8>,
    ) -> BoxFuture<'_, Result<Entry, NodeError>> {
        Box::pin(async move {
            let entry = sign(1, bucket, key, value)?;
            self.take(entry.clone());
            Ok(entry)
        })
    }

    fn ledger_remove(&self, bucket: Bucket, key: String) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let mut ledger = self.ledger.lock().unwrap();
            let before = ledger.len();
            ledger.retain(|entry| {
                let slot = &entry.slot;
                slot.bucket != bucket || slot.key != key || slot.author != id(1)
            });
            if ledger.len() == before {
                return Err(NodeError::new("not_found", "this node has no value there"));
            }
            Ok(())
        })
    }

    fn ledger_get(
        &self,
        bucket: Bucket,
        key: String,
    ) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>> {
        Box::pin(async move {
            let mut found = self.select(|e| e.slot.bucket == bucket && e.slot.key == key);
            found.sort_by_key(|entry| std::cmp::Reverse(entry.version));
            Ok(found)
        })
    }

    fn ledger_list(&self, bucket: Option<Bucket>) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>> {
        Box::pin(
            async move { Ok(self.select(|e| bucket.as_ref().is_none_or(|b| *b == e.slot.bucket))) },
        )
    }

    fn ledger_export(&self) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>> {
        Box::pin(async { Ok(self.select(|_| true)) })
    }

    fn ledger_import(
        &self,
        entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<(usize, usize), NodeError>> {
        Box::pin(async move {
            *self.imports.lock().unwrap() += 1;
            for entry in &entries {
                let verified = entry.verify(NETWORK);
                verified.map_err(|error| NodeError::new("refused", error.to_string()))?;
            }
            let taken = entries.len();
            entries.into_iter().for_each(|entry| self.take(entry));
            Ok((taken, 0))
        })
    }
}
