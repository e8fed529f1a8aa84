//! `warren services [--watch]`, and `services --roles`: the roles of the daemon.

use std::collections::BTreeMap;

use warren::Client;
use warren::api::shapes::{ProviderShape, ServiceShape, State};
use warren::mesh::name::Bucket;

use super::args::ServicesArgs;
use super::daemon::role_line;
use super::fail::Failure;
use super::output::{Output, Table, Tone, plain};
use super::watch::{self, Watched};

/// Prints who serves what.
pub(crate) async fn run(
    client: &Client,
    args: &ServicesArgs,
    output: Output,
) -> Result<(), Failure> {
    if args.roles {
        return roles(client, output).await;
    }
    if args.watch {
        let lines = client.watch_services().await?;
        return watch::state(lines, ServiceList::default(), output).await;
    }
    let services = client.services().await?;
    match output.json {
        true => output.document(&services),
        false => output.table(table(services.services.iter())),
    }
}

/// The services as a watch has told them.
#[derive(Default)]
struct ServiceList(BTreeMap<Bucket, ServiceShape>);

impl Watched for ServiceList {
    fn take(&mut self, state: State) {
        match state {
            State::Services(all) => {
                let named = all.services.into_iter();
                self.0 = named.map(|one| (one.service.clone(), one)).collect();
            }
            State::Service(gone) if gone.nodes.is_empty() => {
                self.0.remove(&gone.service);
            }
            State::Service(service) => {
                self.0.insert(service.service.clone(), service);
            }
            _ => {}
        }
    }

    fn table(&self) -> Table {
        table(self.0.values())
    }
}

fn table<'a>(services: impl Iterator<Item = &'a ServiceShape>) -> Table {
    let rows = services.flat_map(|service| {
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
    Table {
        header: &[
            "service",
            "node",
            "id",
            "state",
            "in flight",
            "served",
            "target",
        ],
        rows: rows.collect(),
        empty: "no services; offer one with `warren expose NAME HOST:PORT`",
    }
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
    output.table(Table {
        header: &["id", "role", "lives"],
        rows: rows.collect(),
        empty: "no roles",
    })
}
