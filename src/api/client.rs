//! Asks a daemon through its admin socket. Keeps no connection and no secret between requests, so
//! one client outlives restarts of the daemon.

mod error;
mod ip_table;
mod networks;
mod stream;
mod sync;
mod transport;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::timeout_at;
use zeroize::Zeroizing;

#[cfg(doc)]
use super::shapes::Update;
use super::shapes::{
    Bench, BenchLine, BenchProgress, BenchRequest, DrainRequest, Imported, LedgerDocument,
    LedgerItem, LedgerList, LedgerValue, Nodes, PingRequest, Pong, RoleInfo, RoleRequest, RoleSpec,
    Roles, Services, Status, StopRequest,
};
use crate::clock;
use crate::mesh::name::Bucket;
pub use error::ClientError;
pub use stream::{Download, HeldRole, HoldEnd, Lines};
use transport::{Patience, Request};

/// A way to the daemon of one data directory. Dropping a future of a method here closes its
/// connection; what the daemon had begun by then it may finish.
#[derive(Clone, Debug)]
pub struct Client {
    data_dir: PathBuf,
}

impl Client {
    /// A client of the daemon that runs on `data_dir`, which answers at this moment.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] if none does, [`ClientError::Denied`] if we may not talk to it.
    pub async fn connect(data_dir: impl AsRef<Path>) -> Result<Self, ClientError> {
        let data_dir = data_dir.as_ref().to_owned();
        transport::check(&data_dir).await?;
        Ok(Self { data_dir })
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// As every method here: [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// `GET /v1/nodes`: what `nodes --json` prints.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn nodes(&self) -> Result<Nodes, ClientError> {
        self.get("/v1/nodes").await
    }

    /// `GET /v1/services`: what `services --json` prints.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn services(&self) -> Result<Services, ClientError> {
        self.get("/v1/services").await
    }

    /// `GET /v1/roles`: what `services --roles --json` prints.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn roles(&self) -> Result<Roles, ClientError> {
        self.get("/v1/roles").await
    }

    /// Gives the daemon a role that stays when this command ends; `keep` also stores it for the
    /// next start.
    ///
    /// # Errors
    /// `in_use`, `unreachable` and others of the node; see [`Client::status`].
    pub async fn add_role(&self, spec: RoleSpec, keep: bool) -> Result<RoleInfo, ClientError> {
        let body = RoleRequest {
            spec,
            keep,
            hold: false,
        };
        let request = Request::new(Method::POST, "/v1/roles").json(&body)?;
        self.call(request.patience(Patience::Slow)).await
    }

    /// Gives the daemon a role that ends when the result is dropped, or this process dies.
    ///
    /// # Errors
    /// As [`Client::add_role`].
    pub async fn hold_role(&self, spec: RoleSpec) -> Result<HeldRole, ClientError> {
        let body = RoleRequest {
            spec,
            keep: false,
            hold: true,
        };
        let request = Request::new(Method::POST, "/v1/roles").json(&body)?;
        let lines = self.stream(request.patience(Patience::Slow)).await?;
        HeldRole::start(lines).await
    }

    /// Takes a role away.
    ///
    /// # Errors
    /// `not_found` without such a role; see [`Client::status`].
    pub async fn remove_role(&self, id: u64) -> Result<(), ClientError> {
        let request = Request::new(Method::DELETE, &format!("/v1/roles/{id}"));
        self.send(request.patience(Patience::Slow)).await
    }

    /// What happens from now on, one JSON object per line: everything that happens after this
    /// method returns is in it.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn events(&self) -> Result<Lines, ClientError> {
        let lines = self.stream(Request::new(Method::GET, "/v1/events")).await?;
        lines.watching().await
    }

    /// Changes of the ledger from now on, of `bucket` or of all, one JSON object per line.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn watch_ledger(&self, bucket: Option<&Bucket>) -> Result<Lines, ClientError> {
        let mut request = Request::new(Method::GET, "/v1/ledger/watch");
        if let Some(bucket) = bucket {
            request = request.query("bucket", bucket.as_str());
        }
        self.stream(request).await?.watching().await
    }

    /// Every node, then each change of a node as it happens: lines that are an [`Update`].
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn watch_nodes(&self) -> Result<Lines, ClientError> {
        self.watch("nodes").await
    }

    /// Every service, then each change of a service as it happens: lines that are an [`Update`].
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn watch_services(&self) -> Result<Lines, ClientError> {
        self.watch("services").await
    }

    /// Entries of `bucket`, or all.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ledger(&self, bucket: Option<&Bucket>) -> Result<LedgerList, ClientError> {
        let mut request = Request::new(Method::GET, "/v1/ledger");
        if let Some(bucket) = bucket {
            request = request.query("bucket", bucket.as_str());
        }
        self.call(request).await
    }

    /// The newest value under a key, and the other authors'.
    ///
    /// # Errors
    /// `not_found` without a value; see [`Client::status`].
    pub async fn ledger_get(&self, bucket: &Bucket, key: &str) -> Result<LedgerValue, ClientError> {
        self.call(entry_request(Method::GET, bucket, key)).await
    }

    /// Writes this node's value; durable when it returns.
    ///
    /// # Errors
    /// `usage` for a key or value outside the limits, `store`; see [`Client::status`].
    pub async fn ledger_put(
        &self,
        bucket: &Bucket,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Result<LedgerItem, ClientError> {
        let request = entry_request(Method::PUT, bucket, key).bytes(value.into());
        self.call(request).await
    }

    /// Removes this node's value.
    ///
    /// # Errors
    /// `not_found` if this node has none there; see [`Client::status`].
    pub async fn ledger_remove(&self, bucket: &Bucket, key: &str) -> Result<(), ClientError> {
        self.send(entry_request(Method::DELETE, bucket, key)).await
    }

    /// Everything durable, with signatures.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ledger_export(&self) -> Result<LedgerDocument, ClientError> {
        let request = Request::new(Method::GET, "/v1/ledger/export");
        self.call(request.patience(Patience::Slow)).await
    }

    /// Takes in the text of a [`LedgerDocument`]: all of it or nothing.
    ///
    /// # Errors
    /// `usage` for a document that cannot be read, naming the place; see [`Client::status`].
    pub async fn ledger_import(&self, document: impl Into<Bytes>) -> Result<Imported, ClientError> {
        let request = Request::new(Method::POST, "/v1/ledger/import").bytes(document.into());
        self.call(request.patience(Patience::Slow)).await
    }

    /// One round trip over the mesh to `node`: id, prefix, name, or `<name>-<short id>`.
    ///
    /// # Errors
    /// `not_found`, `ambiguous`, `unreachable`; see [`Client::status`].
    pub async fn ping(&self, node: &str) -> Result<Pong, ClientError> {
        let node = node.to_owned();
        let request = Request::new(Method::POST, "/v1/ping").json(&PingRequest { node })?;
        self.call(request.patience(Patience::Slow)).await
    }

    /// Measures the way to `request.node`; `progress` is told how far it is. Dropping the future
    /// ends the measurement.
    ///
    /// # Errors
    /// `not_found`, `ambiguous`, `unreachable`, `refused`, `usage`; see [`Client::status`].
    pub async fn bench(
        &self,
        request: &BenchRequest,
        mut progress: impl FnMut(BenchProgress),
    ) -> Result<Bench, ClientError> {
        let request = Request::new(Method::POST, "/v1/bench").json(request)?;
        let mut lines = self.stream(request.patience(Patience::Slow)).await?;
        while let Some(line) = lines.next_as().await? {
            match line {
                BenchLine::Progress(so_far) => progress(so_far),
                BenchLine::Bench(bench) => return Ok(bench),
                BenchLine::Error(error) => return Err(ClientError::Refused(error)),
            }
        }
        Err(ClientError::Lost)
    }

    /// Asks others to stop, or again start, choosing the daemon's node.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn drain(&self, on: bool) -> Result<(), ClientError> {
        let request = Request::new(Method::POST, "/v1/drain").json(&DrainRequest { on })?;
        self.send(request.patience(Patience::Slow)).await
    }

    /// Begins to leave the network: announces it, drains, forgets token and peers, ends. Returns
    /// as soon as it has begun; [`Client::wait_gone`] waits for the end.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn leave(&self) -> Result<(), ClientError> {
        self.send(Request::new(Method::POST, "/v1/leave")).await
    }

    /// Begins to stop the daemon, draining unless `now`. Returns as soon as it has begun;
    /// [`Client::wait_gone`] waits for the end.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn stop(&self, now: bool) -> Result<(), ClientError> {
        let request = Request::new(Method::POST, "/v1/stop").json(&StopRequest { now })?;
        self.send(request).await
    }

    /// Waits until no daemon answers on the socket, at most `limit`; whether that came.
    pub async fn wait_gone(&self, limit: Duration) -> bool {
        let end = clock::deadline(limit);
        // A stream ends with its daemon, however that ends. What is left to wait for is the end of
        // the socket, a moment later.
        let ended = async {
            if let Ok(mut events) = self.events().await {
                while let Ok(Some(_)) = events.next().await {}
            }
        };
        // Whether that was in time is seen below.
        let _ = timeout_at(end, ended).await;
        transport::wait_gone(&self.data_dir, end).await
    }

    /// The token that lets another machine join the daemon's network.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn join_token(&self) -> Result<Zeroizing<String>, ClientError> {
        let answer =
            transport::call(&self.data_dir, Request::new(Method::GET, "/v1/token")).await?;
        let token = String::from_utf8(answer).map_err(|_| ClientError::Protocol {
            what: "the token is not text".into(),
        })?;
        Ok(Zeroizing::new(token))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Request::new(Method::GET, path)).await
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, ClientError> {
        let answer = transport::call(&self.data_dir, request).await?;
        stream::parse(&answer)
    }

    async fn send(&self, request: Request) -> Result<(), ClientError> {
        transport::call(&self.data_dir, request).await.map(drop)
    }

    async fn watch(&self, kind: &str) -> Result<Lines, ClientError> {
        let request = Request::new(Method::GET, "/v1/events").query("kind", kind);
        self.stream(request).await?.watching().await
    }

    async fn stream(&self, request: Request) -> Result<Lines, ClientError> {
        let (body, connection) = transport::open(&self.data_dir, request).await?;
        Ok(Lines::new(body, connection))
    }
}

fn entry_request(method: Method, bucket: &Bucket, key: &str) -> Request {
    Request::new(method, "/v1/ledger/entry")
        .query("bucket", bucket.as_str())
        .query("key", key)
        .patience(Patience::Slow)
}
