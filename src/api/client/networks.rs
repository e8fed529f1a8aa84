//! What a process is asked about the networks of its explorer.

use bytes::Bytes;
use http::Method;

use super::stream::Download;
use super::transport::{Patience, Request};
use super::{Client, ClientError};
use crate::api::shapes::{
    AddNetwork, EditNetwork, NetworkList, NetworkStored, NetworksImported, RemoveNetworks,
};
use crate::mesh::networks::{NetworkKey, Sort, State};
use crate::service::networks::ImportOptions;

impl Client {
    /// `GET /v1/networks`: what `explorer tokens ls` prints.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn networks(
        &self,
        sort: Sort,
        state: Option<State>,
    ) -> Result<NetworkList, ClientError> {
        self.call(list(sort, state)).await
    }

    /// The same as the bytes of its JSON, however many, and with the tokens if that is asked.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn networks_json(
        &self,
        sort: Sort,
        state: Option<State>,
        tokens: bool,
    ) -> Result<Download, ClientError> {
        let request = list(sort, state).query("tokens", &tokens.to_string());
        self.download(request).await
    }

    /// The networks as a file for LocalAI; with `all` also those whose token is not to be shown.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn networks_export(&self, all: bool) -> Result<Download, ClientError> {
        let request = Request::new(Method::GET, "/v1/networks/export");
        let request = request.query("all", &all.to_string());
        self.download(request.patience(Patience::Slow)).await
    }

    /// Takes in the text of LocalAI's file: all of it or nothing.
    ///
    /// # Errors
    /// `usage` for a document that cannot be read, naming the place; see [`Client::status`].
    pub async fn networks_import(
        &self,
        document: impl Into<Bytes>,
        options: ImportOptions,
    ) -> Result<NetworksImported, ClientError> {
        let request = Request::new(Method::POST, "/v1/networks/import").flags(&[
            ("skip_bad", options.read.skip_bad),
            ("replace", options.replace),
            ("dry_run", options.dry_run),
        ]);
        let request = request.bytes(document.into());
        self.call(request.patience(Patience::Long)).await
    }

    /// Adds a network: on disk when this returns.
    ///
    /// # Errors
    /// `usage` for what is no token, `exists`, `full`; see [`Client::status`].
    pub async fn network_add(&self, asked: &AddNetwork) -> Result<NetworkStored, ClientError> {
        let request = Request::new(Method::POST, "/v1/networks/add").json(asked)?;
        self.call(request.patience(Patience::Slow)).await
    }

    /// Changes what is said of a network.
    ///
    /// # Errors
    /// `not_found`; see [`Client::status`].
    pub async fn network_edit(&self, asked: &EditNetwork) -> Result<NetworkStored, ClientError> {
        let request = Request::new(Method::POST, "/v1/networks/edit").json(asked)?;
        self.call(request.patience(Patience::Slow)).await
    }

    /// Removes networks: all of them, or none.
    ///
    /// # Errors
    /// `not_found`; see [`Client::status`].
    pub async fn networks_remove(&self, removed: Vec<NetworkKey>) -> Result<(), ClientError> {
        let body = RemoveNetworks { removed };
        let request = Request::new(Method::POST, "/v1/networks/remove").json(&body)?;
        self.send(request.patience(Patience::Slow)).await
    }
}

fn list(sort: Sort, state: Option<State>) -> Request {
    let request = Request::new(Method::GET, "/v1/networks").query("sort", &sort.to_string());
    let request = match state {
        Some(state) => request.query("state", state.as_str()),
        None => request,
    };
    request.patience(Patience::Slow)
}
