//! Roles: what this node exposes and listens for, kept across restarts where asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::tunnels::Outgoing;
use super::{Node, NodeError, Phase};
use crate::api::shapes::{RoleInfo, RoleKind, RoleSpec};
use crate::mesh::name::Bucket;
use crate::mesh::records::{ServiceRecord, display_id};
use crate::service::expose::ExposeError;
use crate::service::ingress::{Deps, Ingress, IngressError};
use crate::service::spec::{ExposeSpec, IngressSpec};
use crate::store::Change;

/// Roles taken, by number. Numbers are never reused while a kept role has one.
pub(super) struct Roles {
    next: u64,
    taken: BTreeMap<u64, Role>,
    /// Services in the ledger, and whether they were announced as ready.
    announced: BTreeMap<Bucket, bool>,
    changed: watch::Sender<()>,
}

struct Role {
    kept: bool,
    kind: Kind,
}

enum Kind {
    Expose {
        spec: ExposeSpec,
        bucket: Bucket,
    },
    Ingress {
        spec: IngressSpec,
        running: Arc<Ingress>,
    },
}

impl Roles {
    pub(super) fn new(kept: &[(u64, Vec<u8>)]) -> Self {
        let highest = kept.iter().map(|(id, _)| *id).max().unwrap_or(0);
        Self {
            next: highest + 1,
            taken: BTreeMap::new(),
            announced: BTreeMap::new(),
            changed: watch::Sender::new(()),
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn insert(&mut self, number: u64, role: Role) {
        self.taken.insert(number, role);
        self.changed.send_replace(());
    }

    fn remove(&mut self, number: u64) -> Option<Role> {
        let role = self.taken.remove(&number);
        self.changed.send_replace(());
        role
    }

    pub(super) fn ingresses(&self) -> Vec<Arc<Ingress>> {
        let running = self.taken.values().filter_map(|role| match &role.kind {
            Kind::Ingress { running, .. } => Some(Arc::clone(running)),
            Kind::Expose { .. } => None,
        });
        running.collect()
    }
}

impl Node {
    /// Exposes a service: connects to its server first, then announces it. `keep` stores the role
    /// for the next start. From then on the service is offered while its server accepts
    /// connections.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let node = warren::Node::builder().data_dir(dir.path()).found(true);
    /// # let node = node.listen(vec!["127.0.0.1:0".parse()?]).start().await?;
    /// use warren::node::ExposeSpec;
    ///
    /// let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let target = server.local_addr()?.to_string().parse()?;
    /// let role = node.expose(ExposeSpec::new("chat".parse()?, target), false).await?;
    /// node.remove_role(role.id).await?;
    ///
    /// drop(server);
    /// let target = "127.0.0.1:1".parse()?;
    /// let refused = node.expose(ExposeSpec::new("chat".parse()?, target), false).await;
    /// assert_eq!(refused.unwrap_err().code, "unreachable");
    /// # node.shutdown(false).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `unreachable` if the server does not accept a connection, `in_use` if the service is
    /// exposed already, `store` if the role cannot be kept. Nothing is announced then.
    pub async fn expose(&self, spec: ExposeSpec, keep: bool) -> Result<RoleInfo, NodeError> {
        self.refuse_when_leaving()?;
        let bucket = self.bucket(&spec.service);
        self.inner
            .exposes
            .add(&spec, bucket.clone())
            .await
            .map_err(|e| expose_error(&e))?;
        let number = self.lock_roles().number();
        if keep
            && let Err(error) = self
                .keep_role(number, &RoleSpec::Expose(spec.clone()))
                .await
        {
            self.inner.exposes.remove(&bucket);
            return Err(error);
        }
        // The caller may use the service elsewhere at once: announce before returning.
        self.announce(&bucket, &spec, true).await;
        Ok(self.insert(number, keep, Kind::Expose { spec, bucket }))
    }

    /// Listens for a service: each connection goes to a node that serves it. `keep` stores the
    /// role for the next start.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let node = warren::Node::builder().data_dir(dir.path()).found(true);
    /// # let node = node.listen(vec!["127.0.0.1:0".parse()?]).start().await?;
    /// use warren::node::{Failover, IngressSpec, Mode, RoleKind, Strategy};
    ///
    /// let role = node.ingress(IngressSpec {
    ///     strategy: Strategy::LeastUsed,
    ///     failover: Failover::Replay,
    ///     mode: Mode::Tcp,
    ///     tls: None,
    ///     ..IngressSpec::new("chat".parse()?, "127.0.0.1:0".parse()?)
    /// }, false).await?;
    /// let RoleKind::Ingress { listen, .. } = role.kind else { unreachable!() };
    /// assert_ne!(listen.port(), 0);
    /// # node.shutdown(false).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `in_use` if the address cannot be bound, `usage` for a mode or certificate that cannot be
    /// used, `store` if the role cannot be kept.
    pub async fn ingress(&self, spec: IngressSpec, keep: bool) -> Result<RoleInfo, NodeError> {
        self.refuse_when_leaving()?;
        let running = Arc::new(self.start_ingress(&spec)?);
        let number = self.lock_roles().number();
        if keep {
            self.keep_role(number, &RoleSpec::Ingress(spec.clone()))
                .await?;
        }
        Ok(self.insert(number, keep, Kind::Ingress { spec, running }))
    }

    /// Gives up a role: nothing new is taken, running connections finish. A kept one is forgotten.
    ///
    /// # Errors
    /// `not_found`, or `store` if a kept role cannot be forgotten; it stays then.
    pub async fn remove_role(&self, id: u64) -> Result<(), NodeError> {
        let kept = self.lock_roles().taken.get(&id).map(|role| role.kept);
        let Some(kept) = kept else {
            return Err(
                NodeError::new("not_found", format!("there is no role {id}"))
                    .with_hint("`warren services --roles` lists them"),
            );
        };
        if kept {
            let forgotten = self.inner.store.commit(vec![Change::ForgetRole(id)]).await;
            forgotten.map_err(|error| NodeError::new("store", error.to_string()))?;
        }
        let role = self.lock_roles().remove(id);
        match role.map(|role| role.kind) {
            Some(Kind::Expose { bucket, .. }) => {
                self.inner.exposes.remove(&bucket);
                if self.lock_roles().announced.remove(&bucket).is_some() {
                    self.inner.driver.set_service(bucket, None).await;
                }
            }
            Some(Kind::Ingress { running, .. }) => {
                running.stop_accepting();
                let limit = self.inner.drain_timeout;
                self.inner
                    .tasks
                    .spawn(async move { running.drain(limit).await });
            }
            None => {}
        }
        Ok(())
    }

    /// Roles taken, by number.
    pub fn roles(&self) -> Vec<RoleInfo> {
        let ready = self.inner.exposes.readiness().borrow().clone();
        let roles = self.lock_roles();
        let infos = roles
            .taken
            .iter()
            .map(|(id, role)| role_info(*id, role, &ready));
        infos.collect()
    }

    /// Exposes a service whose server may come up later: it is announced when it first accepts a
    /// connection. Not kept: whoever starts the node asks again.
    ///
    /// # Errors
    /// `in_use` if the service is exposed already.
    pub async fn expose_when_up(&self, spec: ExposeSpec) -> Result<RoleInfo, NodeError> {
        match self.expose(spec.clone(), false).await {
            Err(error) if error.code == "unreachable" => {
                tracing::warn!("{error}; the service is announced when it does");
                let bucket = self.bucket(&spec.service);
                let kind = self.expose_unchecked(spec)?;
                let number = self.lock_roles().number();
                let info = self.insert(number, false, kind);
                // The first check may have ended before the role was in the list.
                self.settle(&bucket).await;
                Ok(info)
            }
            other => other,
        }
    }

    /// Follows the health of exposed servers: what is announced changes with it.
    pub(super) fn watch_readiness(&self) {
        let mut readiness = self.inner.exposes.readiness();
        let node = self.clone();
        self.spawn(async move {
            while readiness.changed().await.is_ok() {
                let buckets: Vec<Bucket> = readiness.borrow_and_update().keys().cloned().collect();
                for bucket in buckets {
                    node.settle(&bucket).await;
                }
            }
        });
    }

    /// Announces what is true of an exposed service now. One that never was ready is not shown.
    async fn settle(&self, bucket: &Bucket) {
        let ready = self.inner.exposes.readiness().borrow().get(bucket).copied();
        let known = self.lock_roles().announced.contains_key(bucket);
        if let Some(ready) = ready.filter(|ready| *ready || known)
            && let Some(spec) = self.exposed(bucket)
        {
            self.announce(bucket, &spec, ready).await;
        }
    }

    /// Takes up the roles kept from the last start. One that fails is a problem, not the end.
    pub(super) async fn restore_roles(&self, kept: Vec<(u64, Vec<u8>)>) {
        for (number, bytes) in kept {
            let role = match serde_json::from_slice::<RoleSpec>(&bytes) {
                Ok(RoleSpec::Expose(spec)) => self.expose_unchecked(spec),
                Ok(RoleSpec::Ingress(spec)) => self.restore_ingress(spec),
                Err(error) => Err(NodeError::new("store", error.to_string())),
            };
            match role {
                Ok(kind) => {
                    let info = self.insert(number, true, kind);
                    if let RoleKind::Expose { spec, .. } = &info.kind {
                        self.settle(&self.bucket(&spec.service)).await;
                    }
                }
                Err(error) => {
                    tracing::error!(role = number, %error, "a kept role could not be taken up");
                }
            }
        }
    }

    fn expose_unchecked(&self, spec: ExposeSpec) -> Result<Kind, NodeError> {
        let bucket = self.bucket(&spec.service);
        let added = self.inner.exposes.add_unchecked(&spec, bucket.clone());
        added.map_err(|e| expose_error(&e))?;
        Ok(Kind::Expose { spec, bucket })
    }

    fn restore_ingress(&self, spec: IngressSpec) -> Result<Kind, NodeError> {
        let running = Arc::new(self.start_ingress(&spec)?);
        Ok(Kind::Ingress { spec, running })
    }

    fn start_ingress(&self, spec: &IngressSpec) -> Result<Ingress, NodeError> {
        let inner = &self.inner;
        let deps = Deps {
            tunnels: Arc::new(Outgoing {
                me: inner.id,
                driver: inner.driver.clone(),
                net: Arc::clone(&inner.net),
                exposes: inner.exposes.clone(),
            }),
            counters: inner.counters.clone(),
            clock: inner.clock.clone(),
            host_name: Some(inner.name.to_string()),
        };
        Ingress::start(spec.clone(), self.bucket(&spec.service), deps)
            .map_err(|e| ingress_error(&e))
    }

    async fn announce(&self, bucket: &Bucket, spec: &ExposeSpec, ready: bool) {
        let before = self.lock_roles().announced.insert(bucket.clone(), ready);
        if before == Some(ready) {
            return;
        }
        let inner = &self.inner;
        let record = ServiceRecord {
            name: inner.name.clone(),
            id: display_id(&inner.name, &inner.id),
            ready,
            target: spec.shown(),
            network_id: inner.network_id.clone(),
            protocol: spec.protocol,
            wants_client: spec.proxy_protocol.is_some(),
        };
        inner.driver.set_service(bucket.clone(), Some(record)).await;
    }

    fn exposed(&self, bucket: &Bucket) -> Option<ExposeSpec> {
        let roles = self.lock_roles();
        let mut specs = roles.taken.values().filter_map(|role| match &role.kind {
            Kind::Expose { spec, bucket: own } if own == bucket => Some(spec.clone()),
            _ => None,
        });
        specs.next()
    }

    async fn keep_role(&self, id: u64, spec: &RoleSpec) -> Result<(), NodeError> {
        let spec = serde_json::to_vec(spec).map_err(|e| NodeError::new("usage", e.to_string()))?;
        let kept = self
            .inner
            .store
            .commit(vec![Change::Role { id, spec }])
            .await;
        kept.map_err(|error| NodeError::new("store", error.to_string()))
    }

    fn insert(&self, number: u64, kept: bool, kind: Kind) -> RoleInfo {
        let ready = self.inner.exposes.readiness().borrow().clone();
        let role = Role { kept, kind };
        let info = role_info(number, &role, &ready);
        self.lock_roles().insert(number, role);
        info
    }

    /// Marked as changed whenever a role was taken or given up.
    pub(super) fn watch_roles(&self) -> watch::Receiver<()> {
        self.lock_roles().changed.subscribe()
    }

    fn refuse_when_leaving(&self) -> Result<(), NodeError> {
        if self.phase() >= Phase::Leaving {
            return Err(NodeError::new("refused", "the node is stopping"));
        }
        Ok(())
    }
}

fn role_info(id: u64, role: &Role, ready: &BTreeMap<Bucket, bool>) -> RoleInfo {
    let kind = match &role.kind {
        Kind::Expose { spec, bucket } => RoleKind::Expose {
            spec: spec.clone(),
            ready: ready.get(bucket).copied().unwrap_or(false),
        },
        Kind::Ingress { spec, running } => RoleKind::Ingress {
            spec: spec.clone(),
            listen: running.local_addr(),
        },
    };
    RoleInfo {
        id,
        kind,
        kept: role.kept,
    }
}

fn expose_error(error: &ExposeError) -> NodeError {
    match error {
        ExposeError::Taken { .. } => NodeError::new("in_use", error.to_string())
            .with_hint("`warren services --roles` lists it, `warren role rm ID` takes it away"),
        ExposeError::NoHeader => {
            NodeError::new("usage", error.to_string()).with_hint("leave the PROXY protocol out")
        }
        _ => NodeError::new("unreachable", error.to_string())
            .with_hint("start the server first; it must accept connections there"),
    }
}

fn ingress_error(error: &IngressError) -> NodeError {
    let code = match error {
        IngressError::Mode(_) | IngressError::NoTls | IngressError::Tls(_) => "usage",
        _ => "in_use",
    };
    NodeError::new(code, error.to_string()).with_hint(error.hint())
}
