//! What the daemon is asked about its IP table.

use bytes::Bytes;
use http::Method;

use super::stream::{Download, Lines};
use super::transport::{self, Patience, Request};
use super::{Client, ClientError};
#[cfg(doc)]
use crate::api::shapes::ProbeLine;
use crate::api::shapes::{
    AddMachine, Annotate, MachineAdded, Machines, ProbeRequest, PruneRequest, Pruned,
    RemoveMachines, TableImported,
};
use crate::formats::iptable::Profile;
use crate::mesh::ip_table::Sort;
use crate::mesh::name::Name;
use crate::service::ip_table::ImportOptions;

impl Client {
    /// `GET /v1/iptable`: what `iptable ls` prints.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ip_table(&self, sort: Sort) -> Result<Machines, ClientError> {
        self.call(list(sort)).await
    }

    /// The same as the bytes of its JSON, however many.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ip_table_json(&self, sort: Sort) -> Result<Download, ClientError> {
        self.download(list(sort)).await
    }

    /// The table as a file for P2PRC.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ip_table_export(&self, format: Profile) -> Result<Download, ClientError> {
        let request = Request::new(Method::GET, "/v1/iptable/export");
        let request = request.query("format", &format.to_string());
        self.download(request.patience(Patience::Slow)).await
    }

    /// Takes in the text of a table: all of it or nothing.
    ///
    /// # Errors
    /// `usage` for a document that cannot be read, naming the place; see [`Client::status`].
    pub async fn ip_table_import(
        &self,
        document: impl Into<Bytes>,
        options: ImportOptions,
    ) -> Result<TableImported, ClientError> {
        let request = Request::new(Method::POST, "/v1/iptable/import").flags(&[
            ("lenient", options.read.lenient),
            ("skip_bad", options.read.skip_bad),
            ("replace", options.replace),
            ("dry_run", options.dry_run),
        ]);
        let request = request.bytes(document.into());
        self.call(request.patience(Patience::Slow)).await
    }

    /// Adds a machine; with `replace` all other rows of the user go.
    ///
    /// # Errors
    /// `usage` for what is no address; see [`Client::status`].
    pub async fn ip_table_add(
        &self,
        address: String,
        name: Option<Name>,
        replace: bool,
    ) -> Result<MachineAdded, ClientError> {
        let body = AddMachine {
            address,
            name,
            replace,
        };
        let request = Request::new(Method::POST, "/v1/iptable/rows").json(&body)?;
        self.call(request.patience(Patience::Slow)).await
    }

    /// Removes machines: all of them, or none.
    ///
    /// # Errors
    /// `not_found`; see [`Client::status`].
    pub async fn ip_table_remove(&self, addresses: Vec<String>) -> Result<(), ClientError> {
        let body = RemoveMachines { addresses };
        let request = Request::new(Method::POST, "/v1/iptable/remove").json(&body)?;
        self.send(request.patience(Patience::Slow)).await
    }

    /// Removes machines that are unreachable.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ip_table_prune(&self, asked: PruneRequest) -> Result<Pruned, ClientError> {
        let request = Request::new(Method::POST, "/v1/iptable/prune").json(&asked)?;
        self.call(request.patience(Patience::Slow)).await
    }

    /// Asks machines whether they answer, and how fast: lines that are a [`ProbeLine`]. Dropping
    /// them ends the probe.
    ///
    /// # Errors
    /// `usage`, `not_found`; see [`Client::status`].
    pub async fn ip_table_probe(&self, request: &ProbeRequest) -> Result<Lines, ClientError> {
        let request = Request::new(Method::POST, "/v1/iptable/probe").json(request)?;
        self.stream(request.patience(Patience::Slow)).await
    }

    /// Says something of the daemon's node, for all to see.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn ip_table_annotate(
        &self,
        text: String,
        address: Option<String>,
    ) -> Result<(), ClientError> {
        let body = Annotate { text, address };
        let request = Request::new(Method::POST, "/v1/iptable/annotate").json(&body)?;
        self.send(request.patience(Patience::Slow)).await
    }

    pub(super) async fn download(&self, request: Request) -> Result<Download, ClientError> {
        let (body, connection) = transport::open(&self.data_dir, request).await?;
        Ok(Download::new(body, connection))
    }
}

fn list(sort: Sort) -> Request {
    let request = Request::new(Method::GET, "/v1/iptable");
    request
        .query("sort", &sort.to_string())
        .patience(Patience::Slow)
}
