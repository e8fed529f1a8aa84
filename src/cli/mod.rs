//! The command line: [`args`] says what there is, one file per command does it: parse, call,
//! print. No command decides anything about the mesh.

mod args;
mod completions;
mod confirm;
mod explorer;
mod fail;
mod files;
mod iptable;
mod logging;
mod orphaned;
mod output;
mod progress;
mod reach;
mod runtime;
mod token;

#[cfg(feature = "p2p")]
mod attach;
#[cfg(feature = "p2p")]
mod bench;
#[cfg(feature = "p2p")]
mod daemon;
#[cfg(feature = "p2p")]
mod demo;
#[cfg(feature = "p2p")]
mod drain;
#[cfg(feature = "p2p")]
mod events;
#[cfg(feature = "p2p")]
mod expose;
#[cfg(feature = "p2p")]
mod federated;
#[cfg(feature = "p2p")]
mod ingress;
#[cfg(feature = "p2p")]
mod leave;
#[cfg(feature = "p2p")]
mod ledger;
#[cfg(feature = "p2p")]
mod nodes;
#[cfg(feature = "p2p")]
mod online;
#[cfg(feature = "p2p")]
mod ping;
mod redraw;
#[cfg(feature = "p2p")]
mod role;
#[cfg(feature = "p2p")]
mod services;
mod signals;
#[cfg(feature = "p2p")]
mod status;
#[cfg(feature = "p2p")]
mod stop;
mod supervisor;
mod tls;
#[cfg(feature = "p2p")]
mod up;
#[cfg(feature = "p2p")]
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use crate::config::{Config, EnvScope};
use args::{Cli, Command};
use fail::{EXIT_USAGE, Failure};
use output::Output;

/// Name of the file in the data directory with the network's token.
const TOKEN_FILE: &str = "token";

/// Reads the command line and the configuration, runs the command, and says how it went.
pub(crate) fn main() -> ExitCode {
    logging::expect_damage();
    let given: Vec<OsString> = std::env::args_os().collect();
    let parsed = args::command().try_get_matches_from(&given);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(refused) => return ExitCode::from(report_usage(&refused, asks_json(&given))),
    };
    let (json, done) = configure_and_run(cli);
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(failure.report(json)),
    }
}

fn configure_and_run(cli: Cli) -> (bool, Result<u8, Failure>) {
    let flags = cli.layer();
    let json_flag = flags.json == Some(true);
    let scope = match &cli.command {
        Command::Federated(_) => EnvScope::Federated,
        Command::Explorer(_) => EnvScope::Explorer,
        _ => EnvScope::Prefixed,
    };
    let vars = match variables() {
        Ok(vars) => vars,
        Err(failure) => return (json_flag, Err(failure)),
    };
    let config = match Config::load(flags, cli.common.config.clone(), &vars, scope) {
        Ok(config) => config,
        Err(refused) => return (json_flag, Err(refused.into())),
    };
    let json = config.set.json.unwrap_or(false);
    let becomes_daemon = matches!(
        cli.command,
        Command::Up(_)
            | Command::Join(_)
            | Command::Expose(_)
            | Command::Ingress(_)
            | Command::Federated(_)
    ) || matches!(&cli.command, Command::Explorer(args) if args.is_server());
    logging::open(
        &config,
        if becomes_daemon {
            "warn,warren=info"
        } else {
            "warn"
        },
    );
    // Commands that only ask the daemon do not use what the notices are about.
    if becomes_daemon || matches!(cli.command, Command::Token(_) | Command::Demo(_)) {
        logging::tell(&config.notices);
    }
    (json, dispatch(cli, &config, Output { json }))
}

fn dispatch(cli: Cli, config: &Config, output: Output) -> Result<u8, Failure> {
    match cli.command {
        Command::Completions(args) => completions::run(args.shell, output).map(|()| 0),
        Command::Token(command) => token::run(command, config, output).map(|()| 0),
        Command::Iptable(command) => {
            let run = Box::pin(iptable::run(command, config, output));
            runtime::on_runtime(run).map(|()| 0)
        }
        Command::Explorer(args) => {
            let run = Box::pin(explorer::run(args, config, output));
            runtime::on_runtime(run)
        }
        #[cfg(feature = "p2p")]
        command => online::run(command, config, output),
        #[cfg(not(feature = "p2p"))]
        _ => Err(without_mesh()),
    }
}

/// Answer to every command that needs the mesh.
#[cfg(not(feature = "p2p"))]
fn without_mesh() -> Failure {
    Failure::failed(
        "no_p2p",
        "this warren was built without the mesh (cargo feature `p2p`)",
    )
    .hint("use a build with default features; token, iptable, explorer without sync, completions and help work in this one")
}

/// The environment as text. Values that are not text are passed over, unless the name is ours.
fn variables() -> Result<BTreeMap<String, String>, Failure> {
    let mut vars = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().map(str::to_owned) else {
            continue;
        };
        match value.into_string() {
            Ok(value) => {
                vars.insert(name, value);
            }
            Err(_) if name.starts_with("WARREN_") => {
                return Err(Failure::usage(format!(
                    "environment variable {name}: the value is not UTF-8 text"
                )));
            }
            Err(_) => {}
        }
    }
    Ok(vars)
}

/// Whether the arguments ask for JSON although they could not be parsed.
fn asks_json(given: &[OsString]) -> bool {
    given
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json")
}

fn report_usage(refused: &clap::Error, json: bool) -> u8 {
    let is_answer = matches!(
        refused.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if is_answer || !json {
        // A reader that is gone has read what it wanted.
        let _ = refused.print();
        return if is_answer { 0 } else { EXIT_USAGE };
    }
    let text = refused.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    let hint = lines
        .find_map(|line| line.strip_prefix("tip: "))
        .unwrap_or("see `warren --help`");
    Failure::usage(message).hint(hint).report(true)
}
