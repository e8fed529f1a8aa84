//! `warren nodes`.

use warren::Client;
use warren::api::shapes::NodeShape;
use warren::mesh::view::PathKind;

use super::fail::Failure;
use super::output::{Output, Tone, plain};

/// Prints the nodes of the network, those that answer first.
pub(crate) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let mut nodes = client.nodes().await?;
    if output.json {
        return output.document(&nodes);
    }
    nodes
        .nodes
        .sort_by(|a, b| (!a.online, &a.name, a.id).cmp(&(!b.online, &b.name, b.id)));
    let rows = nodes.nodes.iter().map(|node| {
        vec![
            plain(&node.name),
            plain(&node.id.short()),
            state(node),
            plain(&path(node)),
            plain(&node.version),
            plain(
                &node
                    .addresses
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
        ]
    });
    let header = ["name", "id", "state", "path", "version", "address"];
    output.table(&header, rows.collect(), "no nodes")
}

fn state(node: &NodeShape) -> (String, Tone) {
    match (node.online, node.draining) {
        (true, false) => ("online".to_owned(), Tone::Good),
        (true, true) => ("draining".to_owned(), Tone::Bad),
        (false, _) => {
            let seen = node.last_seen.map(|at| format!(" since {at}"));
            (format!("gone{}", seen.unwrap_or_default()), Tone::Faint)
        }
    }
}

fn path(node: &NodeShape) -> String {
    let kind = match node.path.kind {
        PathKind::Own => return "this node".to_owned(),
        PathKind::None => return "-".to_owned(),
        PathKind::Direct => "direct".to_owned(),
        PathKind::Relay => match &node.path.via {
            Some(via) => format!("relay({})", via.get(..12).unwrap_or(via)),
            None => "relay".to_owned(),
        },
    };
    match node.path.rtt_ms {
        Some(ms) => format!("{kind} {ms:.1} ms"),
        None => kind,
    }
}
