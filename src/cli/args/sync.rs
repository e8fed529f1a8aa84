//! `explorer sync`.

use std::path::PathBuf;

use clap::Args;

use super::explorer::NetworkLimitArgs;
use super::roles::said;
use crate::config::{Layer, Span};

/// `explorer sync`.
#[derive(Args, Debug)]
pub(crate) struct SyncArgs {
    /// Look once at every network, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// LocalAI's explorer.json: taken in at start, kept up to date for others that read it
    #[arg(long, value_name = "FILE")]
    pool_database: Option<PathBuf>,
    /// Longest look at a network that answers; default 2m
    #[arg(long, value_name = "DURATION")]
    connection_timeout: Option<Span>,
    /// Looks in a row that see no worker before a network is hidden; default 3
    #[arg(long, value_name = "COUNT")]
    connection_error_threshold: Option<u64>,
    /// Networks looked at at once, 1 to 1000; default 32
    #[arg(long, value_name = "COUNT")]
    crawl_concurrency: Option<u64>,
    /// How long a network stays hidden before it is removed; default 168h
    #[arg(long, value_name = "DURATION")]
    delete_after: Option<Span>,
    /// Dial addresses that are not of the internet, too: for an explorer inside a private network
    #[arg(long)]
    allow_private: bool,
    #[command(flatten)]
    limits: NetworkLimitArgs,
}

impl SyncArgs {
    /// These flags as settings.
    pub(super) fn fill(&self, layer: &mut Layer) {
        layer.pool_database.clone_from(&self.pool_database);
        layer.connection_timeout = self.connection_timeout;
        layer.connection_error_threshold = self.connection_error_threshold;
        layer.crawl_concurrency = self.crawl_concurrency;
        layer.delete_after = self.delete_after;
        layer.allow_private = said(self.allow_private);
        self.limits.fill(layer);
    }
}
