//! `warren ping NODE`.

use serde::Serialize;
use warren::Client;
use warren::api::shapes::Pong;

use super::args::PingArgs;
use super::fail::Failure;
use super::output::Output;

#[derive(Serialize)]
struct Pings {
    pings: Vec<Pong>,
}

/// Measures round trips one after another.
pub(crate) async fn run(client: &Client, args: &PingArgs, output: Output) -> Result<(), Failure> {
    let mut pings = Vec::new();
    for _ in 0..args.count {
        let pong = client.ping(&args.node).await?;
        if !output.json {
            let name = pong.name.as_ref().map_or("?", |name| name.as_str());
            output.line(format!(
                "{name} ({})  {:.3} ms",
                pong.id.short(),
                pong.rtt_ms
            ))?;
        }
        pings.push(pong);
    }
    match output.json {
        true => output.document(&Pings { pings }),
        false => Ok(()),
    }
}
