//! `warren explorer`.

mod networks;
mod tokens;

use super::args::ExplorerCommand;
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// Runs a command of the explorer.
pub(crate) async fn run(
    command: ExplorerCommand,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    match command {
        ExplorerCommand::Tokens(command) => tokens::run(command, config, output).await,
    }
}
