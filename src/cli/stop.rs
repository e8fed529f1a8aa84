//! `warren stop`.

use std::time::Duration;

use serde::Serialize;
use warren::Client;

use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// What the end of a daemon takes after its drain, at most.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Stopped {
    stopped: bool,
}

/// Ends the daemon and waits until it is gone.
pub(crate) async fn run(client: &Client, config: &Config, output: Output) -> Result<(), Failure> {
    client.stop(false).await?;
    wait(client, config).await?;
    match output.json {
        true => output.document(&Stopped { stopped: true }),
        false => output.line("stopped"),
    }
}

/// Waits for the end of a daemon that was asked to end.
pub(crate) async fn wait(client: &Client, config: &Config) -> Result<(), Failure> {
    // The daemon may have been started with another limit; ours is what we can know.
    let limit = config.drain_timeout() + GRACE;
    if client.wait_gone(limit).await {
        return Ok(());
    }
    let message = format!("the daemon still runs after {} s", limit.as_secs());
    Err(Failure::failed("timeout", message).hint(
        "it may have been started with a longer --drain-timeout; a second SIGTERM ends it at once",
    ))
}
