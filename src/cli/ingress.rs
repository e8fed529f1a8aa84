//! `warren ingress NAME LISTEN`.

use std::net::SocketAddr;
use std::path::Path;

use warren::api::shapes::RoleSpec;
use warren::mesh::name::Name;
use warren::node::{Failover, IngressSpec, Mode, Strategy, TlsSpec};

use super::args::IngressArgs;
use super::attach::{self, RoleCommand};
use super::fail::Failure;
use super::output::Output;
use crate::config::{Config, FailoverArg, Layer, ModeArg};

/// Listens on this machine for a service of the network.
pub(crate) async fn run(args: IngressArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    let spec = spec(args.service, args.listen.0, Failover::Connect, &config.set)?;
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
        service,
        listen,
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
        tls: tls(set)?,
    })
}

fn tls(set: &Layer) -> Result<Option<TlsSpec>, Failure> {
    // A daemon that takes the role runs in another directory.
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::from);
    match (&set.tls_cert, &set.tls_key) {
        (Some(cert), Some(key)) => Ok(Some(TlsSpec::Files {
            cert: absolute(cert)?,
            key: absolute(key)?,
        })),
        (None, None) if set.tls_self_signed == Some(true) => Ok(Some(TlsSpec::SelfSigned)),
        (None, None) => Ok(None),
        _ => Err(Failure::usage(
            "tls-cert and tls-key belong together: give both",
        )),
    }
}
