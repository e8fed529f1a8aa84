//! `warren role rm ID`.

use serde::Serialize;
use warren::Client;

use super::args::RoleCommand;
use super::fail::Failure;
use super::output::Output;

#[derive(Serialize)]
struct Removed {
    removed: u64,
}

/// Takes a role away from the daemon.
pub(crate) async fn run(
    client: &Client,
    command: &RoleCommand,
    output: Output,
) -> Result<(), Failure> {
    let RoleCommand::Rm { id } = command;
    client.remove_role(*id).await?;
    match output.json {
        true => output.document(&Removed { removed: *id }),
        false => output.line(format!("role {id} is gone")),
    }
}
