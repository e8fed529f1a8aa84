//! `warren drain [--off]`.

use serde::Serialize;
use warren::Client;

use super::args::DrainArgs;
use super::fail::Failure;
use super::output::Output;

#[derive(Serialize)]
struct Drained {
    draining: bool,
}

/// Asks the others to stop, or again start, choosing this node.
pub(crate) async fn run(client: &Client, args: &DrainArgs, output: Output) -> Result<(), Failure> {
    let draining = !args.off;
    client.drain(draining).await?;
    if output.json {
        return output.document(&Drained { draining });
    }
    output.line(match draining {
        true => "draining: no new requests come here; running ones go on",
        false => "the others choose this node again",
    })
}
