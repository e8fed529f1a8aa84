//! `warren expose NAME HOST:PORT`.

use warren::api::shapes::RoleSpec;
use warren::node::ExposeSpec;

use super::args::ExposeArgs;
use super::attach::{self, RoleCommand};
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// Offers a server to the network.
pub(crate) async fn run(args: ExposeArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    let command = RoleCommand {
        role: RoleSpec::Expose(ExposeSpec {
            service: args.service,
            target: args.target.0,
        }),
        bg: args.bg,
        exit_with_stdin: args.node.exit_with_stdin,
    };
    attach::run(command, config, output).await
}
