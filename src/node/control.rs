//! A node as its admin socket and HTTP server see it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use super::Node;
use crate::api::shapes::{Bench, BenchProgress, NodeError, RoleInfo, Status, Usage};
use crate::api::{Control, Stop};
use crate::mesh::entry::Entry;
use crate::mesh::event::Event;
use crate::mesh::id::NodeId;
use crate::mesh::measure::Limits;
use crate::mesh::name::Bucket;
use crate::mesh::time::Now;
use crate::mesh::view::View;
use crate::service::ip_table::{IpTable, MeshSide};
use crate::service::networks::NetworkDb;
use crate::service::spec::{ExposeSpec, IngressSpec};

impl Control for Node {
    fn now(&self) -> Now {
        self.inner.clock.now()
    }

    fn status(&self) -> Status {
        Node::status(self)
    }

    fn view(&self) -> Arc<View> {
        Node::view(self)
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        Node::watch(self)
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        Node::events(self)
    }

    fn watch_roles(&self) -> watch::Receiver<()> {
        Node::watch_roles(self)
    }

    fn roles(&self) -> Vec<RoleInfo> {
        Node::roles(self)
    }

    fn usage(&self) -> Vec<Usage> {
        Node::usage(self)
    }

    fn resolve(&self, text: &str) -> Result<NodeId, NodeError> {
        Node::resolve(self, text)
    }

    fn join_token(&self) -> Zeroizing<String> {
        Node::join_token(self).to_text()
    }

    fn http_token(&self) -> Option<Zeroizing<String>> {
        self.inner.http_token.then(|| self.token().to_text())
    }

    fn ip_table(&self) -> IpTable {
        Node::ip_table(self)
    }

    fn networks(&self) -> NetworkDb {
        Node::networks(self)
    }

    fn mesh_side(&self) -> MeshSide {
        Node::mesh_side(self)
    }

    fn expose(&self, spec: ExposeSpec, keep: bool) -> BoxFuture<'_, Result<RoleInfo, NodeError>> {
        Node::expose(self, spec, keep).boxed()
    }

    fn ingress(&self, spec: IngressSpec, keep: bool) -> BoxFuture<'_, Result<RoleInfo, NodeError>> {
        Node::ingress(self, spec, keep).boxed()
    }

    fn remove_role(&self, id: u64) -> BoxFuture<'_, Result<(), NodeError>> {
        Node::remove_role(self, id).boxed()
    }

    fn ping(&self, node: NodeId) -> BoxFuture<'_, Result<Duration, NodeError>> {
        Node::ping(self, node).boxed()
    }

    fn bench(
        &self,
        node: NodeId,
        limits: Limits,
        progress: watch::Sender<BenchProgress>,
    ) -> BoxFuture<'_, Result<Bench, NodeError>> {
        async move { Node::bench(self, node, limits, &progress).await }.boxed()
    }

    fn drain(&self, on: bool) -> BoxFuture<'_, Result<(), NodeError>> {
        Node::drain(self, on).boxed()
    }

    fn stop(&self, how: Stop) {
        let node = self.clone();
        // Not one of the node's tasks: those end inside it.
        tokio::spawn(async move {
            match how {
                Stop::Drain => node.shutdown(false).await,
                Stop::Leave => node.shutdown(true).await,
                Stop::Now => node.abort().await,
            }
        });
    }

    fn ledger_put(
        &self,
        bucket: Bucket,
        key: String,
        value: Vec<u8>,
    ) -> BoxFuture<'_, Result<Entry, NodeError>> {
        async move { self.ledger().put(bucket, key, value).await }.boxed()
    }

    fn ledger_remove(&self, bucket: Bucket, key: String) -> BoxFuture<'_, Result<(), NodeError>> {
        async move { self.ledger().remove(bucket, key).await }.boxed()
    }

    fn ledger_get(
        &self,
        bucket: Bucket,
        key: String,
    ) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>> {
        async move { self.ledger().get(&bucket, &key).await }.boxed()
    }

    fn ledger_list(&self, bucket: Option<Bucket>) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>> {
        async move { self.ledger().list(bucket.as_ref()).await }.boxed()
    }

    fn ledger_export(&self) -> BoxFuture<'_, Result<Vec<Entry>, NodeError>> {
        async move { self.ledger().export().await }.boxed()
    }

    fn ledger_import(
        &self,
        entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<(usize, usize), NodeError>> {
        async move { self.ledger().import(entries).await }.boxed()
    }
}
