//! Runs a node in this process until somebody asks it to end: start, roles, the ready line, then
//! signals. It decides nothing about the mesh.
//!
//! Exit code 0 after a clean end, however it was asked for; 130 or 143 when a second signal cut
//! the drain short.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use warren::api::shapes::RoleSpec;
use warren::mesh::keys::NetworkKeys;
use warren::mesh::token::{Token, TokenKind, TokenText};
use warren::node::{
    ExposeSpec, IngressSpec, Node, NodeBuilder, NodeError, P2prcKey, Protocol, RefreshPolicy,
    RoleInfo, RoleKind, Status,
};

use super::TOKEN_FILE;
use super::fail::Failure;
use super::orphaned::Orphaned;
use super::output::Output;
use super::signals::Signals;
use super::supervisor::{self, Supervisor};
use super::token::{LOCALAI_NOTE, intervals};
use crate::config::{Config, Layer};

/// How long a node may take to close after the signal that ends it at once.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What this run of the daemon is for.
pub(crate) struct Plan {
    /// Whether a network is founded where no token is known.
    pub(crate) found: bool,
    /// The role that the command is about, besides those of `--expose` and `--ingress`.
    pub(crate) role: Option<RoleSpec>,
    /// Whether the end of standard input ends the daemon.
    pub(crate) exit_with_stdin: bool,
}

/// Starts the node and stays until it has ended; returns the exit code.
pub(crate) async fn run(config: &Config, plan: Plan, output: Output) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let mut supervisor = Supervisor::new();
    raise_descriptors();
    let token = token(config)?;
    let dir = config.data_dir()?;
    let is_new = token.is_none() && !dir.join(TOKEN_FILE).exists();
    if is_new && !plan.found {
        return Err(no_token(dir));
    }
    let (crypto, discovery) = intervals(config)?;
    let builder = builder(config, token)
        .p2prc_key(p2prc_key(config)?)
        .frps(config.set.frps.clone())
        .ip_table_refresh(refresh(config)?)
        .data_dir(dir)
        .found(plan.found)
        .intervals(crypto, discovery);
    let starting = Box::pin(builder.start());
    let node = tokio::select! {
        started = starting => started?,
        asked = signals.next() => return Ok(asked.exit_code()),
    };
    if let Err(refused) = take_roles(&node, config, plan.role).await {
        node.undo().await;
        return Err(refused.into());
    }
    let status = node.status();
    announce(&node, &status, is_new, config, output)?;
    if node.token().kind() == TokenKind::LocalAi {
        tracing::warn!("{LOCALAI_NOTE}");
    }
    supervisor.ready(supervisor::status_line(&status));
    stay(&node, signals, supervisor, plan.exit_with_stdin).await
}

/// Lets the node have as many descriptors as the system allows. Each connection needs one, and
/// most shells begin with 1,024 for the sake of programs that use select(2).
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the number of open files stays limited");
    }
}

/// The node derives a LocalAI token's secret, and keeps it: that is slow.
fn token(config: &Config) -> Result<Option<TokenText>, Failure> {
    let Some(text) = config.token_text()? else {
        return Ok(None);
    };
    Ok(Some(TokenText::parse(text.expose())?))
}

/// What requests to P2PRC's routes must carry.
fn p2prc_key(config: &Config) -> Result<Option<P2prcKey>, Failure> {
    let Some(text) = config.p2prc_key_text()? else {
        return Ok(None);
    };
    let key = P2prcKey::new(text.expose());
    let key = key.map_err(|error| NodeError::new("usage", error.to_string()));
    Ok(Some(key.map_err(|error| {
        error.with_hint("`openssl rand -hex 32` makes one")
    })?))
}

/// How the IP table is kept fresh.
fn refresh(config: &Config) -> Result<Option<RefreshPolicy>, Failure> {
    let Some((every, prune_after)) = config.iptable_refresh()? else {
        return Ok(None);
    };
    let policy = RefreshPolicy::new(every, prune_after);
    let policy = policy.map_err(|error| NodeError::new("usage", error.to_string()));
    Ok(Some(policy.map_err(|error| {
        error.with_hint("`warren up --help` says how it is written; off switches it off")
    })?))
}

fn no_token(dir: &Path) -> Failure {
    let message = format!(
        "no token: none was given, and none is stored in {}",
        dir.display()
    );
    Failure::from(NodeError::new("no_token", message)).hint(
        "give the one of your network with --token-file or WARREN_TOKEN (`warren token show` \
         prints it on a member), or found a network with `warren up`",
    )
}

fn builder(config: &Config, token: Option<TokenText>) -> NodeBuilder {
    let set = &config.set;
    let mut builder = Node::builder()
        .network_id(set.network_id.clone())
        .http_token(set.http_token.unwrap_or(false))
        .admin_socket(true)
        .networks(config.held())
        .shards(config.set.shards.unwrap_or_default().0)
        .drain_timeout(config.drain_timeout());
    if let Some(bytes) = set.tunnel_memory {
        builder = builder.tunnel_memory(bytes.0);
    }
    // Not given, the node falls back to a free port where the default one is taken.
    builder = match &set.http {
        Some(http) => builder.http(http.0),
        None => builder.default_http(),
    };
    if let Some(http) = &set.p2prc_http {
        builder = builder.p2prc_http(http.0);
    }
    if let Some(token) = token {
        builder = builder.token(token);
    }
    if let Some(name) = &set.name {
        builder = builder.name(name.clone());
    }
    // Not given, the node falls back to a free port where the default one is taken.
    if let Some(listen) = &set.listen {
        builder = builder.listen(listen.iter().map(|listen| listen.0).collect());
    }
    if let Some(addrs) = &set.advertise {
        builder = builder.advertise(addrs.iter().map(|at| at.0.clone()).collect());
    }
    if let Some(peers) = &set.connect {
        builder = builder.connect(peers.iter().map(|peer| peer.0.clone()).collect());
    }
    builder
}

/// Roles of `--expose` and `--ingress`, as `up` takes them.
fn listed_roles(set: &Layer) -> Vec<RoleSpec> {
    let exposed = set.expose.iter().flatten().map(|expose| {
        RoleSpec::Expose(ExposeSpec {
            protocol: expose.server.protocol,
            ..ExposeSpec::new(expose.service.clone(), expose.server.at.clone())
        })
    });
    let ingress = set.ingress.iter().flatten().map(|ingress| {
        RoleSpec::Ingress(IngressSpec {
            protocol: ingress.listen.protocol,
            ..IngressSpec::new(ingress.service.clone(), ingress.listen.at)
        })
    });
    exposed.chain(ingress).collect()
}

async fn take_roles(node: &Node, config: &Config, own: Option<RoleSpec>) -> Result<(), NodeError> {
    for role in listed_roles(&config.set).into_iter().chain(own) {
        match role {
            RoleSpec::Expose(spec) => node.expose_when_up(spec).await?,
            RoleSpec::Ingress(spec) => node.ingress(spec, false).await?,
        };
    }
    Ok(())
}

/// `--print-ready`: the contract of DESIGN §2.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    node_id: String,
    udp: Vec<String>,
    http: Option<String>,
    p2prc_http: Option<String>,
    ingress: Vec<ReadyIngress>,
    explorer: Option<String>,
}

#[derive(Serialize)]
struct ReadyIngress {
    service: String,
    listen: String,
    protocol: Protocol,
}

/// Prints the ready line for a node in this state, with these roles.
pub(crate) fn print_ready(
    status: &Status,
    roles: &[RoleInfo],
    output: Output,
) -> Result<(), Failure> {
    let listening = |role: &RoleInfo| match &role.kind {
        RoleKind::Ingress { spec, listen } => Some(ReadyIngress {
            service: spec.service.to_string(),
            listen: listen.to_string(),
            protocol: spec.protocol,
        }),
        RoleKind::Expose { .. } => None,
    };
    output.document(&Ready {
        event: "ready",
        node_id: status.id.to_string(),
        udp: status.udp.iter().map(ToString::to_string).collect(),
        http: status.http.map(|at| at.to_string()),
        p2prc_http: status.p2prc_http.map(|at| at.to_string()),
        ingress: roles.iter().filter_map(listening).collect(),
        explorer: None,
    })
}

/// A daemon whose first lines nobody reads is still a daemon.
fn announce(
    node: &Node,
    status: &Status,
    is_new: bool,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    let printed = if config.set.print_ready == Some(true) || output.json {
        print_ready(status, &status.roles, output)
    } else {
        print_welcome(node, status, is_new, output)
    };
    match printed {
        Err(Failure::OutputClosed) => Ok(()),
        other => other,
    }
}

fn print_welcome(
    node: &Node,
    status: &Status,
    is_new: bool,
    output: Output,
) -> Result<(), Failure> {
    let token = node.join_token();
    output.line(format!("node     {} ({})", status.name, status.id.short()))?;
    let fingerprint = NetworkKeys::new(&token).fingerprint();
    let new = if is_new { " (new)" } else { "" };
    output.line(format!("network  {fingerprint}{new}"))?;
    for at in &status.udp {
        output.line(format!("udp      {at}"))?;
    }
    if let Some(at) = status.http {
        output.line(format!("http     http://{at}"))?;
    }
    if let Some(at) = status.p2prc_http {
        output.line(format!("p2prc    http://{at}"))?;
    }
    for role in &status.roles {
        output.line(format!("role     {}", role_line(role)))?;
    }
    print_join_line(&token, is_new, output)
}

/// The token goes to a terminal only: anything else that reads our stdout may well be a log.
fn print_join_line(token: &Token, is_new: bool, output: Output) -> Result<(), Failure> {
    use std::io::IsTerminal;
    if is_new && std::io::stdout().is_terminal() {
        output.line("\nOn another machine (this line is the key to the network):\n")?;
        return output.line(format!("  warren join {}\n", &*token.to_text()));
    }
    output.line("\n`warren token show` prints the token that joins another machine.")
}

/// One role in one line, with how it is reached.
pub(crate) fn role_line(role: &RoleInfo) -> String {
    match &role.kind {
        RoleKind::Expose { spec, ready } => {
            let state = if *ready { "" } else { " (does not answer yet)" };
            format!("exposes {} at {}{state}", spec.service, spec.shown())
        }
        RoleKind::Ingress { spec, listen } => {
            let scheme = match (spec.protocol, &spec.tls) {
                (Protocol::Udp, _) => "udp",
                (Protocol::Tcp, Some(_)) => "https",
                (Protocol::Tcp, None) => "http",
            };
            let host = match listen.ip().is_unspecified() {
                true => format!("127.0.0.1:{}", listen.port()),
                false => listen.to_string(),
            };
            format!("{scheme}://{host} leads to {}", spec.service)
        }
    }
}

/// Why the node is asked to end.
enum End {
    Stopped,
    Signal,
    Orphaned,
}

async fn stay(
    node: &Node,
    mut signals: Signals,
    mut supervisor: Supervisor,
    exit_with_stdin: bool,
) -> Result<u8, Failure> {
    let mut view = node.watch();
    let mut events = node.events();
    let mut orphaned = Orphaned::new(exit_with_stdin);
    let end = loop {
        tokio::select! {
            () = node.stopped() => break End::Stopped,
            _ = signals.next() => break End::Signal,
            () = orphaned.wait() => break End::Orphaned,
            changed = view.changed() => match changed {
                Ok(()) => supervisor.status(&node.status()),
                Err(_) => break End::Stopped,
            },
            event = events.recv() => match event {
                Ok(_) | Err(RecvError::Lagged(_)) => supervisor.status(&node.status()),
                Err(RecvError::Closed) => break End::Stopped,
            },
            never = supervisor.keep_alive() => never,
        }
    };
    supervisor.stopping();
    match end {
        // Asked for through the admin socket; the node has drained already.
        End::Stopped => {
            node.stopped().await;
            return Ok(0);
        }
        End::Signal => tracing::info!("stopping; a second signal ends at once"),
        End::Orphaned => tracing::info!("standard input closed; stopping"),
    }
    let mut drain = std::pin::pin!(node.shutdown(false));
    let cut_short = tokio::select! {
        () = &mut drain => return Ok(0),
        asked = signals.next() => asked,
        never = supervisor.keep_alive() => never,
    };
    // The end that was begun goes on to close the store; there is just nothing left to wait for.
    let end = async { tokio::join!(drain, node.abort()) };
    if tokio::time::timeout(END_LIMIT, end).await.is_err() {
        tracing::warn!("the node did not end in time");
    }
    Ok(cut_short.exit_code())
}
