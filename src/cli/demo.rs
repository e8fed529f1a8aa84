//! `warren demo`: a whole mesh on this machine. Every node is a child process of this binary with
//! its own store in a temporary directory; one more child is the federated address. Nothing of it
//! is left when this command ends, and the children end with it even if it is killed.

mod children;
mod screen;
mod server;
mod traffic;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use warren::Client;
use warren::api::client::Lines;
use warren::api::shapes::{ProviderShape, ServiceShape, State, Update};
use warren::mesh::keys::{Interval, Secret};
use warren::mesh::token::Token;
use zeroize::Zeroizing;

use super::args::DemoArgs;
use super::fail::Failure;
use super::output::Output;
use super::signals::Signals;
use super::watch;
use children::{Member, Recipe};
use screen::{Key, Row, Screen};
use traffic::Traffic;

/// How long the services may take to show up before the demo goes on without them.
const PATIENCE: Duration = Duration::from_secs(15);
/// Requests that one press of `r` sends.
const BURST: u32 = 24;

/// Starts the demo and stays until somebody ends it; returns the exit code.
pub(crate) async fn run(args: &DemoArgs, output: Output) -> Result<u8, Failure> {
    let asked_to_end = asked_to_end()?;
    let home = Home::make()?;
    let mut members = Vec::new();
    // However this ends, the children are ended before their directory is removed.
    let played = tokio::select! {
        played = Box::pin(play(args, &home.0, &mut members, output)) => played,
        () = asked_to_end => Ok(()),
    };
    children::end(members).await;
    played.map(|()| 0)
}

fn asked_to_end() -> Result<impl Future<Output = ()>, Failure> {
    let mut signals = Signals::new()?;
    // The terminal that shows the demo was closed.
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = signals.next() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// A directory of our own that is removed with this value.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let mut random = [0; 8];
        SysRng.try_fill_bytes(&mut random).map_err(no_random)?;
        let name = format!("warren-demo-{:016x}", u64::from_be_bytes(random));
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Failure::failed("io", format!("{}: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} is left behind: {e}", self.0.display());
        }
    }
}

fn no_random(reason: impl std::fmt::Display) -> Failure {
    Failure::failed(
        "random",
        format!("the system gives no random bytes: {reason}"),
    )
}

fn new_token() -> Result<Zeroizing<String>, Failure> {
    let mut secret = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(secret.as_mut()).map_err(no_random)?;
    let crypto = Interval::DEFAULT_CRYPTO.seconds();
    let discovery = Interval::DEFAULT_DISCOVERY.seconds();
    Ok(Token::new(Secret::new(*secret), crypto, discovery)?.to_text())
}

async fn play(
    args: &DemoArgs,
    home: &Path,
    members: &mut Vec<Member>,
    output: Output,
) -> Result<(), Failure> {
    let federated = start(args, home, members).await?;
    let gateway = members
        .last()
        .ok_or_else(|| Failure::failed("demo", "no node was started"))?;
    let client = Client::connect(&gateway.data_dir).await?;
    let mut service = Service::watch(&client).await?;
    service.wait_for(usize::from(args.nodes)).await?;
    if output.json {
        return play_silently(members, federated, output).await;
    }
    Demo {
        members,
        service,
        traffic: Traffic::new(federated),
        screen: Screen::open(federated, output)?,
    }
    .watch()
    .await
}

/// Starts every node; the last one in `members` is the federated address that is returned.
async fn start(
    args: &DemoArgs,
    home: &Path,
    members: &mut Vec<Member>,
) -> Result<SocketAddr, Failure> {
    let token = new_token()?;
    let mut first = None;
    for number in 1..=args.nodes {
        let name = format!("node-{number}");
        let target = server::start(&name).await?;
        let recipe = Recipe::node(home, &name, &token, first.as_deref(), target);
        let member = Member::start(recipe).await?;
        first.get_or_insert_with(|| member.dial_address());
        members.push(member);
    }
    let recipe = Recipe::gateway(home, &token, first.as_deref(), args.address.0);
    let gateway = Member::start(recipe).await?;
    let federated = gateway.ingress.ok_or_else(|| {
        Failure::failed("demo", "the federated address was not in the ready line")
    })?;
    members.push(gateway);
    Ok(federated)
}

/// Who serves, as the federated address sees it.
struct Service {
    lines: Lines,
    nodes: Vec<ProviderShape>,
}

impl Service {
    async fn watch(client: &Client) -> Result<Self, Failure> {
        Ok(Self {
            lines: client.watch_services().await?,
            nodes: Vec::new(),
        })
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    async fn changed(&mut self) -> Result<(), Failure> {
        let ours = |service: &ServiceShape| service.service.as_str() == children::SERVICE;
        let update: Option<Update> = self.lines.next_as().await?;
        match update.ok_or_else(watch::daemon_stopped)?.state {
            State::Services(all) => {
                let found = all.services.into_iter().find(ours);
                self.nodes = found.map(|service| service.nodes).unwrap_or_default();
            }
            State::Service(service) if ours(&service) => self.nodes = service.nodes,
            _ => {}
        }
        Ok(())
    }

    /// Waits until that many nodes serve, but not for ever.
    async fn wait_for(&mut self, wanted: usize) -> Result<(), Failure> {
        let all_ready = async {
            while self.nodes.iter().filter(|n| n.online && n.ready).count() < wanted {
                self.changed().await?;
            }
            Ok(())
        };
        timeout(PATIENCE, all_ready).await.unwrap_or_else(|_| {
            tracing::warn!("not every node offers its server yet");
            Ok(())
        })
    }
}

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    federated: SocketAddr,
    nodes: Vec<ReadyNode<'a>>,
}

#[derive(Serialize)]
struct ReadyNode<'a> {
    name: &'a str,
    pid: Option<u32>,
    data_dir: &'a Path,
}

/// For scripts: one line, then nothing until somebody ends it.
async fn play_silently<'a>(
    members: &'a [Member],
    federated: SocketAddr,
    output: Output,
) -> Result<(), Failure> {
    let node = |member: &'a Member| ReadyNode {
        name: &member.name,
        pid: member.pid(),
        data_dir: &member.data_dir,
    };
    output.document(&Ready {
        event: "ready",
        federated,
        nodes: members.iter().map(node).collect(),
    })?;
    std::future::pending().await
}

struct Demo<'a> {
    members: &'a mut Vec<Member>,
    service: Service,
    traffic: Traffic,
    screen: Screen,
}

impl Demo<'_> {
    async fn watch(mut self) -> Result<(), Failure> {
        loop {
            let rows = self.rows();
            self.screen.draw(&rows, &self.traffic.line())?;
            tokio::select! {
                changed = self.service.changed() => changed?,
                () = self.traffic.settled() => {}
                key = self.screen.key() => match key {
                    Key::Kill => self.kill_one().await,
                    Key::Requests => self.traffic.send(BURST),
                    Key::Quit => return Ok(()),
                },
            }
        }
    }

    /// What the federated address knows of each node, and what we know of its process.
    fn rows(&mut self) -> Vec<Row> {
        let known = &self.service.nodes;
        let gateway = self.members.len().saturating_sub(1);
        let rows = self.members.iter_mut().take(gateway).map(|member| {
            let provider = known.iter().find(|p| p.id.to_string() == member.node_id);
            let usable = provider.is_some_and(|p| p.online && p.ready);
            Row {
                node: member.name.clone(),
                state: match (member.is_running(), usable) {
                    (true, true) => "ready",
                    (true, false) => "starting",
                    (false, true) => "killed, not noticed yet",
                    (false, false) => "killed",
                },
                in_flight: provider.map_or(0, |p| p.in_flight),
                served: provider.map_or(member.served, |p| p.served),
            }
        });
        let rows: Vec<Row> = rows.collect();
        // A node that is gone is listed no more, but what it served stays true.
        for (member, row) in self.members.iter_mut().zip(&rows) {
            member.served = row.served;
        }
        rows
    }

    /// The last node that still serves: the first one is everybody's way in.
    async fn kill_one(&mut self) {
        let gateway = self.members.len().saturating_sub(1);
        for member in self.members.iter_mut().take(gateway).rev() {
            if member.is_running() {
                return member.kill().await;
            }
        }
    }
}
