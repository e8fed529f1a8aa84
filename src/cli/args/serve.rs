//! `explorer` and `explorer serve`.

use std::path::PathBuf;

use clap::Args;

use super::explorer::{ExplorerCommand, NetworkLimitArgs};
use super::roles::said;
use crate::config::{Layer, Listen, PerSecond, Span};

/// `explorer`: a command, or the flags of `explorer serve`.
#[derive(Args, Debug)]
pub(crate) struct ExplorerArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ExplorerCommand>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// Flags of `explorer serve`.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeArgs {
    /// Where to listen; default :8080
    #[arg(long, value_name = "IP:PORT")]
    address: Option<Listen>,
    /// LocalAI's explorer.json: taken in at start, kept up to date for others that read it
    #[arg(long, value_name = "FILE")]
    pool_database: Option<PathBuf>,
    /// Also look at the networks, whenever they are due
    #[arg(long, conflicts_with = "only_sync")]
    with_sync: bool,
    /// Look once at every network and end, without serving anything
    #[arg(long)]
    only_sync: bool,
    /// Show no token, whatever those who posted them agreed to
    #[arg(long)]
    never_publish_tokens: bool,
    /// Networks that one client may post in a second, after the first hundred, or off; default 1
    #[arg(long, value_name = "NUMBER|off")]
    add_rate: Option<PerSecond>,
    /// Longest look at a network that answers; default 2m
    #[arg(long, value_name = "DURATION")]
    connection_timeout: Option<Span>,
    /// Looks in a row that see no worker before a network is hidden; default 3
    #[arg(long, value_name = "COUNT")]
    connection_error_threshold: Option<u64>,
    /// Networks looked at at once; default 32
    #[arg(long, value_name = "COUNT")]
    crawl_concurrency: Option<u64>,
    /// How long a network stays hidden before it is removed; default 168h
    #[arg(long, value_name = "DURATION")]
    delete_after: Option<Span>,
    /// Dial addresses that are not of the internet, too: for an explorer inside a private network
    #[arg(long)]
    allow_private: bool,
    #[command(flatten)]
    limits: NetworkLimitArgs,
    /// PEM certificate chain towards clients; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// TLS with a certificate made at start
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,
    /// Print one JSON line on stdout when it listens, and nothing else
    #[arg(long)]
    print_ready: bool,
    /// End when standard input closes: children of tests must not outlive them
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

impl ExplorerArgs {
    /// Whether this runs until it is asked to end.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.command, None | Some(ExplorerCommand::Serve(_)))
    }

    /// These flags as settings; those behind the command hide those before it.
    pub(super) fn fill(&self, layer: &mut Layer) {
        self.serve.fill(layer);
        if let Some(command) = &self.command {
            command.fill(layer);
        }
    }
}

impl ServeArgs {
    /// These flags as settings, those that are not given left as they are.
    pub(super) fn fill(&self, layer: &mut Layer) {
        self.limits.fill(layer);
        set(&mut layer.address, self.address);
        set(&mut layer.pool_database, self.pool_database.clone());
        set(&mut layer.with_sync, said(self.with_sync));
        set(&mut layer.only_sync, said(self.only_sync));
        set(
            &mut layer.never_publish_tokens,
            said(self.never_publish_tokens),
        );
        set(&mut layer.add_rate, self.add_rate);
        set(&mut layer.connection_timeout, self.connection_timeout);
        set(
            &mut layer.connection_error_threshold,
            self.connection_error_threshold,
        );
        set(&mut layer.crawl_concurrency, self.crawl_concurrency);
        set(&mut layer.delete_after, self.delete_after);
        set(&mut layer.allow_private, said(self.allow_private));
        set(&mut layer.tls_cert, self.tls_cert.clone());
        set(&mut layer.tls_key, self.tls_key.clone());
        set(&mut layer.tls_self_signed, said(self.tls_self_signed));
        set(&mut layer.print_ready, said(self.print_ready));
    }
}

fn set<T>(setting: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *setting = given;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use warren::Token;
    use warren::api::explorer::commands::join_commands;
    use warren::mesh::networks::{Cluster, ClusterKind, Networks, NewNetwork};

    /// What a shell makes of a command is what this program takes.
    #[test]
    fn commands_that_the_explorer_shows_are_commands_of_this_program() {
        let token = Token::generate(&mut rand::rng(), 9_000, 360).unwrap();
        let cluster = |kind, network_id: &str| Cluster {
            kind,
            network_id: network_id.to_owned(),
            workers: vec!["a-b".to_owned()],
        };
        let mut clusters: Vec<Cluster> =
            ClusterKind::ALL.map(|kind| cluster(kind, "my_net")).into();
        clusters.push(cluster(ClusterKind::Federated, "-x"));
        clusters.push(cluster(ClusterKind::Federated, ""));
        clusters.push(cluster(ClusterKind::Federated, "$(touch x)"));
        let new = NewNetwork {
            bootstrap: vec!["[2001:db8::7]:7717".parse().unwrap()],
            clusters: Some(clusters),
            ..NewNetwork::new(token)
        };
        let (_, network) = Networks::default().add(new, 0).unwrap();
        let commands = join_commands(&network);
        // Two for each federated cluster, one for the others, none for what is no network id.
        assert_eq!(commands.len(), 8);
        for shown in commands {
            let print = format!("warren() {{ printf '%s\\n' \"$@\"; }}\n{}", shown.command);
            let words = Command::new("sh").args(["-c", &print]).output().unwrap();
            let words = String::from_utf8(words.stdout).unwrap();
            let words = std::iter::once("warren").chain(words.lines());
            let parsed = crate::cli::args::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{}: {:?}", shown.command, parsed.err());
        }
    }
}
