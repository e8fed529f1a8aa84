//! The one thread that writes: it owns the database and commits in groups.
//!
//! Whatever waits when it is free goes into one transaction, so a hundred commits at once cost
//! one sync of the disk. It sleeps without a timer while nothing waits. After an I/O error redb
//! refuses all further work until the file is opened again, so that is what the thread does:
//! with each commit that asks, and else at growing intervals.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::Database;
use tokio::sync::{oneshot, watch};

use super::batch::Batch;
use super::lock::DirLock;
use super::transaction::{probe, transact};
use super::{Health, StoreError};
use crate::mesh::id::NodeId;
use crate::mesh::name::Bucket;

/// Memory for write-behind changes, while the disk is slow or full. What does not fit is counted
/// and lost; counts of rows that are already waiting always fit.
const MAX_LATER_BYTES: usize = 16 * 1024 * 1024;
/// A disk counts as good again when it took as much as the write that failed, within these.
const PROBE_BYTES: (usize, usize) = (4 * 1024, 1024 * 1024);

type Reply = oneshot::Sender<Result<(), StoreError>>;
/// Opens the database again.
pub(super) type Opener = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

/// When the thread acts by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long write-behind changes wait for company. With the sync itself it must stay within
    /// the 100 ms that a `kill -9` may cost.
    pub(super) write_behind: Duration,
    /// First pause before the database is opened again; doubled with each failure. Also the
    /// least one while commits ask.
    pub(super) first_retry: Duration,
    /// Longest pause.
    pub(super) last_retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            write_behind: Duration::from_millis(80),
            first_retry: Duration::from_millis(100),
            last_retry: Duration::from_secs(10),
        }
    }
}

/// What the handles and the thread share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    health: watch::Sender<Health>,
    transactions: AtomicU64,
    lock: Mutex<Option<DirLock>>,
}

#[derive(Default)]
struct Queue {
    /// In the order in which they came: that is the order in which they are applied.
    items: VecDeque<Item>,
    /// Callers that wait for an item or for the end.
    waiting: usize,
    closing: Vec<Reply>,
    /// Nothing is taken any more.
    no_more: bool,
    /// The thread is gone: nobody would answer.
    ended: bool,
    later_bytes: usize,
    dropped: u64,
}

struct Item {
    batch: Batch,
    /// Who wants to know. Nobody for write-behind.
    reply: Option<Reply>,
}

impl Queue {
    fn is_urgent(&self) -> bool {
        self.waiting > 0 || self.no_more
    }

    fn is_idle(&self) -> bool {
        self.items.is_empty() && !self.no_more
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            health: watch::Sender::new(Health::Healthy),
            transactions: AtomicU64::new(0),
            lock: Mutex::new(None),
        }
    }

    /// Keeps the directory locked until the thread has closed the database.
    pub(super) fn hold(&self, lock: DirLock) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Transactions committed since the start.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    pub(super) fn with_lock<T>(&self, work: impl FnOnce(&DirLock) -> T) -> Option<T> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.as_ref().map(work)
    }

    /// Queues `batch`; the receiver hears when it is on disk.
    pub(super) fn commit(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let (reply, done) = oneshot::channel();
        let mut queue = self.queue();
        if queue.no_more {
            return Err(StoreError::Closed);
        }
        queue.waiting += 1;
        queue.items.push_back(Item {
            batch,
            reply: Some(reply),
        });
        self.wake.notify_one();
        Ok(done)
    }

    /// Queues `batch` for the next group.
    pub(super) fn later(&self, batch: Batch) {
        let mut queue = self.queue();
        if queue.no_more {
            return;
        }
        let Queue {
            items, later_bytes, ..
        } = &mut *queue;
        let idle = items.is_empty();
        let last = items.back_mut().filter(|item| item.reply.is_none());
        let fits = *later_bytes + batch.bytes() <= MAX_LATER_BYTES;
        match last {
            Some(last) if fits || last.batch.covers(&batch) => {
                let before = last.batch.bytes();
                last.batch.then(batch);
                *later_bytes = (*later_bytes + last.batch.bytes()).saturating_sub(before);
            }
            None if fits => {
                *later_bytes += batch.bytes();
                items.push_back(Item { batch, reply: None });
            }
            _ => {
                if queue.dropped == 0 {
                    tracing::warn!("the disk does not keep up: write-behind changes are lost");
                }
                queue.dropped += 1;
            }
        }
        // A thread that knows of work waits for company: waking it with each change would cost
        // every connection two switches of the processor.
        if idle {
            self.wake.notify_one();
        }
    }

    /// Adds to a count that waits for the next group; whether one does.
    pub(super) fn add(&self, bucket: &Bucket, node: &NodeId, add: u64) -> bool {
        let mut queue = self.queue();
        let last = queue.items.back_mut().filter(|item| item.reply.is_none());
        last.is_some_and(|item| item.batch.add(bucket, node, add))
    }

    /// Asks the thread to write what waits and to end; the receiver hears when it has.
    pub(super) fn close(&self) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, done) = oneshot::channel();
        let mut queue = self.queue();
        queue.no_more = true;
        if !queue.ended {
            queue.closing.push(reply);
        }
        self.wake.notify_one();
        done
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that runs under this lock leaves the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure, until it could be opened again.
    database: Option<Database>,
    open: Opener,
    /// Every request count, absolute. Rows get totals and not increments, so that a transaction
    /// that failed but reached the disk all the same is not counted twice.
    totals: BTreeMap<Vec<u8>, u64>,
    pace: Pace,
    /// The next pause.
    retry: Duration,
    probe_bytes: usize,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn spawn(
        shared: Arc<Shared>,
        database: Database,
        totals: BTreeMap<Vec<u8>, u64>,
        open: Opener,
        pace: Pace,
    ) -> std::io::Result<()> {
        let writer = Self {
            shared,
            database: Some(database),
            open,
            totals,
            pace,
            retry: pace.first_retry,
            probe_bytes: PROBE_BYTES.0,
        };
        std::thread::Builder::new()
            .name("warren-store".to_owned())
            .spawn(|| writer.run())
            .map(drop)
    }

    fn run(mut self) {
        loop {
            let (items, last) = self.next_group();
            let result = self.serve(items);
            if last {
                return self.end(&result);
            }
        }
    }

    /// Waits until there is something to do: a group, an attempt to recover, or the end.
    fn next_group(&self) -> (VecDeque<Item>, bool) {
        let Shared { wake, .. } = &*self.shared;
        let mut queue = self.shared.queue();
        if self.database.is_some() {
            queue = wake
                .wait_while(queue, |queue| queue.is_idle())
                .unwrap_or_else(PoisonError::into_inner);
            let company =
                wake.wait_timeout_while(queue, self.pace.write_behind, |queue| !queue.is_urgent());
            queue = company.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            // Opening may read the whole file: commits wait for each other, so that a stream of
            // them costs one attempt each `first_retry` and not one each.
            let first = self.pace.first_retry;
            let pause = wake.wait_timeout_while(queue, first, |queue| !queue.no_more);
            queue = pause.unwrap_or_else(PoisonError::into_inner).0;
            let rest = self.retry.saturating_sub(first);
            let pause = wake.wait_timeout_while(queue, rest, |queue| !queue.is_urgent());
            queue = pause.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.waiting = 0;
        queue.later_bytes = 0;
        (std::mem::take(&mut queue.items), queue.no_more)
    }

    /// Writes one group, opening the database first if need be, and tells everyone.
    fn serve(&mut self, items: VecDeque<Item>) -> Result<(), StoreError> {
        let result = self.ready().and_then(|()| self.write(&items));
        match &result {
            Ok(()) => {
                self.retry = self.pace.first_retry;
                self.probe_bytes = PROBE_BYTES.0;
            }
            Err(_) => {
                let bytes = items.iter().map(|item| item.batch.bytes()).sum::<usize>();
                self.probe_bytes = self.probe_bytes.max(bytes).min(PROBE_BYTES.1);
            }
        }
        self.report(&result);
        let mut kept = Batch::default();
        for item in items {
            match item.reply {
                // The caller may have stopped waiting.
                Some(reply) => drop(reply.send(result.clone())),
                None if result.is_err() => kept.then(item.batch),
                None => {}
            }
        }
        if !kept.is_empty() {
            let mut queue = self.shared.queue();
            queue.later_bytes += kept.bytes();
            queue.items.push_front(Item {
                batch: kept,
                reply: None,
            });
        }
        result
    }

    fn ready(&mut self) -> Result<(), StoreError> {
        if self.database.is_some() {
            return Ok(());
        }
        let bytes = self.probe_bytes;
        let opened = guarded(|| {
            let database = (self.open)()?;
            probe(&database, bytes).map_err(|error| StoreError::write(&error))?;
            Ok(database)
        });
        match opened {
            Ok(database) => {
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                self.retry = (self.retry * 2).min(self.pace.last_retry);
                Err(error)
            }
        }
    }

    fn write(&mut self, items: &VecDeque<Item>) -> Result<(), StoreError> {
        let Some(database) = &self.database else {
            return Err(StoreError::Closed);
        };
        if items.iter().all(|item| item.batch.is_empty()) {
            return Ok(());
        }
        let batches = items.iter().map(|item| &item.batch);
        let written = guarded(|| {
            transact(database, batches, &self.totals).map_err(|error| StoreError::write(&error))
        });
        match written {
            Ok(staged) => {
                self.shared.transactions.fetch_add(1, Ordering::Relaxed);
                if staged.forgotten {
                    self.totals.clear();
                }
                self.totals.extend(staged.totals);
                Ok(())
            }
            Err(error) => {
                let database = self.database.take();
                // Closing after a failure: redb writes nothing, and the next open repairs.
                let _ = guarded(|| {
                    drop(database);
                    Ok(())
                });
                Err(error)
            }
        }
    }

    fn report(&self, result: &Result<(), StoreError>) {
        let now = match result {
            Ok(()) => Health::Healthy,
            Err(error) => Health::Failing {
                reason: error.to_string(),
            },
        };
        let changed = self.shared.health.send_if_modified(|health| {
            let changed = *health != now;
            health.clone_from(&now);
            changed
        });
        match now {
            _ if !changed => {}
            Health::Healthy => {
                let lost = std::mem::take(&mut self.shared.queue().dropped);
                tracing::info!(lost, "the database takes writes again");
            }
            Health::Failing { reason } => tracing::warn!(%reason, "the database is not written"),
        }
    }

    /// Closes the database, then lets go of the directory, then says so.
    fn end(mut self, result: &Result<(), StoreError>) {
        let database = self.database.take();
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        let lock = &self.shared.lock;
        drop(lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        let closing = std::mem::take(&mut self.shared.queue().closing);
        for reply in closing {
            drop(reply.send(result.clone().and(closed.clone())));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // However the thread ends: who waits hears of it, because their senders go with these.
        let mut queue = self.shared.queue();
        queue.no_more = true;
        queue.ended = true;
        queue.items.clear();
        queue.closing.clear();
    }
}

/// A panic of the database must not end the thread: the next open repairs what it left.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(StoreError::Write {
            reason: "the database contradicts itself".to_owned(),
            hint: "it is opened and checked again; if this stays, restore it from a backup",
        })
    })
}
