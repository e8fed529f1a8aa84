//! `warren federated`: LocalAI's command of that name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use warren::api::shapes::RoleSpec;
use warren::mesh::name::Name;
use warren::node::Failover;

use super::args::FederatedArgs;
use super::attach::{self, RoleCommand};
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// LocalAI's `:8080`, IPv4 and IPv6.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);
/// LocalAI's bucket (`core/p2p/federated.go`).
const SERVICE: &str = "federated";

/// One address for all servers exposed as the service.
pub(crate) async fn run(
    args: &FederatedArgs,
    config: &Config,
    output: Output,
) -> Result<u8, Failure> {
    let set = &config.set;
    let service: Name = match &set.service {
        Some(name) => name.clone(),
        None => SERVICE
            .parse()
            .map_err(|e| Failure::usage(format!("{e}")))?,
    };
    let listen = set.address.map_or(ADDRESS, |address| address.0);
    let command = RoleCommand {
        role: RoleSpec::Ingress(super::ingress::spec(
            service,
            listen,
            Failover::Replay,
            set,
        )?),
        bg: args.bg,
        exit_with_stdin: args.node.exit_with_stdin,
    };
    attach::run(command, config, output).await
}
