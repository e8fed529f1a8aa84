//! Gives a role to the daemon that runs on the data directory, or becomes that daemon where
//! none does.

use warren::api::client::HoldEnd;
use warren::api::shapes::RoleSpec;
use warren::mesh::keys::NetworkKeys;
use warren::mesh::token::Token;
use warren::node::{RoleInfo, Status};
use warren::{Client, ClientError};

use super::daemon::{self, Plan};
use super::fail::Failure;
use super::output::Output;
use super::signals::Signals;
use crate::config::Config;

/// Flags that mean something to a daemon that already runs; the others are its own affair.
const FLAGS_WITH_EFFECT: &[&str] = &[
    "token",
    "token-file",
    "network-id",
    "print-ready",
    "address",
    "service",
    "random-worker",
    "target-worker",
    "mode",
    "failover",
    "flow-timeout",
    "proxy-protocol",
    "tls-cert",
    "tls-key",
    "tls-self-signed",
    "data-dir",
    "log-level",
    "log-format",
    "json",
];

/// A role command.
pub(crate) struct RoleCommand {
    /// What to take on.
    pub(crate) role: RoleSpec,
    /// Whether the daemon keeps it for good.
    pub(crate) bg: bool,
    /// See [`Plan::exit_with_stdin`].
    pub(crate) exit_with_stdin: bool,
}

/// Takes the role until this process is asked to end, or for good; returns the exit code.
pub(crate) async fn run(
    command: RoleCommand,
    config: &Config,
    output: Output,
) -> Result<u8, Failure> {
    match Client::connect(config.data_dir()?).await {
        Ok(client) => attach(&client, command, config, output).await,
        Err(missing @ ClientError::NoDaemon { .. }) if command.bg => Err(Failure::from(missing)
            .hint("--bg leaves the role with a daemon: run `warren up` first")),
        Err(ClientError::NoDaemon { .. }) => {
            let plan = Plan {
                found: false,
                role: Some(command.role),
                exit_with_stdin: command.exit_with_stdin,
            };
            Box::pin(daemon::run(config, plan, output)).await
        }
        Err(other) => Err(other.into()),
    }
}

async fn attach(
    client: &Client,
    command: RoleCommand,
    config: &Config,
    output: Output,
) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let status = client.status().await?;
    check_network(&status, config)?;
    for flag in config
        .flags
        .iter()
        .filter(|flag| !FLAGS_WITH_EFFECT.contains(flag))
    {
        tracing::warn!("--{flag} has no effect: the daemon already runs with its own settings");
    }
    if command.bg {
        let role = client.add_role(command.role, true).await?;
        print(&status, &role, true, config, output)?;
        return Ok(0);
    }
    let mut held = client.hold_role(command.role).await?;
    match print(&status, held.info(), false, config, output) {
        Err(Failure::OutputClosed) => {}
        other => other?,
    }
    tokio::select! {
        _ = signals.next() => Ok(0),
        end = held.ended() => match end? {
            HoldEnd::Removed => Err(Failure::failed("removed", "the role was taken away from the daemon")),
            HoldEnd::Stopping => Err(Failure::failed("stopped", "the daemon stopped, and the role with it")),
        },
    }
}

/// A role in the wrong network would offer a server to strangers.
fn check_network(status: &Status, config: &Config) -> Result<(), Failure> {
    if let Some(text) = config.token_text()? {
        let wanted = NetworkKeys::new(&Token::parse(text.expose())?).fingerprint();
        if wanted != status.network {
            let message = format!(
                "the daemon {} is in network {}, the token is of network {wanted}",
                status.name, status.network
            );
            return Err(Failure::failed("other_network", message)
                .hint("leave the token out, or choose another daemon with --data-dir"));
        }
    }
    let wanted = config.set.network_id.as_ref();
    if wanted.is_some() && wanted != status.network_id.as_ref() {
        let has = status.network_id.as_ref().map_or("none", |id| id.as_str());
        let message = format!("the daemon {} has network id {has}", status.name);
        return Err(Failure::failed("other_network", message)
            .hint("leave --network-id out, or restart the daemon with it"));
    }
    Ok(())
}

fn print(
    status: &Status,
    role: &RoleInfo,
    kept: bool,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    if config.set.print_ready == Some(true) {
        return daemon::print_ready(status, std::slice::from_ref(role), output);
    }
    if output.json {
        return output.document(role);
    }
    let line = daemon::role_line(role);
    output.line(format!("daemon {} {line}", status.name))?;
    output.line(match kept {
        true => format!("for good; `warren role rm {}` takes it away", role.id),
        false => "as long as this command runs".to_owned(),
    })
}
