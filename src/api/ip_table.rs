//! The list of the IP table, which the admin socket and the HTTP server answer alike.

use axum::response::Response;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::download;
use super::shapes::write_machines;
use crate::mesh::ip_table::Sort;
use crate::service::ip_table::IpTable;

/// What stands behind the `?`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    sort: Sort,
}

impl ListQuery {
    /// The rows of `table` as `iptable ls --json` shows them. The slot is free again when all is
    /// written.
    pub(super) fn answer(self, table: IpTable, slot: Option<OwnedSemaphorePermit>) -> Response {
        download::json(move |out| {
            let mut rows = table.rows();
            self.sort.sort(&mut rows);
            let written = write_machines(out, rows);
            drop(slot);
            written
        })
    }
}
