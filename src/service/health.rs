//! Whether a server still accepts connections. Only connects: it sends nothing, so it cannot
//! disturb a server of any protocol.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;

use super::expose::Exposed;
use super::server::connect;

/// Between checks of a server that is well and that nobody uses.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// After a check has failed: a server that restarts is noticed soon.
const DOWN_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between checks of a server that is down.
const DOWN_MAX: Duration = Duration::from_secs(1);
/// How long one check may take. A frozen server with a full backlog never answers.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
/// Part of a pause by which it varies, so that the services of a node that restarted do not
/// check in step.
const JITTER: f64 = 0.2;

/// Checks for ever; calls `publish` on each change from `ready`.
pub(super) async fn watch(exposed: &Exposed, mut ready: bool, publish: impl Fn(bool)) {
    let mut pause = if ready { CHECK_EVERY } else { Duration::ZERO };
    loop {
        let failed = tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => false,
            // While it is down the pauses decide: failures then are no news.
            () = exposed.failed.notified(), if ready => true,
        };
        let used = exposed.used.swap(false, Ordering::Relaxed);
        let well = (used && !failed) || check(exposed).await;
        pause = match (ready, well) {
            (_, true) => CHECK_EVERY,
            (true, false) => DOWN_FIRST,
            (false, false) => (pause * 3 / 2).clamp(DOWN_FIRST, DOWN_MAX),
        };
        if well != ready {
            ready = well;
            publish(ready);
        }
    }
}

async fn check(exposed: &Exposed) -> bool {
    match connect(&exposed.target, CHECK_LIMIT).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(target = %exposed.target, %error, "health check failed");
            false
        }
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(1.0 - JITTER..1.0 + JITTER))
}
