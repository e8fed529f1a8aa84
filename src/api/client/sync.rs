//! A pass of an explorer's crawler.

use http::Method;

use super::transport::{Patience, Request};
use super::{Client, ClientError, Lines};

impl Client {
    /// `POST /v1/networks/sync`: looks once at every network; lines of
    /// [`SyncLine`](crate::api::shapes::SyncLine). Dropping them ends it.
    ///
    /// # Errors
    /// `not_found` from a process that does not look at networks; see [`Client::status`].
    pub async fn sync_networks(&self) -> Result<Lines, ClientError> {
        let request = Request::new(Method::POST, "/v1/networks/sync");
        self.stream(request.patience(Patience::Slow)).await
    }
}
