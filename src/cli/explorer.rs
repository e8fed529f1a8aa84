//! `warren explorer`.

mod networks;
mod serve;
#[cfg(feature = "p2p")]
mod sync;
mod tokens;

use super::args::{ExplorerArgs, ExplorerCommand};
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// Runs a command of the explorer, and returns the exit code.
pub(crate) async fn run(
    args: ExplorerArgs,
    config: &Config,
    output: Output,
) -> Result<u8, Failure> {
    match args.command {
        None => serve::run(&args.serve, config, output).await,
        Some(ExplorerCommand::Serve(serve)) => serve::run(&serve, config, output).await,
        Some(ExplorerCommand::Tokens(command)) => {
            tokens::run(command, config, output).await.map(|()| 0)
        }
        #[cfg(feature = "p2p")]
        Some(ExplorerCommand::Sync(args)) => sync::run(&args, config, output).await,
        #[cfg(not(feature = "p2p"))]
        Some(ExplorerCommand::Sync(_)) => Err(super::without_mesh()),
    }
}
