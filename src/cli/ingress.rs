//! `warren ingress NAME LISTEN`.

use std::net::SocketAddr;

use warren::api::shapes::RoleSpec;
use warren::mesh::name::Name;
use warren::node::{FLOW_TIMEOUT_MS, Failover, IngressSpec, Mode, Protocol, Strategy};

use super::args::IngressArgs;
use super::attach::{self, RoleCommand};
use super::fail::Failure;
use super::output::Output;
use super::tls;
use crate::config::{Config, FailoverArg, Layer, ModeArg, Span};

/// Listens on this machine for a service of the network.
pub(crate) async fn run(args: IngressArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    let listen = args.listen;
    let mut spec = spec(args.service, listen.at, Failover::Connect, &config.set)?;
    spec.protocol = listen.protocol;
    if spec.protocol == Protocol::Udp && spec.tls.is_some() {
        return Err(Failure::usage("TLS is for TCP: leave the tls flags out"));
    }
    let command = RoleCommand {
        role: RoleSpec::Ingress(spec),
        bg: args.bg,
        exit_with_stdin: args.node.exit_with_stdin,
    };
    attach::run(command, config, output).await
}

/// An ingress as the settings describe it; `failover` is what holds where they say nothing.
pub(crate) fn spec(
    service: Name,
    listen: SocketAddr,
    failover: Failover,
    set: &Layer,
) -> Result<IngressSpec, Failure> {
    Ok(IngressSpec {
        strategy: match (&set.target_worker, set.random_worker) {
            (Some(node), _) => Strategy::Target(node.clone()),
            (None, Some(true)) => Strategy::Random,
            _ => Strategy::LeastUsed,
        },
        failover: match set.failover {
            Some(FailoverArg::Connect) => Failover::Connect,
            Some(FailoverArg::Replay) => Failover::Replay,
            Some(FailoverArg::Off) => Failover::Off,
            None => failover,
        },
        mode: match set.mode.unwrap_or_default() {
            ModeArg::Tcp => Mode::Tcp,
            ModeArg::Http => Mode::Http,
            ModeArg::Auto => Mode::Auto,
        },
        tls: tls::spec(set)?,
        flow_timeout_ms: set.flow_timeout.map(flow_timeout).transpose()?,
        ..IngressSpec::new(service, listen)
    })
}

fn flow_timeout(span: Span) -> Result<u64, Failure> {
    let ms = u64::try_from(span.0.as_millis()).ok();
    let ms = ms.filter(|ms| FLOW_TIMEOUT_MS.contains(ms));
    ms.ok_or_else(|| Failure::usage("flow-timeout is from 100ms to 24h"))
}
