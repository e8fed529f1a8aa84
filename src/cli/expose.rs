//! `warren expose NAME HOST:PORT`.

use warren::api::shapes::RoleSpec;
use warren::node::{ExposeSpec, Protocol, ProxyProtocol};

use super::args::ExposeArgs;
use super::attach::{self, RoleCommand};
use super::fail::Failure;
use super::output::Output;
use crate::config::{Config, ProxyArg};

/// Offers a server to the network.
pub(crate) async fn run(args: ExposeArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    let proxy = config
        .set
        .proxy_protocol
        .map(|ProxyArg::V2| ProxyProtocol::V2);
    if proxy.is_some() && args.server.protocol == Protocol::Udp {
        return Err(Failure::usage(
            "--proxy-protocol is for TCP: a datagram has no place for the header",
        ));
    }
    let command = RoleCommand {
        role: RoleSpec::Expose(ExposeSpec {
            protocol: args.server.protocol,
            proxy_protocol: proxy,
            ..ExposeSpec::new(args.service, args.server.at)
        }),
        bg: args.bg,
        exit_with_stdin: args.node.exit_with_stdin,
    };
    attach::run(command, config, output).await
}
