//! `warren nodes [--watch]`.

use std::collections::BTreeMap;

use warren::Client;
use warren::api::shapes::{NodeShape, State};
use warren::mesh::id::NodeId;
use warren::mesh::view::PathKind;

use super::args::NodesArgs;
use super::fail::Failure;
use super::output::{Output, Table, Tone, plain};
use super::watch::{self, Watched};

/// Prints the nodes of the network, those that answer first.
pub(crate) async fn run(client: &Client, args: &NodesArgs, output: Output) -> Result<(), Failure> {
    if args.watch {
        let lines = client.watch_nodes().await?;
        return watch::state(lines, NodeList::default(), output).await;
    }
    let nodes = client.nodes().await?;
    match output.json {
        true => output.document(&nodes),
        false => output.table(table(nodes.nodes.iter().collect())),
    }
}

/// The nodes as a watch has told them.
#[derive(Default)]
struct NodeList(BTreeMap<NodeId, NodeShape>);

impl Watched for NodeList {
    fn take(&mut self, state: State) {
        match state {
            State::Nodes(all) => {
                self.0 = all.nodes.into_iter().map(|node| (node.id, node)).collect();
            }
            State::Node { node } => {
                self.0.insert(node.id, node);
            }
            State::NodeRemoved { id } => {
                self.0.remove(&id);
            }
            _ => {}
        }
    }

    fn table(&self) -> Table {
        table(self.0.values().collect())
    }
}

fn table(mut nodes: Vec<&NodeShape>) -> Table {
    nodes.sort_by(|a, b| (!a.online, &a.name, a.id).cmp(&(!b.online, &b.name, b.id)));
    let rows = nodes.into_iter().map(|node| {
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
    Table {
        header: &["name", "id", "state", "path", "version", "address"],
        rows: rows.collect(),
        empty: "no nodes",
    }
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
