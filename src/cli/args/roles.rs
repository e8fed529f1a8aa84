//! Commands that take a role, and the flags of the daemon that such a command may become.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use warren::mesh::name::Name;

use crate::config::{
    Expose, FailoverArg, Http, Ingress, Layer, Listen, ListenFor, ModeArg, Peer, ProxyArg,
    SecretText, Server, Shards, Span, SpanOrOff, Target, TunnelMemory,
};

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
    /// Threads that carry bytes, 1 to 64; default 1 up to 3 cores (measured on 2: more threads
    /// lose), then half of the cores, at most 8
    #[arg(long, value_name = "N")]
    shards: Option<Shards>,
    /// Address others can reach this node at, repeatable
    #[arg(long, value_name = "HOST:PORT", action = ArgAction::Append)]
    advertise: Vec<Target>,
    /// Node to dial, repeatable; with ID@ only that node is accepted
    #[arg(long, value_name = "[ID@]HOST:PORT", action = ArgAction::Append)]
    connect: Vec<Peer>,
    /// Offer a server to the network, repeatable; NAME=udp:HOST:PORT for datagrams
    #[arg(long, value_name = "NAME=HOST:PORT", action = ArgAction::Append)]
    expose: Vec<Expose>,
    /// Listen for a service of the network, repeatable; NAME=udp:IP:PORT for datagrams
    #[arg(long, value_name = "NAME=IP:PORT", action = ArgAction::Append)]
    ingress: Vec<Ingress>,
    /// Splits one token into groups: prefix of service names (LocalAI's network id)
    #[arg(long, value_name = "ID", alias = "peer-2-peer-network-id")]
    network_id: Option<Name>,
    /// HTTP for health checks, status and LocalAI's routes, or off; default 127.0.0.1:7718
    #[arg(long, value_name = "IP:PORT|off")]
    http: Option<Http>,
    /// Let GET /api/p2p/token answer with the token
    #[arg(long)]
    http_token: bool,
    /// Answer P2PRC's routes there, to anybody who reaches it, or off; default off
    #[arg(long, value_name = "IP:PORT|off")]
    p2prc_http: Option<Http>,
    /// File with the key that requests to P2PRC's routes must carry; default none
    #[arg(long, value_name = "FILE")]
    p2prc_http_key_file: Option<PathBuf>,
    /// FRP's server, run for P2PRC nodes that ask for a relay with GET /FRPPort; it opens ports of
    /// this machine for them; default none, they are told 501
    #[arg(long, value_name = "PATH")]
    frps: Option<PathBuf>,
    /// Probe the machines of the IP table so often (1s to 168h), or off; default off, and they are
    /// asked by `iptable probe` only
    #[arg(long, value_name = "DURATION|off")]
    iptable_refresh: Option<SpanOrOff>,
    /// Remove machines that others told of when such probes missed them for so long (1s to 8760h),
    /// or off; default off. What was added or imported stays
    #[arg(long, value_name = "DURATION|off")]
    iptable_prune_after: Option<SpanOrOff>,
    /// No discovery on the local network
    #[arg(long)]
    no_mdns: bool,
    /// How long running connections may take to end at exit; default 30s
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<Span>,
    /// What tunnels may hold of bytes that nobody has read yet, all together, at least 64M;
    /// default 1G. Beyond that, readers that have read nothing for 3 s are given up
    #[arg(long, value_name = "BYTES")]
    tunnel_memory: Option<TunnelMemory>,
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
    /// The real server: HOST:PORT, or udp:HOST:PORT for datagrams
    #[arg(value_name = "[udp:]HOST:PORT")]
    pub(crate) server: Server,
    /// Tell the server its client's address, as the ingress node says it, in a header of the
    /// PROXY protocol; the server must expect one
    #[arg(long, value_name = "VERSION")]
    proxy_protocol: Option<ProxyArg>,
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
    /// When a flow of datagrams is over without one; default 1m
    #[arg(long, value_name = "DURATION")]
    flow_timeout: Option<Span>,
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
    /// Where to listen: IP:PORT, or :PORT for every address; with udp: in front for datagrams
    #[arg(value_name = "LISTEN", id = "ingress_listen")]
    pub(crate) listen: ListenFor,
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

impl NodeArgs {
    /// These flags as settings.
    pub(super) fn fill(&self, layer: &mut Layer) {
        layer.token.clone_from(&self.token);
        layer.token_file.clone_from(&self.token_file);
        layer.name.clone_from(&self.name);
        layer.listen = some(&self.listen);
        layer.shards = self.shards;
        layer.advertise = some(&self.advertise);
        layer.connect = some(&self.connect);
        layer.expose = some(&self.expose);
        layer.ingress = some(&self.ingress);
        layer.network_id.clone_from(&self.network_id);
        layer.http = self.http;
        layer.http_token = said(self.http_token);
        layer.p2prc_http = self.p2prc_http;
        layer
            .p2prc_http_key_file
            .clone_from(&self.p2prc_http_key_file);
        layer.frps.clone_from(&self.frps);
        layer.iptable_refresh = self.iptable_refresh;
        layer.iptable_prune_after = self.iptable_prune_after;
        layer.no_mdns = said(self.no_mdns);
        layer.drain_timeout = self.drain_timeout;
        layer.tunnel_memory = self.tunnel_memory;
        layer.print_ready = said(self.print_ready);
    }
}

impl BalanceArgs {
    /// These flags as settings.
    pub(super) fn fill(&self, layer: &mut Layer) {
        layer.random_worker = said(self.random_worker);
        layer.target_worker.clone_from(&self.target_worker);
        layer.mode = self.mode;
        layer.failover = self.failover;
        layer.flow_timeout = self.flow_timeout;
        layer.tls_cert.clone_from(&self.tls_cert);
        layer.tls_key.clone_from(&self.tls_key);
        layer.tls_self_signed = said(self.tls_self_signed);
    }
}

impl ExposeArgs {
    /// These flags as settings, those of the daemon left out.
    pub(super) fn fill(&self, layer: &mut Layer) {
        layer.proxy_protocol = self.proxy_protocol;
    }
}

impl FederatedArgs {
    /// These flags as settings, those of the daemon left out.
    pub(super) fn fill(&self, layer: &mut Layer) {
        layer.address = self.address;
        layer.service.clone_from(&self.service);
    }
}

/// A switch that is off says nothing: a lower source may switch it on.
pub(super) fn said(on: bool) -> Option<bool> {
    on.then_some(true)
}

fn some<T: Clone>(given: &[T]) -> Option<Vec<T>> {
    (!given.is_empty()).then(|| given.to_vec())
}
