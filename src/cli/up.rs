//! `warren up` and `warren join TOKEN`.

use super::args::{JoinArgs, NodeArgs};
use super::daemon::{self, Plan};
use super::fail::Failure;
use super::output::Output;
use crate::config::Config;

/// The daemon; founds a network where no token is known.
pub(crate) async fn run(args: &NodeArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    let plan = Plan {
        found: true,
        role: None,
        exit_with_stdin: args.exit_with_stdin,
    };
    Box::pin(daemon::run(config, plan, output)).await
}

/// The daemon in the network of a token, which the configuration already holds.
pub(crate) async fn join(args: &JoinArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    let plan = Plan {
        found: false,
        role: None,
        exit_with_stdin: args.node.exit_with_stdin,
    };
    Box::pin(daemon::run(config, plan, output)).await
}
