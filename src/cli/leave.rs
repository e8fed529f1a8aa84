//! `warren leave`: the one command that forgets something, so it asks.

use std::io::{self, IsTerminal};

use serde::Serialize;
use warren::Client;

use super::args::LeaveArgs;
use super::confirm::confirm;
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

#[derive(Serialize)]
struct Left {
    left: String,
}

/// Leaves the network and ends the daemon.
pub(crate) async fn run(
    client: &Client,
    args: &LeaveArgs,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    let network = client.status().await?.network;
    if !args.yes && !confirm(&format!("Leave network {network} and forget its token?"))? {
        return Err(Failure::failed("refused", "nothing was done"));
    }
    client.leave().await?;
    super::stop::wait(client, config).await?;
    match output.json {
        true => output.document(&Left { left: network }),
        false => output.line(format!("left network {network}; the identity stays")),
    }
}

/// Refuses to go on where nobody can be asked; before anything is asked of a daemon.
pub(crate) fn check(args: &LeaveArgs) -> Result<(), Failure> {
    if args.yes || io::stdin().is_terminal() {
        return Ok(());
    }
    let message = "leaving forgets the network's token, and nobody is here to ask";
    Err(Failure::usage(message).hint("add --yes"))
}
