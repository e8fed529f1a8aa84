//! The durable ledger, as the library shows it.

use crate::api::shapes::NodeError;
use crate::driver::{Driver, WriteError};
use crate::mesh::brain::DraftError;
use crate::mesh::entry::{Class, Entry};
use crate::mesh::name::Bucket;

/// The replicated map of a node's network. Clones are handles to the same map.
///
/// A slot is `(bucket, key, author)`: authors never overwrite each other, readers see all values.
/// What [`Ledger::put`] wrote is durable: on this disk when it returns, on every node's soon
/// after, and there until its author removes it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let node = warren::Node::builder().data_dir(dir.path()).found(true);
/// # let node = node.listen(vec!["127.0.0.1:0".parse()?]).start().await?;
/// let (ledger, notes) = (node.ledger(), "notes".parse()?);
/// ledger.put("notes".parse()?, "greeting".into(), b"hello".to_vec()).await?;
///
/// let values = ledger.get(&notes, "greeting").await?;
/// assert_eq!(values[0].value, b"hello");
/// assert_eq!(values[0].slot.author, node.id());
///
/// ledger.remove(notes.clone(), "greeting".into()).await?;
/// assert!(ledger.get(&notes, "greeting").await?.is_empty());
/// # node.shutdown(false).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Ledger {
    pub(super) driver: Driver,
}

impl Ledger {
    /// Writes this node's value. It is on disk when this returns, and on its way to the others.
    ///
    /// # Errors
    /// `usage` for a key or value outside the limits, `refused` when full, `store` when the disk
    /// does not take it.
    pub async fn put(
        &self,
        bucket: Bucket,
        key: String,
        value: Vec<u8>,
    ) -> Result<Entry, NodeError> {
        self.driver
            .write(bucket, key, Some(value))
            .await
            .map_err(to_error)
    }

    /// Removes this node's own value.
    ///
    /// # Errors
    /// `not_found` if this node has none there, and as [`Ledger::put`].
    pub async fn remove(&self, bucket: Bucket, key: String) -> Result<(), NodeError> {
        self.driver
            .write(bucket, key, None)
            .await
            .map(|_| ())
            .map_err(to_error)
    }

    /// Every author's value of a key, newest first; removed ones are left out.
    ///
    /// # Errors
    /// `refused` while the node stops.
    pub async fn get(&self, bucket: &Bucket, key: &str) -> Result<Vec<Entry>, NodeError> {
        let mut found = self.list(Some(bucket)).await?;
        found.retain(|entry| entry.slot.key == key);
        // "Newest" across authors is for display only: their clocks are their own (C23).
        found.sort_by_key(|entry| std::cmp::Reverse((entry.version, entry.slot.author)));
        Ok(found)
    }

    /// All entries by slot; removed ones, and live ones of nodes that are away, are left out.
    ///
    /// # Errors
    /// `refused` while the node stops.
    pub async fn list(&self, bucket: Option<&Bucket>) -> Result<Vec<Entry>, NodeError> {
        let bucket = bucket.cloned();
        let read = self.driver.read(move |brain| {
            let entries = brain.ledger().entries().filter(|entry| {
                let here = bucket
                    .as_ref()
                    .is_none_or(|bucket| entry.slot.bucket == *bucket);
                here && !entry.deleted && brain.is_current(entry)
            });
            entries.cloned().collect()
        });
        read.await.ok_or_else(stopping)
    }

    /// Everything durable, removed entries included, for export.
    ///
    /// # Errors
    /// `refused` while the node stops.
    pub async fn export(&self) -> Result<Vec<Entry>, NodeError> {
        let read = self.driver.read(|brain| {
            let durable = brain
                .ledger()
                .entries()
                .filter(|e| e.slot.class == Class::Durable);
            durable.cloned().collect()
        });
        read.await.ok_or_else(stopping)
    }

    /// Merges signed entries, all or nothing: how many were taken, how many known or older.
    ///
    /// # Errors
    /// Names the first entry that does not hold and its position.
    pub async fn import(&self, entries: Vec<Entry>) -> Result<(usize, usize), NodeError> {
        self.driver.import(entries).await.map_err(to_error)
    }
}

fn stopping() -> NodeError {
    NodeError::new("refused", "the node is stopping")
}

fn to_error(error: WriteError) -> NodeError {
    let code = match &error {
        WriteError::Draft(DraftError::Entry(_)) | WriteError::Import { .. } => "usage",
        WriteError::Draft(DraftError::Refused(_)) | WriteError::Stopped => "refused",
        WriteError::Store(_) => "store",
        WriteError::NotFound { .. } => "not_found",
    };
    let shown = NodeError::new(code, error.to_string());
    match code {
        "store" => shown.with_hint("`warren status` shows when the disk takes writes again"),
        _ => shown,
    }
}
