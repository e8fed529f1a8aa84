//! Datagrams from real clients to real servers, through real daemons.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{Daemon, Mesh, until};

/// How long a client waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longer than any path takes here.
const TOO_LONG: usize = 60_000;

/// A server that says `NAME FROM: ` and what it was told, or `LEN` bytes when told `big LEN`.
pub(crate) struct Echo {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn new(name: &str) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), name)
    }

    fn at(at: SocketAddr, name: &str) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (at, name) = (socket.local_addr().unwrap(), name.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut said = vec![0; 1 << 16];
            while !stopped.load(Ordering::SeqCst) {
                let Ok((len, from)) = socket.recv_from(&mut said) else {
                    continue;
                };
                let said = &said[..len];
                let big = std::str::from_utf8(said)
                    .ok()
                    .and_then(|text| text.strip_prefix("big "));
                let answer = match big {
                    Some(len) => vec![b'x'; len.parse().unwrap()],
                    None => [format!("{name} {from}: ").as_bytes(), said].concat(),
                };
                let _ = socket.send_to(&answer, from);
            }
        });
        Self {
            at,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A client of an ingress.
pub(crate) struct Client(UdpSocket);

/// What a server said of itself and of its client, and what it was told.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    name: String,
    pub(crate) from: String,
    said: Vec<u8>,
}

impl Client {
    pub(crate) fn of(ingress: SocketAddr) -> Self {
        let any: SocketAddr = match ingress {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(ingress).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn say(&self, said: &[u8]) {
        self.0.send(said).unwrap();
    }

    fn hear(&self) -> Option<Vec<u8>> {
        let mut answer = vec![0; 1 << 16];
        let len = self.0.recv(&mut answer).ok()?;
        answer.truncate(len);
        Some(answer)
    }

    fn try_ask(&self, said: &[u8]) -> Option<Answer> {
        self.say(said);
        let heard = self.hear()?;
        let end = heard.windows(2).position(|two| two == b": ")?;
        let (name, from) = std::str::from_utf8(&heard[..end])
            .unwrap()
            .split_once(' ')?;
        let answer = Answer {
            name: name.to_owned(),
            from: from.to_owned(),
            said: heard[end + 2..].to_vec(),
        };
        (answer.said == said).then_some(answer)
    }

    /// Asks until there is an answer: datagrams may be lost.
    pub(crate) fn ask(&self, said: &[u8]) -> Answer {
        until("an answer", || self.try_ask(said))
    }
}

pub(crate) fn expose(server: &Echo) -> String {
    format!("dns=udp:{}", server.at)
}

/// `count` nodes with a server each, and one with an ingress on `listen` and these flags.
fn world(mesh: &Mesh, servers: &[Echo], flags: &[&str]) -> (Vec<Daemon>, Daemon) {
    let mut nodes: Vec<Daemon> = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        let recipe = mesh.node(&format!("n{at}"));
        let recipe = recipe.args(&["--expose", &expose(server)]);
        nodes.push(match nodes.first() {
            Some(first) => recipe.connect(first).start(),
            None => recipe.start(),
        });
    }
    let gateway = [&["ingress", "dns", "udp:127.0.0.1:0"], flags].concat();
    let gateway = mesh.daemon("gateway", &gateway).connect(&nodes[0]).start();
    gateway.wait_ready("dns", servers.len());
    (nodes, gateway)
}

fn counted(node: &Daemon, reason: &str) -> u64 {
    let status = node.json(&["status"]);
    status["refused"][reason].as_u64().unwrap_or(0)
}

/// Sum over the nodes that serve or have served, also those whose record is gone.
fn sum(node: &Daemon, what: &str) -> u64 {
    let status = node.json(&["status"]);
    let usage = status["usage"].as_array().unwrap().iter();
    let counts = usage.map(|one| one[what].as_u64().unwrap());
    counts.sum()
}

#[test]
fn datagrams_of_many_clients_come_back_to_whom_they_are_for() {
    let mesh = Mesh::new();
    let servers = [Echo::new("s")];
    let (nodes, gateway) = world(&mesh, &servers, &[]);
    let at = gateway.ingress();
    assert_eq!(gateway.ready["ingress"][0]["protocol"], "udp");
    let clients: Vec<_> = (0..40_u8)
        .map(|n| {
            thread::spawn(move || {
                let client = Client::of(at);
                let mut froms = BTreeSet::new();
                for round in 0..20 {
                    let said = vec![n; usize::from(n) * 20 + round];
                    froms.insert(client.ask(&said).from);
                }
                // One flow, one socket: as if the client itself spoke to the server.
                assert_eq!(froms.len(), 1, "{froms:?}");
                froms.pop_first().unwrap()
            })
        })
        .collect();
    let froms: BTreeSet<String> = clients.into_iter().map(|one| one.join().unwrap()).collect();
    assert_eq!(froms.len(), 40, "two clients shared a flow");
    assert_eq!(sum(&gateway, "in_flight"), 40);
    assert_eq!(sum(&gateway, "served"), 40);
    assert_eq!(
        sum(&nodes[0], "in_flight"),
        40,
        "the egress counts them too"
    );
    // It is not a TCP service, and TCP clients are not led there.
    let flags = ["ingress", "dns", "127.0.0.1:0", "--print-ready"];
    let mut role = gateway.running(&flags);
    let ready: serde_json::Value = serde_json::from_str(&role.line()).unwrap();
    let tcp = ready["ingress"][0]["listen"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(crate::common::http::get(tcp, "/").unwrap().status, 503);
}

#[test]
fn a_server_of_the_same_node_and_one_over_ipv6_are_served_too() {
    let mesh = Mesh::new();
    let server = Echo::at((Ipv6Addr::LOCALHOST, 0).into(), "six");
    let node = mesh.node("node").args(&["--expose", &expose(&server)]);
    let node = node.args(&["--ingress", "dns=udp:[::1]:0", "--ingress", "dns=udp::0"]);
    let node = node.start();
    node.wait_ready("dns", 1);
    let six = Client::of(node.ingress()).ask(b"?");
    assert!(
        six.name == "six" && six.from.starts_with("[::1]"),
        "{six:?}"
    );
    let both: SocketAddr = node.ready["ingress"][1]["listen"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let four = SocketAddr::from((Ipv4Addr::LOCALHOST, both.port()));
    assert_eq!(Client::of(four).ask(b"?").name, "six");
    // Without a link the limit is that of UDP itself.
    let client = Client::of(four);
    client.ask(b"?");
    assert_eq!(client.ask(&vec![1; TOO_LONG]).said.len(), TOO_LONG);
    assert_eq!(sum(&node, "served"), 3);
}

#[test]
fn what_is_longer_than_the_path_takes_is_dropped_and_counted() {
    let mesh = Mesh::new();
    let servers = [Echo::new("s")];
    let (nodes, gateway) = world(&mesh, &servers, &[]);
    let client = Client::of(gateway.ingress());
    client.ask(b"?");
    // `schema/wire.md` promises this much on every path.
    assert_eq!(client.ask(&[7; 1_150]).said.len(), 1_150);
    client.say(&[0; TOO_LONG]);
    until("counted at the ingress", || {
        (counted(&gateway, "udp_too_large") == 1).then_some(())
    });
    client.say(format!("big {TOO_LONG}").as_bytes());
    until("counted at the egress", || {
        (counted(&nodes[0], "udp_too_large") == 1).then_some(())
    });
    // The flow goes on, and nothing of the long ones arrived.
    assert_eq!(client.ask(b"still").said, b"still");
    assert_eq!(sum(&gateway, "served"), 1);
    assert_eq!(counted(&gateway, "udp_too_large"), 1);
}

#[test]
fn a_flow_without_datagrams_is_over() {
    let mesh = Mesh::new();
    let servers = [Echo::new("s")];
    let (nodes, gateway) = world(&mesh, &servers, &["--flow-timeout", "300ms"]);
    let client = Client::of(gateway.ingress());
    let before = client.ask(b"?");
    for node in [&gateway, &nodes[0]] {
        until("the flow is over", || {
            (sum(node, "in_flight") == 0).then_some(())
        });
    }
    let after = client.ask(b"?");
    assert_ne!(before.from, after.from, "the flow lived on");
    assert_eq!(sum(&gateway, "served"), 2);
    // One that is used lives, however long.
    for _ in 0..20 {
        assert_eq!(client.ask(b"?").from, after.from);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn flows_spread_over_the_nodes_and_stay_where_they_are() {
    let mesh = Mesh::new();
    let servers = [Echo::new("a"), Echo::new("b")];
    let (_nodes, gateway) = world(&mesh, &servers, &[]);
    let clients: Vec<_> = (0..10).map(|_| Client::of(gateway.ingress())).collect();
    let names: Vec<_> = clients.iter().map(|one| one.ask(b"?").name).collect();
    assert_eq!(names.iter().filter(|name| *name == "a").count(), 5);
    for (client, name) in clients.iter().zip(&names) {
        assert_eq!(client.ask(b"again").name, *name);
    }
    let flags = [
        "ingress",
        "dns",
        "udp:127.0.0.1:0",
        "--target-worker",
        "n1",
        "--print-ready",
    ];
    let mut role = gateway.running(&flags);
    let ready: serde_json::Value = serde_json::from_str(&role.line()).unwrap();
    let target = ready["ingress"][0]["listen"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for _ in 0..4 {
        assert_eq!(Client::of(target).ask(b"?").name, "b");
    }
}

#[test]
fn flows_of_a_killed_node_move_to_another() {
    let mesh = Mesh::new();
    let servers = [Echo::new("n0"), Echo::new("n1")];
    let (mut nodes, gateway) = world(&mesh, &servers, &[]);
    let clients: Vec<_> = (0..8).map(|_| Client::of(gateway.ingress())).collect();
    let at_n1 = clients.iter().filter(|one| one.ask(b"?").name == "n1");
    assert_eq!(at_n1.count(), 4);
    nodes[1].kill();
    gateway.wait_ready("dns", 1);
    for client in &clients {
        // The first datagram may have been on its way when the node was found dead.
        assert_eq!(client.ask(b"after").name, "n0");
    }
    until("all flows are there", || {
        (sum(&gateway, "in_flight") == 8).then_some(())
    });
    nodes[0].kill();
    gateway.wait_ready("dns", 0);
    until("what nobody takes is counted", || {
        clients[0].say(b"nobody");
        (counted(&gateway, "udp_no_node") > 0).then_some(())
    });
}

#[test]
fn a_node_that_stops_lets_its_flows_end_and_they_go_elsewhere() {
    let mesh = Mesh::new();
    let servers = [Echo::new("n0"), Echo::new("n1")];
    let (mut nodes, mut gateway) = world(&mesh, &servers, &[]);
    let clients: Vec<_> = (0..4).map(|_| Client::of(gateway.ingress())).collect();
    for client in &clients {
        client.ask(b"?");
    }
    nodes[1].signal(Signal::TERM);
    assert!(nodes[1].wait().success());
    assert!(
        !nodes[1].log().contains("still running"),
        "{}",
        nodes[1].log()
    );
    for client in &clients {
        assert_eq!(client.ask(b"after").name, "n0");
    }
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    assert!(
        !gateway.log().contains("still running"),
        "{}",
        gateway.log()
    );
}

#[test]
fn a_role_that_is_given_up_ends_its_flows() {
    let mesh = Mesh::new();
    let servers = [Echo::new("s")];
    let (nodes, gateway) = world(&mesh, &servers, &[]);
    let client = Client::of(gateway.ingress());
    client.ask(b"?");
    nodes[0].said(&["role", "rm", "1"]);
    until("the flow has ended", || {
        (sum(&nodes[0], "in_flight") + sum(&gateway, "in_flight") == 0).then_some(())
    });
    assert!(client.try_ask(b"?").is_none());
    gateway.said(&["role", "rm", "1"]);
    until("the port is free", || {
        UdpSocket::bind(gateway.ingress()).ok()
    });
}

#[test]
fn a_server_that_is_not_there_is_passed_over() {
    let mesh = Mesh::new();
    let servers = [Echo::new("n0"), Echo::new("n1")];
    let (_nodes, gateway) = world(&mesh, &servers, &[]);
    let client = Client::of(gateway.ingress());
    let [first, second] = servers;
    let lives = match client.ask(b"?").name.as_str() {
        "n0" => {
            drop(first);
            second
        }
        _ => {
            drop(second);
            first
        }
    };
    // The system tells the node that nobody listens there; the next datagram goes elsewhere.
    client.ask(b"?");
    drop(lives);
}
