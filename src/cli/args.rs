//! The command line as types: names, flags, help. No command runs here.

mod explorer;
mod iptable;
mod roles;
mod serve;
mod sync;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use warren::mesh::name::Bucket;

use crate::config::{Bytes, Layer, Listen, LogFilter, LogFormat, SecretText, Span};
pub(crate) use explorer::{
    AddNetworkArgs, EditNetworkArgs, ExplorerCommand, ExportNetworksArgs, ImportNetworksArgs,
    LsNetworksArgs, TokensCommand,
};
pub(crate) use iptable::{ExportArgs, ImportArgs, IpTableCommand, ProbeArgs};
use roles::said;
pub(crate) use roles::{ExposeArgs, FederatedArgs, IngressArgs, JoinArgs, NodeArgs};
pub(crate) use serve::{ExplorerArgs, ServeArgs};
pub(crate) use sync::SyncArgs;

/// A private mesh for machines that serve AI models.
///
/// One token joins machines to a network; each offers its servers to it, and one address on any
/// machine uses them all.
#[derive(Parser, Debug)]
#[command(
    name = "warren",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    max_term_width = 100,
    after_help = "Examples:
  warren demo                                see a whole mesh on this machine
  warren up                                  start a network; prints the line that joins it
  warren join warren1...                     join from another machine
  warren expose federated 127.0.0.1:8000     offer the model server that runs there
  warren federated --address :8080           one address for all of them

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon reachable."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Args, Debug, Default)]
pub(crate) struct Common {
    /// Where identity, token and store live; also which daemon a command talks to
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global")]
    data_dir: Option<PathBuf>,
    /// Config file; default warren.toml in the configuration directory
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global")]
    pub(crate) config: Option<PathBuf>,
    /// One JSON document on stdout, errors included
    #[arg(long, global = true, help_heading = "Global")]
    json: bool,
    /// off, error, warn, info, debug, trace, or directives such as warn,warren::net=debug
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Global")]
    log_level: Option<LogFilter>,
    /// How log lines on stderr look
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Global")]
    log_format: Option<LogFormat>,
}

/// Every command.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// The whole mesh on this machine, to see it work
    #[command(after_help = "Examples:
  warren demo
  warren demo --nodes 5")]
    Demo(DemoArgs),
    /// Run the daemon; without a token anywhere, start a new network
    #[command(after_help = "Examples:
  warren up
  warren up --name atlas --expose federated=127.0.0.1:8000
  warren up --token-file /etc/warren/token --listen :7717 --print-ready
  warren up --p2prc-http :8088               exchange tables with P2PRC nodes
  warren up --p2prc-http :8088 --frps /usr/bin/frps      be a relay for them
  warren up --iptable-refresh 5m --iptable-prune-after 24h   keep the IP table fresh

Ctrl-C or SIGTERM announces the departure and drains; the exit code is then 0.
A second signal ends at once, with 130 or 143.")]
    Up(NodeArgs),
    /// Run the daemon in the network of a token
    #[command(after_help = "Examples:
  warren join warren1...
  warren join - < token.txt")]
    Join(JoinArgs),
    /// Offer a server to the network
    #[command(after_help = "Examples:
  warren expose federated 127.0.0.1:8000
  warren expose chat localhost:11434 --bg
  warren expose web 127.0.0.1:80 --proxy-protocol v2    tell the server who its clients are
  warren expose dns udp:127.0.0.1:53                    datagrams

With a daemon on the data directory the service lives as long as this command, or for good
with --bg; otherwise this command is the daemon.")]
    Expose(ExposeArgs),
    /// Listen on this machine for a service of the network
    #[command(after_help = "Examples:
  warren ingress chat 127.0.0.1:9000
  warren ingress chat :9000 --random-worker --bg
  warren ingress dns udp:127.0.0.1:5353                 datagrams
  warren ingress game udp::27015 --flow-timeout 5m")]
    Ingress(IngressArgs),
    /// One address for all servers exposed as a service (LocalAI's `federated`)
    #[command(after_help = "Examples:
  warren federated --address :8080
  warren federated --target-worker atlas
  TOKEN=... warren federated")]
    Federated(FederatedArgs),
    /// Make, show or look into tokens
    #[command(
        subcommand,
        after_help = "Examples:
  warren token new
  warren token show
  warren token inspect --json - < token.txt"
    )]
    Token(TokenCommand),
    /// How the daemon is, and what needs attention
    #[command(after_help = "Examples:
  warren status
  warren status --json | jq .problems")]
    Status,
    /// The nodes of the network
    #[command(after_help = "Examples:
  warren nodes
  warren nodes --json | jq '.nodes[] | select(.online) | .name'
  warren nodes --watch
  warren nodes --watch --json | jq -c 'select(.event == \"node\").node | [.name, .online]'")]
    Nodes(NodesArgs),
    /// The services of the network, and who serves them
    #[command(after_help = "Examples:
  warren services
  warren services --watch
  warren services --roles")]
    Services(ServicesArgs),
    /// Change the roles of the daemon
    #[command(
        subcommand,
        after_help = "Examples:
  warren services --roles
  warren role rm 2"
    )]
    Role(RoleCommand),
    /// The replicated map of the network
    #[command(
        subcommand,
        after_help = "Examples:
  warren ledger put notes greeting hello
  warren ledger get notes greeting
  warren ledger watch --json"
    )]
    Ledger(LedgerCommand),
    /// Machines that are reached by address: P2PRC's table
    #[command(
        subcommand,
        after_help = "Examples:
  warren iptable import p2p/iptable/ip_table.json
  warren iptable ls --sort latency
  warren iptable export --format legacy > ip_table.json

Works with a daemon on the data directory, and without one."
    )]
    Iptable(IpTableCommand),
    /// Which networks are alive, for everybody to see: LocalAI's explorer
    #[command(after_help = "Examples:
  warren explorer                            serve the page on :8080
  warren explorer --with-sync --pool-database explorer.json
  warren explorer tokens import explorer.json
  warren explorer tokens ls
  warren explorer sync --once

Without a command it is `explorer serve`. It needs no token, and a data directory on which no
daemon runs.")]
    Explorer(ExplorerArgs),
    /// Measure the round trip to a node
    #[command(after_help = "Examples:
  warren ping atlas
  warren ping atlas --count 10")]
    Ping(PingArgs),
    /// Measure throughput each way, round trip and loss to a node
    #[command(after_help = "Examples:
  warren bench atlas
  warren bench atlas --time 10s --bytes 1G
  warren bench atlas --json | jq .download_mbps

Each way it ends after --bytes or --time, whichever comes first. Other traffic of the link goes
first: what is measured is what one more connection would get. Loss is that of the packets which
this node sent for the round trips, as QUIC found it. An upload provokes losses of its own, as it
looks for what the way can take; they are shown beside it.")]
    Bench(BenchArgs),
    /// What happens, as it happens
    #[command(after_help = "Examples:
  warren events
  warren events --json | jq -c 'select(.event == \"node_down\")'")]
    Events,
    /// Ask the others to stop choosing this node
    #[command(after_help = "Examples:
  warren drain
  warren drain --off")]
    Drain(DrainArgs),
    /// Leave the network: announce, drain, forget token and peers, end the daemon
    #[command(after_help = "Examples:
  warren leave
  warren leave --yes")]
    Leave(LeaveArgs),
    /// Stop the daemon: announce, drain, end
    #[command(after_help = "Examples:
  warren stop
  warren stop --data-dir /var/lib/warren")]
    Stop,
    /// Print completions for a shell
    #[command(after_help = "Examples:
  warren completions bash > /etc/bash_completion.d/warren
  warren completions zsh > \"${fpath[1]}/_warren\"")]
    Completions(CompletionsArgs),
}

/// `token`.
#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Print a new token, one line; nothing is stored
    #[command(after_help = "Examples:
  warren token new > token.txt
  warren token new --otp-interval 3600")]
    New(TokenNewArgs),
    /// Print the token that joins the network of the data directory
    #[command(after_help = "Examples:
  warren token show
  warren join \"$(warren token show)\"")]
    Show,
    /// Say what a token is, without its secret
    #[command(after_help = "Examples:
  warren token inspect warren1...
  warren token inspect --json - < token.txt")]
    Inspect(TokenInspectArgs),
}

/// `token new`.
#[derive(Args, Debug)]
pub(crate) struct TokenNewArgs {
    /// Seconds between discovery keys; default 360
    #[arg(long, value_name = "SECONDS")]
    dht_interval: Option<u64>,
    /// Seconds between transport keys; default 9000
    #[arg(long, value_name = "SECONDS")]
    otp_interval: Option<u64>,
}

/// `token inspect`.
#[derive(Args, Debug)]
pub(crate) struct TokenInspectArgs {
    /// The token; - reads standard input
    #[arg(value_name = "TOKEN|-")]
    pub(crate) text: SecretText,
}

/// `nodes`.
#[derive(Args, Debug)]
pub(crate) struct NodesArgs {
    /// Go on, and show each change as it happens; off a terminal as lines of JSON
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `services`.
#[derive(Args, Debug)]
pub(crate) struct ServicesArgs {
    /// The roles of the daemon instead
    #[arg(long)]
    pub(crate) roles: bool,
    /// Go on, and show each change as it happens; off a terminal as lines of JSON
    #[arg(long, conflicts_with = "roles")]
    pub(crate) watch: bool,
}

/// `role`.
#[derive(Subcommand, Debug)]
pub(crate) enum RoleCommand {
    /// Take a role away
    #[command(after_help = "Examples:
  warren services --roles
  warren role rm 2")]
    Rm {
        /// Number of the role, from `services --roles`
        id: u64,
    },
}

/// `ledger`.
#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// List entries
    #[command(after_help = "Examples:
  warren ledger ls
  warren ledger ls notes --json")]
    Ls {
        /// Only this bucket
        bucket: Option<Bucket>,
    },
    /// Print a value; of several authors' the newest
    #[command(after_help = "Examples:
  warren ledger get notes greeting
  warren ledger get --json notes greeting | jq .others")]
    Get {
        /// Bucket
        bucket: Bucket,
        /// Key
        key: String,
    },
    /// Write a value; it is on disk when this returns
    #[command(after_help = "Examples:
  warren ledger put notes greeting hello
  warren ledger put notes motd - < motd.txt")]
    Put {
        /// Bucket
        bucket: Bucket,
        /// Key
        key: String,
        /// Value; - reads standard input
        #[arg(value_name = "VALUE|-", allow_hyphen_values = true)]
        value: String,
    },
    /// Remove this node's own value
    #[command(after_help = "Examples:
  warren ledger rm notes greeting")]
    Rm {
        /// Bucket
        bucket: Bucket,
        /// Key
        key: String,
    },
    /// Print changes as they happen
    #[command(after_help = "Examples:
  warren ledger watch
  warren ledger watch notes --json")]
    Watch {
        /// Only this bucket
        bucket: Option<Bucket>,
    },
    /// Write every durable entry, signatures included, as JSON
    #[command(after_help = "Examples:
  warren ledger export backup.json
  warren ledger export | gzip > backup.json.gz")]
    Export {
        /// File; - or nothing writes standard output
        file: Option<PathBuf>,
    },
    /// Merge an export: all of it, or nothing
    #[command(after_help = "Examples:
  warren ledger import backup.json
  gunzip < backup.json.gz | warren ledger import -")]
    Import {
        /// File; - reads standard input
        file: PathBuf,
    },
}

/// `ping`.
#[derive(Args, Debug)]
pub(crate) struct PingArgs {
    /// Node id, short id or name
    pub(crate) node: String,
    /// How many round trips
    #[arg(long, short = 'c', default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
}

/// `bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Node id, short id or name
    pub(crate) node: String,
    /// At most so many bytes each way: 500k, 64M, 1G
    #[arg(long, value_name = "BYTES", default_value = "256M")]
    pub(crate) bytes: Bytes,
    /// At most so long each way: 500ms, 10s
    #[arg(long, value_name = "TIME", default_value = "3s")]
    pub(crate) time: Span,
}

/// `drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// Let the others choose this node again
    #[arg(long)]
    pub(crate) off: bool,
}

/// `leave`.
#[derive(Args, Debug)]
pub(crate) struct LeaveArgs {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// `demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) nodes: u8,
    /// Where the federated address listens; default a free port
    #[arg(
        long,
        value_name = "IP:PORT",
        id = "demo_address",
        default_value = "127.0.0.1:0"
    )]
    pub(crate) address: Listen,
}

/// `completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: Shell,
}

/// The command with the variable of each flag in its help. The names come from the one list
/// that the environment is read by, so help cannot drift from what works.
pub(crate) fn command() -> clap::Command {
    name_variables(Cli::command())
}

fn name_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let key = arg.get_long().unwrap_or_default().to_owned();
        if !Layer::KEYS.contains(&key.as_str()) && key != "config" {
            return arg;
        }
        // A flag of the same name that is another command's own: no variable sets it.
        if arg.get_id().as_str() != key.replace('-', "_") {
            return arg;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let variable = key.to_ascii_uppercase().replace('-', "_");
        arg.help(format!("{help} [env: WARREN_{variable}]"))
    });
    command.mut_subcommands(name_variables)
}

impl Common {
    /// These flags as a layer of settings.
    pub(crate) fn fill(&self, layer: &mut Layer) {
        layer.data_dir.clone_from(&self.data_dir);
        layer.json = said(self.json);
        layer.log_level.clone_from(&self.log_level);
        layer.log_format = self.log_format;
    }
}

impl Cli {
    /// What the flags say, as the highest layer of the configuration.
    pub(crate) fn layer(&self) -> Layer {
        let mut layer = Layer::default();
        self.common.fill(&mut layer);
        match &self.command {
            Command::Up(node) => node.fill(&mut layer),
            Command::Join(join) => {
                join.node.fill(&mut layer);
                match join.join_token.expose() {
                    "-" => layer.token_file = Some(PathBuf::from("-")),
                    _ => layer.token = Some(join.join_token.clone()),
                }
            }
            Command::Expose(args) => {
                args.node.fill(&mut layer);
                args.fill(&mut layer);
            }
            Command::Ingress(args) => {
                args.node.fill(&mut layer);
                args.balance.fill(&mut layer);
            }
            Command::Federated(args) => {
                args.node.fill(&mut layer);
                args.balance.fill(&mut layer);
                args.fill(&mut layer);
            }
            Command::Explorer(args) => args.fill(&mut layer),
            Command::Token(TokenCommand::New(args)) => {
                layer.dht_interval = args.dht_interval;
                layer.otp_interval = args.otp_interval;
            }
            _ => {}
        }
        layer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_help_ends_with_examples_and_names_variables() {
        fn check(command: &clap::Command) {
            let examples = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(examples.starts_with("Examples:"), "{}", command.get_name());
            for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
                check(sub);
            }
        }
        check(&command());
        let up = command();
        let up = up.find_subcommand("up").unwrap();
        for arg in up.get_arguments().filter(|a| !a.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("[env: WARREN_"), "{}", arg.get_id());
        }
    }
}
