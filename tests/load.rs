//! Many streams at once through two real nodes, each with sizes, pauses, half-closes and resets
//! of its own: every byte arrives or both ends see the same kind of end, and nothing is left.
//!
//! `WARREN_LONG=1` keeps 2,000 streams of up to 1 GiB going for two minutes; build it with
//! `--release`, or take smaller ones: `LOAD_BITS=20` is up to 1 MiB. `LOAD_SEED` repeats a run.
#![cfg(all(feature = "p2p", target_os = "linux"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::cast_possible_truncation)]

#[path = "load/plan.rs"]
mod plan;
#[path = "load/talk.rs"]
mod talk;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use plan::{Plan, Size, Who};
use talk::{Outcome, Saw, as_client, as_server, running};
use warren::Node;
use warren::mesh::token::Token;
use warren::node::{ExposeSpec, Failover, IngressSpec, RoleKind};

/// How long anything may take on a machine that has much else to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(20);

/// How much is asked of the nodes.
struct Load {
    /// Streams at once.
    at_once: usize,
    /// Streams in all, at least.
    streams: u64,
    /// New streams begin until then.
    lasts: Duration,
    size: Size,
}

impl Load {
    fn asked_for() -> Self {
        let mut load = Self::usual();
        let bits = std::env::var("LOAD_BITS").ok();
        if let Some(bits) = bits {
            load.size = Size::up_to(bits.parse().unwrap());
        }
        load
    }

    fn usual() -> Self {
        match std::env::var_os("WARREN_LONG").is_some_and(|value| value == "1") {
            true => Self {
                at_once: 2_000,
                streams: 0,
                lasts: Duration::from_secs(120),
                size: Size::up_to(30),
            },
            false => Self {
                at_once: 150,
                streams: 600,
                lasts: Duration::ZERO,
                size: Size::up_to(20),
            },
        }
    }
}

/// A node on a runtime and a thread of its own, so that its tasks can be counted.
struct Place {
    node: Node,
    runtime: Handle,
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
    _home: TempDir,
}

impl Place {
    fn start(token: Option<Token>) -> Self {
        let home = TempDir::new().unwrap();
        let runtime = runtime();
        let builder = Node::builder().data_dir(home.path());
        let builder = builder.listen(vec![([127, 0, 0, 1], 0).into()]);
        let builder = match token {
            Some(token) => builder.token(token),
            None => builder.found(true),
        };
        let builder = match std::env::var("WARREN_SHARDS") {
            Ok(count) => builder.shards(count.parse().unwrap()),
            Err(_) => builder,
        };
        let node = runtime.block_on(async { builder.start().await }).unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || runtime.block_on(stopped));
        Self {
            node,
            runtime: handle,
            _stop: stop,
            _home: home,
        }
    }

    /// Where clients of the service go.
    fn listen(&self, failover: Failover) -> SocketAddr {
        let listen = ([127, 0, 0, 1], 0).into();
        let spec = IngressSpec {
            failover,
            ..IngressSpec::new("load".parse().unwrap(), listen)
        };
        let role = self.runtime.block_on(self.node.ingress(spec, false));
        match role.unwrap().kind {
            RoleKind::Ingress { listen, .. } => listen,
            RoleKind::Expose { .. } => panic!("not an ingress"),
        }
    }

    /// Connections that run, as this node counts them.
    fn in_flight(&self) -> u64 {
        self.node.usage().iter().map(|one| one.in_flight).sum()
    }

    fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(GLANCE);
    }
}

#[test]
fn every_byte_arrives_or_both_ends_see_the_same_end_and_nothing_is_left() {
    let load = Load::asked_for();
    let seed = std::env::var("LOAD_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("LOAD_SEED={seed}");

    let outside = runtime();
    let (told, mut outcomes) = mpsc::unbounded_channel();
    let server = outside.block_on(serve(told));
    let egress = Place::start(None);
    let ingress = Place::start(Some(egress.node.join_token()));
    let target = server.to_string().parse().unwrap();
    let expose = ExposeSpec::new("load".parse().unwrap(), target);
    let exposing = egress.node.expose(expose, false);
    egress.runtime.block_on(exposing).unwrap();
    let listen = [Failover::Connect, Failover::Replay].map(|failover| ingress.listen(failover));
    until("a provider", || {
        ingress.node.view().all_providers().any(|one| one.usable())
    });

    // The link is up and everything that is made once is there.
    let calm = Load {
        at_once: 1,
        streams: 3,
        lasts: Duration::ZERO,
        size: Size::up_to(10),
    };
    outside.block_on(run(listen, &calm, seed, &mut outcomes));
    let quiet = || ingress.in_flight() == 0 && egress.in_flight() == 0;
    until("nothing in flight", quiet);
    let before = (ingress.tasks(), egress.tasks(), descriptors());

    let ends = outside.block_on(run(listen, &load, seed.wrapping_add(1), &mut outcomes));
    println!("{ends:?}");
    let few = |count: &u64| *count > load.streams / 20;
    assert!(
        ends.iter().all(few),
        "an end that hardly ever happened: {ends:?}"
    );

    until("nothing in flight", quiet);
    // A health check of the server may just be under way, on either side of the comparison.
    until("no task and no descriptor is left", || {
        let now = (ingress.tasks(), egress.tasks(), descriptors());
        now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2
    });
    for place in [ingress, egress] {
        place.runtime.block_on(place.node.shutdown(false));
    }
}

/// A server that does its part of each stream and tells what became of it.
async fn serve(told: mpsc::UnboundedSender<(Plan, Outcome)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                if let Some(done) = as_server(tcp).await {
                    let _ = told.send(done);
                }
            });
        }
    });
    addr
}

/// Runs the load and checks each stream; how many ended in order, by the client's reset, by the
/// server's.
async fn run(
    to: [SocketAddr; 2],
    load: &Load,
    seed: u64,
    servers: &mut mpsc::UnboundedReceiver<(Plan, Outcome)>,
) -> [u64; 3] {
    let begun = Instant::now();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut streams = JoinSet::new();
    // More at once would be too many for the servers' backlogs, which is not what is tested.
    let beginning = Arc::new(Semaphore::new(200));
    let mut clients = HashMap::new();
    let mut count = 0;
    loop {
        while streams.len() < load.at_once && (count < load.streams || begun.elapsed() < load.lasts)
        {
            let plan = Plan::new(&mut rng, count, load.size);
            let to = to[usize::from(count.is_multiple_of(2))];
            count += 1;
            let beginning = Arc::clone(&beginning);
            streams.spawn(async move {
                let permit = beginning.acquire_owned().await.unwrap();
                let tcp = TcpStream::connect(to).await.unwrap();
                (plan, as_client(tcp, plan, permit).await)
            });
        }
        match timeout(DEADLINE * 5, streams.join_next()).await {
            Ok(Some(done)) => {
                let (plan, outcome) = done.unwrap();
                clients.insert(plan.id, outcome);
            }
            Ok(None) => break,
            Err(_) => panic!("{} streams hang:\n{}", streams.len(), running()),
        }
    }
    let mut ends = [0; 3];
    // Who was reset before the server had said a word may have been refused for want of time.
    while clients.values().any(|client| client.saw != Saw::Nobody) {
        let Ok(told) = timeout(DEADLINE, servers.recv()).await else {
            clients.retain(|_, client| client.saw != Saw::Nobody);
            panic!(
                "the servers' ends of these hang: {clients:?}\n{}",
                running()
            );
        };
        let (plan, server) = told.unwrap();
        let client = clients.remove(&plan.id).expect("a stream came twice");
        ends[check(&plan, &client, &server)] += 1;
    }
    // What a server still tells of these belongs to no later run.
    while let Ok((plan, server)) = servers.try_recv() {
        let client = clients.remove(&plan.id).expect("a stream came twice");
        ends[check(&plan, &client, &server)] += 1;
    }
    let refused = clients.len() as u64;
    println!("{count} streams, {refused} refused, {:?}", begun.elapsed());
    assert!(
        refused * 20 <= count,
        "{refused} of {count} streams found no server"
    );
    ends
}

fn check(plan: &Plan, client: &Outcome, server: &Outcome) -> usize {
    let story = || format!("{plan:?}\nclient {client:?}\nserver {server:?}");
    assert!(
        !client.corrupt && !server.corrupt,
        "changed bytes: {}",
        story()
    );
    if client.saw == Saw::Nobody && server.saw == Saw::Reset {
        // The server came too late, and both know that it is over.
        return plan
            .resets
            .map_or(0, |(who, _)| 1 + usize::from(who == Who::Server));
    }
    match plan.resets {
        None => {
            let all = client.heard == plan.down && server.heard == plan.up;
            assert!(all, "bytes are missing: {}", story());
            assert_eq!(
                (client.saw, server.saw),
                (Saw::End, Saw::End),
                "{}",
                story()
            );
            0
        }
        Some((Who::Client, at)) => {
            assert!(server.heard <= at, "{}", story());
            assert_eq!(server.saw, Saw::Reset, "{}", story());
            let own = matches!(client.saw, Saw::Own | Saw::Nobody);
            assert!(own, "{}", story());
            1
        }
        Some((Who::Server, at)) => {
            assert!(client.heard <= at, "{}", story());
            assert_eq!(server.saw, Saw::Own, "{}", story());
            let reset = matches!(client.saw, Saw::Reset | Saw::Nobody);
            assert!(reset, "{}", story());
            2
        }
    }
}

/// The checker complains of what it is there for.
#[test]
fn a_lost_byte_or_a_polite_end_in_place_of_a_reset_is_noticed() {
    let mut rng = SmallRng::seed_from_u64(1);
    let size = Size::up_to(10);
    let plan = Plan {
        resets: None,
        ..Plan::new(&mut rng, 0, size)
    };
    let whole = |heard, saw| Outcome {
        heard,
        saw,
        corrupt: false,
    };
    let bites = |plan: Plan, client, server| {
        let checked = std::panic::catch_unwind(move || check(&plan, &client, &server));
        assert!(checked.is_err(), "nobody noticed");
    };
    let (up, down) = (plan.up, plan.down);
    assert_eq!(
        check(&plan, &whole(down, Saw::End), &whole(up, Saw::End)),
        0
    );
    bites(plan, whole(down, Saw::End), whole(up + 1, Saw::End));
    bites(plan, whole(down, Saw::Reset), whole(up, Saw::End));
    let plan = Plan {
        resets: Some((Who::Client, 0)),
        ..plan
    };
    bites(plan, whole(0, Saw::Own), whole(0, Saw::End));
}
