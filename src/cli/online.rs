//! The commands that need the mesh or a daemon, each on one runtime of one thread.

use warren::{Client, ClientError};
use zeroize::Zeroizing;

use super::args::Command;
use super::fail::Failure;
use super::output::Output;
use super::runtime::on_runtime;
use super::{
    bench, demo, drain, events, expose, federated, ingress, leave, ledger, nodes, ping, role,
    services, status, stop, up,
};
use crate::config::Config;

/// Runs a command and returns its exit code.
pub(crate) fn run(command: Command, config: &Config, output: Output) -> Result<u8, Failure> {
    on_runtime(Box::pin(start(command, config, output)))
}

async fn start(command: Command, config: &Config, output: Output) -> Result<u8, Failure> {
    match command {
        Command::Up(args) => return up::run(&args, config, output).await,
        Command::Join(args) => return up::join(&args, config, output).await,
        Command::Expose(args) => return expose::run(args, config, output).await,
        Command::Ingress(args) => return ingress::run(args, config, output).await,
        Command::Federated(args) => return federated::run(&args, config, output).await,
        Command::Demo(args) => return demo::run(&args, output).await,
        Command::Leave(ref args) => leave::check(args)?,
        _ => {}
    }
    let client = Client::connect(config.data_dir()?).await?;
    match command {
        Command::Status => status::run(&client, output).await,
        Command::Nodes(args) => nodes::run(&client, &args, output).await,
        Command::Services(args) => services::run(&client, &args, output).await,
        Command::Role(command) => role::run(&client, &command, output).await,
        Command::Ledger(command) => ledger::run(&client, command, output).await,
        Command::Ping(args) => ping::run(&client, &args, output).await,
        Command::Bench(args) => bench::run(&client, &args, output).await,
        Command::Events => events::run(&client, output).await,
        Command::Drain(args) => drain::run(&client, &args, output).await,
        Command::Leave(args) => leave::run(&client, &args, config, output).await,
        Command::Stop => stop::run(&client, config, output).await,
        _ => Ok(()),
    }
    .map(|()| 0)
}

/// The join token of the daemon on the data directory; `None` if none runs there.
pub(crate) fn running_token(config: &Config) -> Result<Option<Zeroizing<String>>, Failure> {
    on_runtime(async {
        match Client::connect(config.data_dir()?).await {
            Ok(client) => Ok(Some(client.join_token().await?)),
            Err(ClientError::NoDaemon { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    })
}
