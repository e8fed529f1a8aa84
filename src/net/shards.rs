//! The threads that carry bytes. One shard is the thread that everything else runs on, too. Of
//! several each has a thread with a runtime of its own, and on it the sockets, the connections
//! and the tunnels of its links: a tunnel crosses no thread. Everything else stays where it is.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::mesh::shard::{MAX_SHARDS, TASKS_BETWEEN_LOOKS};

/// How long the threads may take to end once they are told.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The runtimes of all shards. Dropped, it ends them.
pub struct Shards {
    /// By number, one or more.
    runtimes: Vec<Handle>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
    turn: AtomicUsize,
}

impl Shards {
    /// Starts so many threads, at most [`MAX_SHARDS`]; one shard is the runtime that this is
    /// called on, and needs no thread.
    ///
    /// # Errors
    /// The system has no thread or poller to give; none is left running.
    pub fn start(count: NonZeroU32) -> io::Result<Self> {
        let mut shards = Self {
            runtimes: Vec::new(),
            threads: Mutex::default(),
            stop: CancellationToken::new(),
            turn: AtomicUsize::new(0),
        };
        if count.get() == 1 {
            shards.runtimes.push(Handle::current());
            return Ok(shards);
        }
        for number in 0..count.get().min(MAX_SHARDS) {
            let (runtime, thread) = start(number, shards.stop.clone())?;
            shards.runtimes.push(runtime);
            shards.threads().push(thread);
        }
        Ok(shards)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.runtimes.len()).unwrap_or(MAX_SHARDS)
    }

    /// Every runtime with its number.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Handle)> {
        (0..).zip(&self.runtimes)
    }

    /// The runtime of a shard.
    pub(super) fn runtime(&self, shard: u32) -> &Handle {
        &self.runtimes[shard as usize % self.runtimes.len()]
    }

    /// The shard of the dials to `whom`, always the same.
    pub(super) fn of(&self, whom: &impl Hash) -> u32 {
        let mut hasher = DefaultHasher::new();
        whom.hash(&mut hasher);
        // Less than the number of shards.
        let shard = hasher.finish() % u64::from(self.count());
        u32::try_from(shard).unwrap_or_default()
    }

    /// The runtimes in turn, for work that belongs to none.
    pub(super) fn next(&self) -> &Handle {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.runtimes[turn % self.runtimes.len()]
    }

    /// Ends the threads. What still runs on them is dropped.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        let threads = std::mem::take(&mut *self.threads());
        if threads.is_empty() {
            return;
        }
        let joined = tokio::task::spawn_blocking(move || {
            // A panic ends its task, never the thread.
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        if tokio::time::timeout(END_LIMIT, joined).await.is_err() {
            tracing::warn!("a shard's thread did not end in time");
        }
    }

    /// No code panics while it holds this lock.
    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // Not waited for: what is dropped last may be a task on one of them.
        self.stop.cancel();
    }
}

fn start(number: u32, stop: CancellationToken) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread()
        .event_interval(TASKS_BETWEEN_LOOKS)
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let named = thread::Builder::new().name(format!("warren-shard-{number}"));
    let thread = named.spawn(move || {
        runtime.block_on(stop.cancelled());
        // A name that is just being looked up cannot be taken back.
        runtime.shutdown_background();
    })?;
    Ok((handle, thread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[tokio::test]
    async fn one_shard_is_the_thread_it_was_started_on() {
        let shards = Shards::start(count(1)).unwrap();
        let here = thread::current().id();
        let there = shards.runtime(0).spawn(async { thread::current().id() });
        assert_eq!(there.await.unwrap(), here);
        shards.end().await;
    }

    #[tokio::test]
    async fn each_of_several_has_a_thread_that_ends_with_what_runs_on_it() {
        let shards = Shards::start(count(3)).unwrap();
        let mut threads = HashSet::from([thread::current().id()]);
        let mut endless = Vec::new();
        for (number, runtime) in shards.all() {
            assert_eq!(shards.runtime(number).id(), runtime.id());
            let id = runtime.spawn(async { thread::current().id() });
            threads.insert(id.await.unwrap());
            endless.push(runtime.spawn(std::future::pending::<()>()));
        }
        assert_eq!(threads.len(), 4);
        shards.end().await;
        for task in endless {
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }

    #[tokio::test]
    async fn dials_of_one_peer_stay_on_a_shard_and_those_of_many_use_all() {
        let shards = Shards::start(count(4)).unwrap();
        let used: HashSet<u32> = (0..100).map(|peer| shards.of(&peer)).collect();
        assert_eq!(used, (0..4).collect());
        assert_eq!(shards.of(&7), shards.of(&7));
        assert_eq!(Shards::start(count(1_000)).unwrap().count(), MAX_SHARDS);
    }
}
