//! Measures the way to another node, and is a witness that this machine is online.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::tunnels::Outgoing;
use super::{Node, NodeError};
use crate::api::shapes::{Bench, BenchPhase, BenchProgress};
use crate::clock;
use crate::mesh::id::NodeId;
use crate::mesh::measure::{Limits, Loss, Measurement, RoundTrip, Throughput};
use crate::mesh::probe::{Found, Miss, Reach, Unmeasured, Verdict, judge};
use crate::net::link::Link;
use crate::service::end::QuicEnd;
use crate::service::ip_table::MeshSide;
use crate::service::measure::{self, MeasureError};
use crate::service::probe::{Witness, own_addresses};
use crate::service::tunnels::Tunnels;

/// Round trips of one measurement, after one more that opens the link. The more, the smaller a
/// loss is seen.
const ROUND_TRIPS: u64 = 100;
/// No more are begun after this long.
const ROUND_TRIPS_TIME: Duration = Duration::from_secs(2);

impl Node {
    /// Measures round trips, throughput each way and loss to a node; `progress` tells how far it
    /// is. Takes up to two times `limits.time` and a few seconds. Dropping the future ends it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let loopback = || vec![([127, 0, 0, 1], 0).into()];
    /// # let first = warren::Node::builder().data_dir(dir.path().join("1")).listen(loopback());
    /// # let first = first.found(true).start().await?;
    /// # let node = warren::Node::builder().data_dir(dir.path().join("2")).listen(loopback());
    /// # let node = node.token(first.join_token()).start().await?;
    /// # node.watch().wait_for(|view| view.nodes.values().filter(|n| n.online).count() == 2).await?;
    /// use warren::node::{BenchPhase, BenchProgress, Limits};
    ///
    /// let limits = Limits { bytes: 10_000_000, time: std::time::Duration::from_secs(1) };
    /// let start = BenchProgress { phase: BenchPhase::RoundTrip, done: 0, of: 0 };
    /// let (progress, _) = tokio::sync::watch::channel(start);
    /// let found = node.bench(first.id(), limits, &progress).await?;
    /// assert!(found.latency_ms.is_some() && found.download_mbps.is_some());
    /// # node.shutdown(false).await;
    /// # first.shutdown(false).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `usage` for this node itself, `unreachable` if it is offline or falls silent, `refused` if
    /// it measures with too many others, or cannot.
    pub async fn bench(
        &self,
        node: NodeId,
        limits: Limits,
        progress: &watch::Sender<BenchProgress>,
    ) -> Result<Bench, NodeError> {
        let inner = &self.inner;
        if node == inner.id {
            let error = NodeError::new("usage", "this is the node itself; there is no way to it");
            return Err(error.with_hint("`warren nodes` lists the others"));
        }
        let tell = |phase, of| {
            move |done| {
                progress.send_replace(BenchProgress { phase, done, of });
            }
        };
        // The first opens the link, and is not counted.
        self.ping(node).await?;
        let before = self.packets(node).await;
        let round_trip = self
            .round_trips(node, tell(BenchPhase::RoundTrip, ROUND_TRIPS))
            .await?;
        let loss = lost(before, self.packets(node).await);

        let failed = |error| measure_error(node, error);
        let mut told = tell(BenchPhase::Download, limits.bytes);
        let end = self.open(node).await?;
        let download = measure::download(end, limits, &inner.clock, &mut told).await;
        let download = download.map_err(failed)?;

        let mut told = tell(BenchPhase::Upload, limits.bytes);
        let end = self.open(node).await?;
        let before = self.packets(node).await;
        let upload = measure::upload(end, limits, &inner.clock, &mut told).await;
        let upload = upload.map_err(failed)?;
        let upload_loss = lost(before, self.packets(node).await);

        let found = Measurement {
            round_trip: RoundTrip::of(&round_trip),
            download,
            upload,
        };
        let name = self.view().nodes.get(&node).map(|node| node.name.clone());
        Ok(Bench::of(node, name, &found, loss, upload_loss))
    }

    /// Tells the probe of servers whether this machine is online: whether a node that answers is
    /// linked from an address that far away. A node that fell silent answers for up to 3 s more
    /// (see [`Node::view`]). Keeps the node's handle.
    pub fn witness(&self) -> Witness {
        let node = self.clone();
        let own = own_addresses();
        Arc::new(move |reach| {
            let view = node.view();
            let answers = |id: &NodeId| view.nodes.get(id).is_some_and(|node| node.online);
            let mut peers = node.inner.net.peers().into_iter();
            peers.any(|(id, addr)| Reach::of(addr.ip(), &own) >= reach && answers(&id))
        })
    }

    /// What this node adds to a probe of the IP table: [`Node::witness`], and a way to the nodes
    /// that speak of themselves in it. Keeps the node's handle.
    pub fn mesh_side(&self) -> MeshSide {
        let (node, witness) = (self.clone(), self.witness());
        let online = Arc::clone(&witness);
        let links = Arc::new(move |id, transfer| {
            let (node, witness) = (node.clone(), Arc::clone(&online));
            async move { node.probe_link(id, transfer, &witness).await }.boxed()
        });
        MeshSide {
            witness: Some(witness),
            links: Some(links),
        }
    }

    /// Measures the way to a node as [`Node::bench`] does. A node that does not answer is missed
    /// only while another one does, from outside this machine.
    async fn probe_link(&self, id: NodeId, transfer: Option<Limits>, online: &Witness) -> Verdict {
        let trips = async {
            // The first opens the link, and is not counted.
            self.ping(id).await?;
            self.round_trips(id, |_| {}).await
        };
        let Ok(trips) = trips.await else {
            return judge(Miss::Silent, Reach::Near, online(Reach::Near));
        };
        let mut found = Found {
            round_trip: RoundTrip::of(&trips),
            download: Err(Unmeasured::NotAsked),
            upload: Err(Unmeasured::NotAsked),
        };
        if let Some(limits) = transfer {
            let clock = &self.inner.clock;
            found.download = match self.open(id).await {
                Ok(end) => counted(measure::download(end, limits, clock, &mut |_| {}).await),
                Err(error) => Err(Unmeasured::Broken(error.message)),
            };
            found.upload = match self.open(id).await {
                Ok(end) => counted(measure::upload(end, limits, clock, &mut |_| {}).await),
                Err(error) => Err(Unmeasured::Broken(error.message)),
            };
        }
        Verdict::Answered(found)
    }

    async fn round_trips(
        &self,
        node: NodeId,
        mut tell: impl FnMut(u64),
    ) -> Result<Vec<Duration>, NodeError> {
        let end = clock::deadline(ROUND_TRIPS_TIME);
        let mut found = Vec::new();
        for done in 1..=ROUND_TRIPS {
            found.push(self.ping(node).await?);
            tell(done);
            if clock::instant() >= end {
                break;
            }
        }
        Ok(found)
    }

    async fn open(&self, node: NodeId) -> Result<QuicEnd, NodeError> {
        let inner = &self.inner;
        let outgoing = Outgoing {
            me: inner.id,
            driver: inner.driver.clone(),
            net: Arc::clone(&inner.net),
            exposes: inner.exposes.clone(),
        };
        let opened = outgoing.open(node).await;
        opened.map_err(|error| {
            NodeError::new("unreachable", error.to_string())
                .with_hint("`warren nodes` shows who answers")
        })
    }

    /// The present link to a node, and what was sent and lost on it.
    async fn packets(&self, node: NodeId) -> Option<Snapshot> {
        let link = self.inner.driver.reach(node).await.ok()?;
        let link = self.inner.net.link(link)?;
        let packets = link.packets();
        Some((link, packets))
    }
}

/// A transfer, or why there is none.
fn counted(moved: Result<Option<Throughput>, MeasureError>) -> Result<Throughput, Unmeasured> {
    let moved = moved.map_err(|error| Unmeasured::Broken(error.to_string()))?;
    moved.ok_or(Unmeasured::TooLittle)
}

/// A link, and packets sent and lost on it so far.
type Snapshot = (Arc<Link>, (u64, u64));

/// What was lost between two looks; `None` if the link was another one in the end.
fn lost(before: Option<Snapshot>, after: Option<Snapshot>) -> Option<Loss> {
    let ((link, before), (same, after)) = (before?, after?);
    let sent = after.0.saturating_sub(before.0);
    let lost = after.1.saturating_sub(before.1);
    Arc::ptr_eq(&link, &same).then(|| Loss::of(sent, lost))?
}

fn measure_error(node: NodeId, error: MeasureError) -> NodeError {
    let (code, hint) = match error {
        MeasureError::Busy => ("refused", "try again in half a minute"),
        MeasureError::TooOld => ("refused", "`warren nodes` shows its version; update it"),
        MeasureError::Refused(_) => ("refused", "see that node's log"),
        _ => ("unreachable", "`warren nodes` shows who answers"),
    };
    let message = format!("node {}: {error}", node.short());
    NodeError::new(code, message).with_hint(hint)
}
