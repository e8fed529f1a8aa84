//! `warren explorer`.

mod networks;
#[cfg(feature = "p2p")]
mod sync;
mod tokens;

use super::args::ExplorerCommand;
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// Runs a command of the explorer, and returns the exit code.
pub(crate) async fn run(
    command: ExplorerCommand,
    config: &Config,
    output: Output,
) -> Result<u8, Failure> {
    match command {
        ExplorerCommand::Tokens(command) => tokens::run(command, config, output).await.map(|()| 0),
        #[cfg(feature = "p2p")]
        ExplorerCommand::Sync(args) => sync::run(&args, config, output).await,
        #[cfg(not(feature = "p2p"))]
        ExplorerCommand::Sync(_) => Err(super::without_mesh()),
    }
}
