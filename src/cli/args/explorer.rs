//! `explorer`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use warren::mesh::addr::HostPort;
use warren::mesh::networks::{NetworkKey, Sort, State};

use super::{ServeArgs, SyncArgs};
use crate::config::{Bytes, Layer, SecretText};

/// What can be done with an explorer.
#[derive(Subcommand, Debug)]
pub(crate) enum ExplorerCommand {
    /// Serve the page and LocalAI's routes
    #[command(after_help = "Examples:
  warren explorer serve
  warren explorer serve --address 127.0.0.1:8080 --with-sync
  warren explorer serve --tls-cert cert.pem --tls-key key.pem --never-publish-tokens
  curl -H 'Content-Type: application/json' http://localhost:8080/network/add \\
      -d '{\"token\":\"warren1...\",\"name\":\"garage\",\"description\":\"three boxes\"}'

Ctrl-C or SIGTERM lets running requests finish; the exit code is then 0.")]
    Serve(ServeArgs),
    /// The networks that the explorer knows
    #[command(
        subcommand,
        after_help = "Examples:
  warren explorer tokens ls
  warren explorer tokens add --name garage --description 'three boxes' - < token.txt
  warren explorer tokens import explorer.json

Works with a process on the data directory, and without one."
    )]
    Tokens(TokensCommand),
    /// Look at the networks: who is there, and which workers
    #[command(after_help = "Examples:
  warren explorer sync --once
  warren explorer sync --once --json | jq -r '.networks[] | select(.workers > 0).name'
  warren explorer sync                       look whenever a network is due, until Ctrl-C

A look dials the addresses of a network's token, and those that were posted with it, but only
addresses of the internet unless --allow-private is given. It is no member of the network: nobody
lists it, and it can change nothing. A network none of whose addresses answers within 3 s has
failed, unless this machine may be offline: with nobody out there answering, nothing is counted.

--once looks at every network, due or not; through the process that has the data directory open,
if there is one, and then as that is configured. It ends with 1 if nothing could be found out
about any network; one that does not answer is a result.")]
    Sync(SyncArgs),
}

impl ExplorerCommand {
    /// Its flags as settings.
    pub(super) fn fill(&self, layer: &mut Layer) {
        match self {
            Self::Serve(args) => args.fill(layer),
            Self::Tokens(TokensCommand::Add(args)) => args.limits.fill(layer),
            Self::Tokens(TokensCommand::Import(args)) => args.limits.fill(layer),
            Self::Tokens(_) => {}
            Self::Sync(args) => args.fill(layer),
        }
    }
}

/// `explorer tokens`.
#[derive(Subcommand, Debug)]
pub(crate) enum TokensCommand {
    /// List networks
    #[command(after_help = "Examples:
  warren explorer tokens ls
  warren explorer tokens ls --state hidden --sort seen
  warren explorer tokens ls --show-tokens
  warren explorer tokens ls --json | jq -r '.networks[] | select(.failures > 0).fingerprint'

A network is new until a worker was seen online, active while one is, stale when the last look saw
none, and hidden after too many such looks. What a network says of its workers is its own claim.")]
    Ls(LsNetworksArgs),
    /// Add a network by its token
    #[command(after_help = "Examples:
  warren explorer tokens add warren1... --name garage --description 'three boxes'
  warren explorer tokens add --token-file token.txt --name garage --publish
  warren explorer tokens add --name lab --bootstrap 192.0.2.7:7717 - < token.txt

A token on the command line shows in the list of processes: prefer a file or standard input. Each
network is there once, however its token is spelt. A LocalAI token names no address: --bootstrap
does.")]
    Add(AddNetworkArgs),
    /// Change what is said of a network
    #[command(after_help = "Examples:
  warren explorer tokens edit abcdefghij234567 --name garage
  warren explorer tokens edit abcdefghij234567 --publish false
  warren explorer tokens edit abcdefghij234567 --bootstrap 192.0.2.7:7717")]
    Edit(EditNetworkArgs),
    /// Remove networks: all of those given, or none
    #[command(after_help = "Examples:
  warren explorer tokens rm abcdefghij234567

A removed network comes back only if somebody adds it again; the file of --pool-database does not
bring it back.")]
    Rm {
        /// As `explorer tokens ls` shows it
        #[arg(required = true, value_name = "FINGERPRINT")]
        networks: Vec<NetworkKey>,
    },
    /// Take in LocalAI's explorer.json: all of it, or nothing
    #[command(after_help = "Examples:
  warren explorer tokens import explorer.json
  warren explorer tokens import --dry-run --skip-bad explorer.json
  ssh old-host cat explorer.json | warren explorer tokens import -

A network that is known stays as it is. LocalAI checks of a token only that it is base64: real
files hold rows that are no tokens, and --skip-bad leaves them out. Their tokens are public, as
they are in LocalAI.")]
    Import(ImportNetworksArgs),
    /// Write LocalAI's explorer.json
    #[command(after_help = "Examples:
  warren explorer tokens export explorer.json
  warren explorer tokens export --all > backup.json

The same networks always give the same bytes. LocalAI shows every token of the file to everybody,
so networks whose poster did not agree to that are left out unless --all is given.")]
    Export(ExportNetworksArgs),
}

/// `explorer tokens ls`.
#[derive(Args, Debug)]
pub(crate) struct LsNetworksArgs {
    /// clusters, workers, name, seen or added
    #[arg(long, value_name = "BY", default_value_t)]
    pub(crate) sort: Sort,
    /// Only new, active, stale or hidden
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<State>,
    /// Show the tokens, which are the networks' secrets
    #[arg(long)]
    pub(crate) show_tokens: bool,
}

/// `explorer tokens add`.
#[derive(Args, Debug)]
pub(crate) struct AddNetworkArgs {
    /// The token; - reads standard input
    #[arg(
        id = "network_token",
        value_name = "TOKEN|-",
        required_unless_present = "network_token_file",
        conflicts_with = "network_token_file"
    )]
    pub(crate) token: Option<SecretText>,
    /// File with the token; - reads standard input
    #[arg(long = "token-file", id = "network_token_file", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What to call it
    #[arg(long, id = "network_name", value_name = "NAME", default_value = "")]
    pub(crate) name: String,
    /// What to say of it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) description: String,
    /// Where to reach it, besides what the token names; repeats
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Vec<HostPort>,
    /// Show its token to everybody
    #[arg(long)]
    pub(crate) publish: bool,
    #[command(flatten)]
    pub(crate) limits: NetworkLimitArgs,
}

/// How many networks are kept.
#[derive(Args, Debug, Default)]
pub(crate) struct NetworkLimitArgs {
    /// Most networks; default 20000
    #[arg(long, value_name = "COUNT")]
    max_networks: Option<u64>,
    /// Most bytes of all networks together: 500k, 64M, 1G; default 128M
    #[arg(long, value_name = "BYTES")]
    max_network_bytes: Option<Bytes>,
}

impl NetworkLimitArgs {
    /// These flags as settings.
    pub(super) fn fill(&self, layer: &mut Layer) {
        layer.max_networks = self.max_networks.or(layer.max_networks);
        layer.max_network_bytes = self.max_network_bytes.or(layer.max_network_bytes);
    }
}

/// `explorer tokens edit`.
#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("network_edits")
        .args(["edited_name", "description", "bootstrap", "no_bootstrap", "publish"])
        .required(true)
        .multiple(true)
))]
pub(crate) struct EditNetworkArgs {
    /// As `explorer tokens ls` shows it
    #[arg(value_name = "FINGERPRINT")]
    pub(crate) network: NetworkKey,
    /// What to call it
    #[arg(long, id = "edited_name", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What to say of it
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Where to reach it, besides what the token names, instead of what was given before; repeats
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Vec<HostPort>,
    /// Forget where to reach it, but for what the token names
    #[arg(long, conflicts_with = "bootstrap")]
    pub(crate) no_bootstrap: bool,
    /// Whether to show its token to everybody
    #[arg(long, value_name = "true|false")]
    pub(crate) publish: Option<bool>,
}

/// `explorer tokens import`.
#[derive(Args, Debug)]
pub(crate) struct ImportNetworksArgs {
    /// File; - reads standard input
    pub(crate) file: PathBuf,
    /// Leave bad rows out instead of refusing the document
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Forget every network that is not in it, and take its names and descriptions
    #[arg(long)]
    pub(crate) replace: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) limits: NetworkLimitArgs,
}

/// `explorer tokens export`.
#[derive(Args, Debug)]
pub(crate) struct ExportNetworksArgs {
    /// File; - or nothing writes standard output
    pub(crate) file: Option<PathBuf>,
    /// Also networks whose tokens are not to be shown to everybody
    #[arg(long)]
    pub(crate) all: bool,
}
