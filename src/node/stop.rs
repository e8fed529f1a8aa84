//! The end of a node, in order and with a deadline; and the tasks that end with it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;

use super::{Node, Phase};
use crate::api::Control;
use crate::api::socket::AdminSocket;
use crate::store::{Change, files};

/// How long peers may take to hear that the links close.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long answers of the admin socket may take to end.
const API_END: Duration = Duration::from_secs(2);

impl Node {
    /// Ends the node: announces the departure, lets running connections finish up to the drain
    /// timeout, then closes everything. `forget` also forgets the token and the network's peers,
    /// ledger and roles, not the identity. Calls after the first wait for the same end.
    pub async fn shutdown(&self, forget: bool) {
        if self.enter(Phase::Leaving) {
            // In a task of its own: a caller that stops waiting does not stop the shutdown halfway.
            let node = self.clone();
            tokio::spawn(async move { node.run_down(forget).await });
        }
        self.stopped().await;
    }

    async fn run_down(&self, forget: bool) {
        let inner = &self.inner;
        inner.driver.leave().await;
        let limit = inner.drain_timeout;
        let ingresses = self.lock_roles().ingresses();
        for ingress in &ingresses {
            ingress.stop_accepting();
        }
        let clients = join_all(ingresses.iter().map(|ingress| ingress.drain(limit)));
        let guests = inner.guests.drain(limit);
        let (servers_done, clients_done, ()) =
            tokio::join!(inner.exposes.drain(limit), clients, guests);
        if !servers_done || clients_done.contains(&false) {
            tracing::warn!(
                ?limit,
                "connections were still running at the drain timeout"
            );
        }
        self.close(forget).await;
    }

    /// Ends the node at once: running connections are cut. The departure is still announced.
    pub async fn abort(&self) {
        // What runs is cut first: a drain, begun by this call or before it, has nothing to wait
        // for then.
        self.inner.exposes.abort();
        self.inner.guests.abort();
        for ingress in self.lock_roles().ingresses() {
            ingress.abort();
        }
        self.shutdown(false).await;
    }

    /// Ends a node that did not become what it was started for: as [`Node::abort`]; and a network
    /// that this start was the first to bring into the data directory is forgotten again.
    pub async fn undo(&self) {
        match self.inner.was_blank {
            true => self.shutdown(true).await,
            false => self.abort().await,
        }
    }

    /// Resolves when the node has stopped, whoever asked for it.
    pub async fn stopped(&self) {
        let mut phase = self.inner.phase.subscribe();
        // The sender lives in this very handle; it cannot be gone.
        let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Moves on to `phase` unless the node is there or further.
    fn enter(&self, phase: Phase) -> bool {
        self.inner.phase.send_if_modified(|now| {
            let moves = *now < phase;
            if moves {
                *now = phase;
            }
            moves
        })
    }

    async fn close(&self, forget: bool) {
        let inner = &self.inner;
        inner.exposes.abort();
        for ingress in self.lock_roles().ingresses() {
            ingress.abort();
        }
        inner.stop.cancel();
        inner.net.shutdown(FAREWELL).await;
        if forget {
            self.forget().await;
        }
        if let Err(error) = inner.store.close().await {
            tracing::error!(%error, "the store did not take everything");
        }
        // Whoever waits for the socket to go may start the next daemon: it goes last.
        inner.api.cancel();
        inner.api_tasks.close();
        let _ = tokio::time::timeout(API_END, inner.api_tasks.wait()).await;
        inner.phase.send_replace(Phase::Stopped);
    }

    async fn forget(&self) {
        if let Err(error) = self.inner.store.commit(vec![Change::ForgetNetwork]).await {
            tracing::error!(%error, "the network's data could not be forgotten");
        }
        if let Err(error) = files::forget_token(&self.inner.data_dir) {
            tracing::error!(%error, "the token could not be forgotten");
        }
    }

    /// Runs `task` until the node stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    pub(super) fn serve_admin(&self, socket: AdminSocket) {
        let control: Arc<dyn Control> = Arc::new(self.clone());
        let cancel = self.inner.api.clone();
        self.inner
            .api_tasks
            .spawn(crate::api::admin::serve(socket, control, cancel));
    }

    pub(super) fn serve_http(&self, listener: TcpListener) {
        let control: Arc<dyn Control> = Arc::new(self.clone());
        let cancel = self.inner.api.clone();
        let serve = crate::api::http::serve(listener, Vec::new(), control, cancel);
        self.inner.api_tasks.spawn(serve);
    }
}
