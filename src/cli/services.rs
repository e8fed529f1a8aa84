//! `warren services`, and `services --roles`: the roles of the daemon.

use warren::Client;
use warren::api::shapes::ProviderShape;

use super::args::ServicesArgs;
use super::daemon::role_line;
use super::fail::Failure;
use super::output::{Output, Tone, plain};

/// Prints who serves what.
pub(crate) async fn run(
    client: &Client,
    args: &ServicesArgs,
    output: Output,
) -> Result<(), Failure> {
    if args.roles {
        return roles(client, output).await;
    }
    let services = client.services().await?;
    if output.json {
        return output.document(&services);
    }
    let rows = services.services.iter().flat_map(|service| {
        service.nodes.iter().map(|node| {
            vec![
                plain(&service.service),
                plain(&node.name),
                plain(&node.id.short()),
                state(node),
                plain(&node.in_flight),
                plain(&node.served),
                plain(&node.target),
            ]
        })
    });
    let header = [
        "service",
        "node",
        "id",
        "state",
        "in flight",
        "served",
        "target",
    ];
    output.table(
        &header,
        rows.collect(),
        "no services; offer one with `warren expose NAME HOST:PORT`",
    )
}

fn state(node: &ProviderShape) -> (String, Tone) {
    match (node.online, node.ready, node.draining) {
        (false, _, _) => ("gone".to_owned(), Tone::Faint),
        (true, false, _) => ("server down".to_owned(), Tone::Bad),
        (true, true, true) => ("draining".to_owned(), Tone::Bad),
        (true, true, false) => ("ready".to_owned(), Tone::Good),
    }
}

async fn roles(client: &Client, output: Output) -> Result<(), Failure> {
    let roles = client.roles().await?;
    if output.json {
        return output.document(&roles);
    }
    let rows = roles.roles.iter().map(|role| {
        let kept = if role.kept { "kept" } else { "until it ends" };
        vec![plain(&role.id), plain(&role_line(role)), plain(&kept)]
    });
    output.table(&["id", "role", "lives"], rows.collect(), "no roles")
}
