//! What one source of settings says, and how sources are laid over each other.

use std::path::PathBuf;

use warren::mesh::name::Name;

use super::ConfigError;
use super::quantities::{Bytes, PerSecond, Span, SpanOrOff, TunnelMemory};
use super::shards::Shards;
use super::values::{
    Expose, FailoverArg, Http, Ingress, Listen, LogFilter, LogFormat, ModeArg, Peer, ProxyArg,
    SecretText, Target,
};

/// One setting, read from the texts of a variable or a config key.
trait Setting: Sized {
    fn read(values: &[String]) -> Result<Self, String>;
}

impl<T: std::str::FromStr<Err: std::fmt::Display>> Setting for Vec<T> {
    fn read(values: &[String]) -> Result<Self, String> {
        let parse = |text: &String| text.trim().parse::<T>().map_err(|e| e.to_string());
        values.iter().map(parse).collect()
    }
}

fn one(values: &[String]) -> Result<&str, String> {
    match values {
        [text] => Ok(text.as_str()),
        _ => Err(format!("takes one value, {} were given", values.len())),
    }
}

macro_rules! setting_from_str {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn read(values: &[String]) -> Result<Self, String> {
                one(values)?.trim().parse::<$type>().map_err(|e| e.to_string())
            }
        }
    )*};
}
setting_from_str!(
    SecretText,
    Name,
    Http,
    Span,
    SpanOrOff,
    Listen,
    ModeArg,
    FailoverArg,
    ProxyArg,
    PerSecond,
    LogFormat,
    LogFilter,
    Shards,
    String,
    u64,
    PathBuf,
    Bytes,
    TunnelMemory
);

impl Setting for bool {
    fn read(values: &[String]) -> Result<Self, String> {
        match one(values)?.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            other => Err(format!("{other:?} is neither true nor false")),
        }
    }
}

macro_rules! layer {
    ($($(#[$doc:meta])* $field:ident $key:literal: $type:ty,)*) => {
        /// What one source says; `None` where it says nothing. Keys are the long flags.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Layer {
            $($(#[$doc])* pub(crate) $field: Option<$type>,)*
        }

        impl Layer {
            /// Every key, as in `warren.toml` and, upper case with `_`, after `WARREN_`.
            pub(crate) const KEYS: &'static [&'static str] = &[$($key),*];

            /// Sets one key from text; the error says what is expected.
            pub(super) fn set(&mut self, key: &str, values: &[String]) -> Result<(), String> {
                match key {
                    $($key => self.$field = Some(<$type as Setting>::read(values)?),)*
                    _ => return Err("unknown".to_owned()),
                }
                Ok(())
            }

            /// This layer, and what `lower` says where this one says nothing.
            pub(super) fn or(self, lower: Layer) -> Layer {
                let lower = self.hide_rivals(lower);
                Layer { $($field: self.$field.or(lower.$field),)* }
            }

            /// Flags given in this layer, for messages.
            pub(crate) fn given(&self) -> Vec<&'static str> {
                let all = [$(($key, self.$field.is_some())),*];
                all.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
            }
        }
    };
}

layer! {
    /// The network. Secret.
    token "token": SecretText,
    /// File with the token, `-` for standard input.
    token_file "token-file": PathBuf,
    /// Name of the node.
    name "name": Name,
    /// UDP addresses.
    listen "listen": Vec<Listen>,
    /// Threads that carry bytes.
    shards "shards": Shards,
    /// Addresses others reach this node at.
    advertise "advertise": Vec<Target>,
    /// Nodes to dial.
    connect "connect": Vec<Peer>,
    /// Services offered by this node.
    expose "expose": Vec<Expose>,
    /// Local listeners into the mesh.
    ingress "ingress": Vec<Ingress>,
    /// LocalAI's network id: prefix of buckets.
    network_id "network-id": Name,
    /// Loopback HTTP.
    http "http": Http,
    /// Whether `/api/p2p/token` answers.
    http_token "http-token": bool,
    /// P2PRC's routes.
    p2prc_http "p2prc-http": Http,
    /// File with the key for them.
    p2prc_http_key_file "p2prc-http-key-file": PathBuf,
    /// FRP's server, for P2PRC nodes that ask for one.
    frps "frps": PathBuf,
    /// How often the IP table is probed without being asked.
    iptable_refresh "iptable-refresh": SpanOrOff,
    /// How long its machines are unreachable until they go.
    iptable_prune_after "iptable-prune-after": SpanOrOff,
    /// Switches LAN discovery off.
    no_mdns "no-mdns": bool,
    /// Print the ready line on stdout, and nothing else.
    print_ready "print-ready": bool,
    /// How long running connections may take to end.
    drain_timeout "drain-timeout": Span,
    /// What tunnels may hold unread.
    tunnel_memory "tunnel-memory": TunnelMemory,
    /// Listen address of `federated` and `explorer`.
    address "address": Listen,
    /// Service of `federated`.
    service "service": Name,
    /// Pick nodes at random.
    random_worker "random-worker": bool,
    /// Always this node.
    target_worker "target-worker": String,
    /// What an ingress understands of its bytes.
    mode "mode": ModeArg,
    /// When a connection may move.
    failover "failover": FailoverArg,
    /// How long a flow of datagrams lives without one.
    flow_timeout "flow-timeout": Span,
    /// How the exposed server is told of its clients.
    proxy_protocol "proxy-protocol": ProxyArg,
    /// LocalAI's file of the explorer's networks.
    pool_database "pool-database": PathBuf,
    /// Whether `explorer serve` also looks at networks.
    with_sync "with-sync": bool,
    /// Whether `explorer` only looks at networks.
    only_sync "only-sync": bool,
    /// Whether tokens are kept from everybody.
    never_publish_tokens "never-publish-tokens": bool,
    /// How often a client may post a network.
    add_rate "add-rate": PerSecond,
    /// Longest look at a network.
    connection_timeout "connection-timeout": Span,
    /// Looks in vain after which a network is hidden.
    connection_error_threshold "connection-error-threshold": u64,
    /// Networks looked at at once.
    crawl_concurrency "crawl-concurrency": u64,
    /// How long a network stays hidden before it is removed.
    delete_after "delete-after": Span,
    /// Whether addresses that are not of the internet are dialled for strangers.
    allow_private "allow-private": bool,
    /// PEM certificate chain of an ingress.
    tls_cert "tls-cert": PathBuf,
    /// PEM private key of an ingress.
    tls_key "tls-key": PathBuf,
    /// A certificate made at start.
    tls_self_signed "tls-self-signed": bool,
    /// Discovery interval of a new token, seconds.
    dht_interval "dht-interval": u64,
    /// Key interval of a new token, seconds.
    otp_interval "otp-interval": u64,
    /// Most networks of an explorer.
    max_networks "max-networks": u64,
    /// Most bytes of all networks of an explorer.
    max_network_bytes "max-network-bytes": Bytes,
    /// Where everything is kept.
    data_dir "data-dir": PathBuf,
    /// Level, or a tracing filter.
    log_level "log-level": LogFilter,
    /// How log lines look.
    log_format "log-format": LogFormat,
    /// One JSON document on stdout.
    json "json": bool,
}

impl Layer {
    /// Settings that answer the same question must come from one source, or a flag could meet
    /// a forgotten variable and the two would contradict each other.
    fn hide_rivals(&self, mut lower: Layer) -> Layer {
        if self.token.is_some() || self.token_file.is_some() {
            (lower.token, lower.token_file) = (None, None);
        }
        if self.random_worker.is_some() || self.target_worker.is_some() {
            (lower.random_worker, lower.target_worker) = (None, None);
        }
        if self.with_sync.is_some() || self.only_sync.is_some() {
            (lower.with_sync, lower.only_sync) = (None, None);
        }
        if self.tls_cert.is_some() || self.tls_key.is_some() || self.tls_self_signed.is_some() {
            (lower.tls_cert, lower.tls_key, lower.tls_self_signed) = (None, None, None);
        }
        lower
    }

    /// Refuses settings of this one source that contradict each other.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let conflict = |first, second| Err(ConfigError::Conflict { first, second });
        if self.token.is_some() && self.token_file.is_some() {
            return conflict("token", "token-file");
        }
        if self.random_worker == Some(true) && self.target_worker.is_some() {
            return conflict("random-worker", "target-worker");
        }
        if self.with_sync == Some(true) && self.only_sync == Some(true) {
            return conflict("with-sync", "only-sync");
        }
        if self.tls_self_signed == Some(true) && (self.tls_cert.is_some() || self.tls_key.is_some())
        {
            return conflict("tls-self-signed", "tls-cert");
        }
        Ok(())
    }
}
