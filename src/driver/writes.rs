//! The way of a value: signed, made durable, and only then merged, sent and acknowledged.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::turn::Turn;
use super::{Reply, WriteError};
use crate::mesh::brain::Compacted;
use crate::mesh::entry::{Class, Entry, Slot};
use crate::mesh::ledger::{Merge, Refusal};
use crate::mesh::name::Bucket;
use crate::store::{Change, StoreError};

/// Writes under way: when the store answers, the brain goes on.
pub(super) type Commit = BoxFuture<'static, (Committed, Result<(), StoreError>)>;

pub(super) enum Committed {
    Own(Entry, Reply<Result<Entry, WriteError>>),
    Compacted(Compacted),
    Import(Vec<Entry>, usize, Reply<Result<(usize, usize), WriteError>>),
}

impl Turn {
    /// Durable before acknowledged: the entry is signed, committed, and only then merged and sent.
    pub(super) fn write(
        &mut self,
        bucket: Bucket,
        key: String,
        value: Option<Vec<u8>>,
        reply: Reply<Result<Entry, WriteError>>,
    ) {
        if value.is_none() && !self.has_own(&bucket, &key) {
            let _ = reply.send(Err(WriteError::NotFound { bucket, key }));
            return;
        }
        match self.brain.draft(self.clock.now(), bucket, key, value) {
            Ok(entry) => {
                let change = Change::PutEntry(entry.clone());
                self.commit(vec![change], Committed::Own(entry, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(error.into()));
            }
        }
    }

    pub(super) fn has_own(&self, bucket: &Bucket, key: &str) -> bool {
        let slot = Slot {
            bucket: bucket.clone(),
            key: key.to_owned(),
            author: self.brain.me(),
            class: Class::Durable,
        };
        self.brain
            .ledger()
            .get(&slot)
            .is_some_and(|entry| !entry.deleted)
    }

    pub(super) fn import(
        &mut self,
        entries: Vec<Entry>,
        reply: Reply<Result<(usize, usize), WriteError>>,
    ) {
        match self.check_import(entries) {
            Ok((fresh, known)) => {
                let changes = fresh.iter().cloned().map(Change::PutEntry).collect();
                self.commit(changes, Committed::Import(fresh, known, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    pub(super) fn check_import(
        &self,
        entries: Vec<Entry>,
    ) -> Result<(Vec<Entry>, usize), WriteError> {
        let now = self.clock.now();
        let (mut fresh, mut known) = (Vec::new(), 0);
        for (index, entry) in entries.into_iter().enumerate() {
            let refuse = |cause: String| WriteError::Import {
                index,
                bucket: entry.slot.bucket.clone(),
                key: entry.slot.key.clone(),
                cause,
            };
            self.brain
                .verify(&entry)
                .map_err(|error| refuse(error.to_string()))?;
            if entry.slot.class != Class::Durable {
                return Err(refuse(
                    "it is a live entry; only durable ones are kept".to_owned(),
                ));
            }
            match self.brain.ledger().check(&entry, now) {
                Merge::Taken { .. } => fresh.push(entry),
                Merge::Known | Merge::Older => known += 1,
                Merge::NoRoom { .. } => return Err(refuse(Refusal::AuthorFull.to_string())),
                Merge::Refused(why) => return Err(refuse(why.to_string())),
            }
        }
        Ok((fresh, known))
    }

    pub(super) fn commit(&mut self, changes: Vec<Change>, what: Committed) {
        let store = self.store.clone();
        let done = async move { (what, store.commit(changes).await) };
        self.commits.push(done.boxed());
    }

    pub(super) fn committed(&mut self, what: Committed, result: Result<(), StoreError>) {
        let now = self.clock.now();
        match what {
            Committed::Own(entry, reply) => {
                let answer = result.map(|()| entry.clone()).map_err(WriteError::from);
                if answer.is_ok() {
                    self.brain.apply_own(now, entry);
                }
                let _ = reply.send(answer);
            }
            Committed::Compacted(compacted) => match result {
                Ok(()) => self.brain.apply_compaction(now, compacted),
                // Nothing is lost: the tombstones stay, and the next write tries again.
                Err(error) => tracing::warn!(%error, "tombstones could not be given up"),
            },
            Committed::Import(entries, known, reply) => {
                let answer = result
                    .map(|()| (entries.len(), known))
                    .map_err(WriteError::from);
                if answer.is_ok() {
                    for entry in entries {
                        self.brain.apply_own(now, entry);
                    }
                }
                let _ = reply.send(answer);
            }
        }
        self.compact();
    }

    /// Gives up the tombstones of this node when they outweigh what it keeps. A write that is on
    /// its way to the disk was signed with an older version than the floor would have: the last
    /// of them brings the next occasion.
    fn compact(&mut self) {
        if !self.commits.is_empty() {
            return;
        }
        match self.brain.compact(self.clock.now()) {
            Ok(Some(compacted)) => {
                let survivors = compacted.survivors.iter().cloned().map(Change::PutEntry);
                let floor = Change::PutFloor(compacted.floor);
                let changes = survivors.chain([floor]).collect();
                self.commit(changes, Committed::Compacted(compacted));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "tombstones could not be given up"),
        }
    }
}
