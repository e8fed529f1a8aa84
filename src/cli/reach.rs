//! What a command works on: the process that has the data directory open, or the directory itself
//! where none does.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use warren::api::client::Download;
use warren::api::shapes::NodeError;
use warren::clock::{self, Clock};
use warren::{Client, ClientError};

use super::fail::Failure;

/// How long another process may have the directory without answering: a daemon that starts or
/// ends, or a command like this one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked again.
const PAUSE: Duration = Duration::from_millis(50);

/// What was reached.
pub(crate) enum Reach<T> {
    /// A process has it.
    Daemon(Client),
    /// None does: the directory is locked by this command.
    Here(T),
    /// There is none yet, and none is made to read it.
    None,
}

/// Reaches what `open` opens in `dir` at a time in milliseconds since the Unix epoch. Where no
/// process has the directory, that is done only if `may_open`.
pub(crate) async fn reach<T>(
    dir: &Path,
    may_open: bool,
    open: impl Fn(u64) -> Result<T, NodeError>,
) -> Result<Reach<T>, Failure> {
    let end = clock::deadline(PATIENCE);
    loop {
        match Client::connect(dir).await {
            Ok(client) => return Ok(Reach::Daemon(client)),
            Err(ClientError::NoDaemon { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        if !may_open {
            return Ok(Reach::None);
        }
        match open(Clock::default().now().unix_ms) {
            Ok(opened) => return Ok(Reach::Here(opened)),
            Err(error) if error.code == "in_use" && clock::instant() < end => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a long answer as it comes.
pub(crate) async fn copy(mut from: Download, out: &mut impl Write) -> Result<(), Failure> {
    while let Some(bytes) = from.next().await? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}
