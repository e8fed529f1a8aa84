//! The runtime of a command: one thread.

use std::future::Future;

use warren::mesh::shard::TASKS_BETWEEN_LOOKS;

use super::fail::Failure;

/// Runs `work` to its end.
pub(crate) fn on_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .event_interval(TASKS_BETWEEN_LOOKS)
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // Reads of standard input cannot be taken back; the process must not wait for them.
    runtime.shutdown_background();
    done
}
