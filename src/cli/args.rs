//! The command line as types: names, flags, help. No command runs here.

use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use warren::mesh::name::{Bucket, Name};

use crate::config::{
    Expose, FailoverArg, Http, Ingress, Layer, Listen, LogFilter, LogFormat, ModeArg, Peer,
    SecretText, Span, Target,
};

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

With a daemon on the data directory the service lives as long as this command, or for good
with --bg; otherwise this command is the daemon.")]
    Expose(ExposeArgs),
    /// Listen on this machine for a service of the network
    #[command(after_help = "Examples:
  warren ingress chat 127.0.0.1:9000
  warren ingress chat :9000 --random-worker --bg")]
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
  warren nodes --json | jq '.nodes[] | select(.online) | .name'")]
    Nodes,
    /// The services of the network, and who serves them
    #[command(after_help = "Examples:
  warren services
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
    /// Measure the round trip to a node
    #[command(after_help = "Examples:
  warren ping atlas
  warren ping atlas --count 10")]
    Ping(PingArgs),
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

/// Flags of `up`, shared by every command that may become the daemon.
#[derive(Args, Debug, Default)]
pub(crate) struct NodeArgs {
    /// The network's token (other users can read it with ps: prefer --token-file)
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<SecretText>,
    /// File with the token; - reads standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of this node; default the host name
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// UDP address to listen on, repeatable; default [::]:7717
    #[arg(long, value_name = "IP:PORT", action = ArgAction::Append)]
    listen: Vec<Listen>,
    /// Address others can reach this node at, repeatable
    #[arg(long, value_name = "HOST:PORT", action = ArgAction::Append)]
    advertise: Vec<Target>,
    /// Node to dial, repeatable; with ID@ only that node is accepted
    #[arg(long, value_name = "[ID@]HOST:PORT", action = ArgAction::Append)]
    connect: Vec<Peer>,
    /// Offer a server to the network, repeatable
    #[arg(long, value_name = "NAME=HOST:PORT", action = ArgAction::Append)]
    expose: Vec<Expose>,
    /// Listen for a service of the network, repeatable
    #[arg(long, value_name = "NAME=IP:PORT", action = ArgAction::Append)]
    ingress: Vec<Ingress>,
    /// Splits one token into groups: prefix of service names (LocalAI's network id)
    #[arg(long, value_name = "ID", alias = "peer-2-peer-network-id")]
    network_id: Option<Name>,
    /// HTTP for status, metrics and LocalAI's routes, or off; default 127.0.0.1:7718
    #[arg(long, value_name = "IP:PORT|off")]
    http: Option<Http>,
    /// Let GET /api/p2p/token answer with the token
    #[arg(long)]
    http_token: bool,
    /// No discovery on the local network
    #[arg(long)]
    no_mdns: bool,
    /// How long running connections may take to end at exit; default 30s
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<Span>,
    /// Print one JSON line on stdout when every listener is bound, and nothing else
    #[arg(long)]
    print_ready: bool,
    /// End when standard input closes: children of `demo` must not outlive it
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

/// `join`.
#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    /// The token that `warren up` or `warren token show` printed; - reads standard input
    #[arg(value_name = "TOKEN", id = "join_token", conflicts_with_all = ["token", "token_file"])]
    pub(crate) join_token: SecretText,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// `expose`.
#[derive(Args, Debug)]
pub(crate) struct ExposeArgs {
    /// Name of the service
    #[arg(value_name = "NAME", id = "service_name")]
    pub(crate) service: Name,
    /// The real server
    #[arg(value_name = "HOST:PORT")]
    pub(crate) target: Target,
    /// Leave the role with the running daemon for good
    #[arg(long)]
    pub(crate) bg: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// How an ingress picks and serves.
#[derive(Args, Debug, Default)]
pub(crate) struct BalanceArgs {
    /// Pick nodes at random instead of the least used
    #[arg(long, conflicts_with = "target_worker")]
    random_worker: bool,
    /// Always use this node: id, short id or name
    #[arg(long, value_name = "NODE")]
    target_worker: Option<String>,
    /// tcp balances connections; http and auto are not built yet
    #[arg(long, value_name = "MODE")]
    mode: Option<ModeArg>,
    /// When a connection may move to another node; default connect, for `federated` replay
    #[arg(long, value_name = "WHEN")]
    failover: Option<FailoverArg>,
    /// PEM certificate chain towards clients; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// TLS with a certificate made at start
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,
}

/// `ingress`.
#[derive(Args, Debug)]
pub(crate) struct IngressArgs {
    /// Name of the service
    #[arg(value_name = "NAME", id = "service_name")]
    pub(crate) service: Name,
    /// Where to listen: IP:PORT, or :PORT for every address
    #[arg(value_name = "LISTEN", id = "ingress_listen")]
    pub(crate) listen: Listen,
    /// Leave the role with the running daemon for good
    #[arg(long)]
    pub(crate) bg: bool,
    #[command(flatten)]
    pub(crate) balance: BalanceArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// `federated`.
#[derive(Args, Debug)]
pub(crate) struct FederatedArgs {
    /// Where to listen; default :8080
    #[arg(long, value_name = "IP:PORT")]
    address: Option<Listen>,
    /// Name of the service; default federated
    #[arg(long, value_name = "NAME")]
    service: Option<Name>,
    /// Leave the role with the running daemon for good
    #[arg(long)]
    pub(crate) bg: bool,
    #[command(flatten)]
    pub(crate) balance: BalanceArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
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

/// `services`.
#[derive(Args, Debug)]
pub(crate) struct ServicesArgs {
    /// The roles of the daemon instead
    #[arg(long)]
    pub(crate) roles: bool,
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

impl NodeArgs {
    fn fill(&self, layer: &mut Layer) {
        layer.token.clone_from(&self.token);
        layer.token_file.clone_from(&self.token_file);
        layer.name.clone_from(&self.name);
        layer.listen = some(&self.listen);
        layer.advertise = some(&self.advertise);
        layer.connect = some(&self.connect);
        layer.expose = some(&self.expose);
        layer.ingress = some(&self.ingress);
        layer.network_id.clone_from(&self.network_id);
        layer.http = self.http;
        layer.http_token = said(self.http_token);
        layer.no_mdns = said(self.no_mdns);
        layer.drain_timeout = self.drain_timeout;
        layer.print_ready = said(self.print_ready);
    }
}

impl BalanceArgs {
    fn fill(&self, layer: &mut Layer) {
        layer.random_worker = said(self.random_worker);
        layer.target_worker.clone_from(&self.target_worker);
        layer.mode = self.mode;
        layer.failover = self.failover;
        layer.tls_cert.clone_from(&self.tls_cert);
        layer.tls_key.clone_from(&self.tls_key);
        layer.tls_self_signed = said(self.tls_self_signed);
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
            Command::Expose(args) => args.node.fill(&mut layer),
            Command::Ingress(args) => {
                args.node.fill(&mut layer);
                args.balance.fill(&mut layer);
            }
            Command::Federated(args) => {
                args.node.fill(&mut layer);
                args.balance.fill(&mut layer);
                layer.address = args.address;
                layer.service.clone_from(&args.service);
            }
            Command::Token(TokenCommand::New(args)) => {
                layer.dht_interval = args.dht_interval;
                layer.otp_interval = args.otp_interval;
            }
            _ => {}
        }
        layer
    }
}

/// A switch that is off says nothing: a lower source may switch it on.
fn said(on: bool) -> Option<bool> {
    on.then_some(true)
}

fn some<T: Clone>(given: &[T]) -> Option<Vec<T>> {
    (!given.is_empty()).then(|| given.to_vec())
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
