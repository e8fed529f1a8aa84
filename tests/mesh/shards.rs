//! Daemons whose bytes are carried by several threads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use rustix::process::Signal;

use crate::common::server::Backend;
use crate::common::{DEADLINE, Daemon, Mesh, http, until};
use crate::udp::{self, Client, Echo};

/// Bytes of one transfer.
const BYTES: u32 = 2_000_003;

/// Names of the threads of a daemon that carry bytes.
#[cfg(target_os = "linux")]
fn carriers(daemon: &Daemon) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let name = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.unwrap().path().join("comm")).unwrap()
    };
    let mut names: Vec<String> = tasks.map(name).collect();
    names.retain(|name| name.starts_with("warren-shard"));
    names.sort();
    names
}

/// A server that sends back what comes.
fn echo() -> Backend {
    Backend::new("echo", |mut stream, _| {
        let mut out = stream.try_clone()?;
        std::io::copy(&mut stream, &mut out)?;
        out.shutdown(Shutdown::Write)
    })
}

fn connect(ingress: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(ingress).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    tcp
}

/// Sends bytes that are like those of no other `seed`, and checks that exactly those come back.
fn exchange(ingress: SocketAddr, seed: u32) {
    let byte = |at: u32| {
        let mixed = at.wrapping_mul(0x9e37_79b1) ^ seed.wrapping_mul(0x85eb_ca6b);
        mixed.to_be_bytes()[0]
    };
    let sent: Vec<u8> = (0..BYTES).map(byte).collect();
    let mut tcp = connect(ingress);
    let mut to = tcp.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            to.write_all(&sent).unwrap();
            to.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        tcp.read_to_end(&mut back).unwrap();
        assert!(back == sent, "{} bytes came back of {BYTES}", back.len());
    });
}

#[test]
fn transfers_of_six_nodes_to_one_with_three_shards_are_whole() {
    let (mesh, server) = (Mesh::new(), echo());
    let node = mesh.node("node").args(&["--shards", "3"]);
    let node = node.expose("echo", server.addr()).start();
    let clients: Vec<Daemon> = (0..6)
        .map(|n| {
            let client = mesh.node(&format!("c{n}")).connect(&node);
            let client = client.env("WARREN_SHARDS", if n % 2 == 0 { "1" } else { "2" });
            client.args(&["--ingress", "echo=127.0.0.1:0"]).start()
        })
        .collect();
    clients
        .iter()
        .for_each(|client| client.wait_ready("echo", 1));
    thread::scope(|scope| {
        for (seed, client) in (0..).zip(clients.iter().chain(&clients)) {
            let ingress = client.ingress();
            scope.spawn(move || exchange(ingress, seed));
        }
    });
    let shards = |daemon: &Daemon| daemon.json(&["status"])["shards"].clone();
    assert_eq!(shards(&node), 3);
    assert_eq!(
        (shards(&clients[0]), shards(&clients[1])),
        (1.into(), 2.into())
    );
    assert!(node.said(&["status"]).contains("shards   3"));
    #[cfg(target_os = "linux")]
    {
        // One shard has no thread of its own.
        let counts = [&node, &clients[0], &clients[1]].map(|daemon| carriers(daemon).len());
        assert_eq!(counts, [3, 0, 2]);
    }
}

#[test]
fn a_node_that_is_killed_costs_clients_of_several_shards_no_answer() {
    let backends = Backend::several(2);
    let mesh = Mesh::new();
    let mut nodes: Vec<Daemon> = Vec::new();
    for (at, backend) in backends.iter().enumerate() {
        let recipe = mesh.node(&format!("n{at}")).args(&["--shards", "2"]);
        nodes.push(recipe.expose("federated", backend.addr()).start());
    }
    let gateway = mesh.federated("gateway").args(&["--shards", "3"]);
    let gateway = gateway.connect(&nodes[0]).connect(&nodes[1]).start();
    gateway.wait_ready("federated", 2);
    let at = gateway.ingress();
    let clients: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || http::get(at, "/hold").unwrap()))
        .collect();
    backends.iter().for_each(|backend| backend.wait_held(10));
    nodes[0].kill();
    until("the held requests have moved", || {
        (backends[1].held() == 20).then_some(())
    });
    assert_eq!(http::get(at, "/").unwrap().text(), "b1");
    backends[1].release();
    for client in clients {
        assert_eq!(client.join().unwrap().text(), "b1");
    }
}

#[test]
fn datagrams_through_several_shards_come_back_to_whom_they_are_for() {
    let (mesh, server) = (Mesh::new(), Echo::new("s"));
    let node = mesh.node("node").args(&["--shards", "3"]);
    let node = node.args(&["--expose", &udp::expose(&server)]).start();
    thread::scope(|scope| {
        for n in 0..6_u8 {
            let gateway = mesh.daemon(&format!("g{n}"), &["ingress", "dns", "udp:127.0.0.1:0"]);
            let gateway = gateway.connect(&node).env("WARREN_SHARDS", "2").start();
            scope.spawn(move || {
                gateway.wait_ready("dns", 1);
                let clients = [0, 1].map(|_| Client::of(gateway.ingress()));
                let mut froms = BTreeSet::new();
                for round in 0..20 {
                    for (client, said) in clients.iter().zip([n, n + 100]) {
                        froms.insert(client.ask(&vec![said; 50 * (round + 1)]).from);
                    }
                }
                assert_eq!(froms.len(), 2, "each has one flow: {froms:?}");
            });
        }
    });
}

#[test]
fn a_port_in_use_is_an_error_also_between_daemons_with_several_shards() {
    let mesh = Mesh::new();
    let first = mesh.node("first").args(&["--shards", "2"]).start();
    for shards in ["1", "2"] {
        let second = mesh
            .node("second")
            .args(&["--shards", shards, "--http", "off"]);
        let output = second.listen(first.udp()).output();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("another program uses this UDP port"),
            "{error}"
        );
    }
    assert_eq!(first.json(&["status"])["state"], "running");
}

#[test]
fn a_daemon_that_stops_lets_connections_on_its_shards_end() {
    let (mesh, server) = (Mesh::new(), echo());
    let node = mesh.node("node").args(&["--shards", "2"]);
    let mut node = node.expose("echo", server.addr()).start();
    let client = mesh.node("client").connect(&node).args(&["--shards", "2"]);
    let mut client = client.args(&["--ingress", "echo=127.0.0.1:0"]).start();
    client.wait_ready("echo", 1);
    let mut tcp = connect(client.ingress());
    let mut round_trip = |said: &[u8; 4]| {
        tcp.write_all(said).unwrap();
        let mut back = [0; 4];
        tcp.read_exact(&mut back).unwrap();
        assert_eq!(&back, said);
    };
    round_trip(b"here");
    node.signal(Signal::TERM);
    client.signal(Signal::TERM);
    for daemon in [&node, &client] {
        until("it is stopping", || {
            daemon.log().contains("stopping").then_some(())
        });
    }
    round_trip(b"more");
    tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tcp.read(&mut [0]).unwrap(), 0);
    assert_eq!(
        (node.wait().code(), client.wait().code()),
        (Some(0), Some(0))
    );
}

#[test]
fn a_number_of_threads_that_cannot_be_is_wrong_usage() {
    let mesh = Mesh::new();
    let refused = mesh.node("node").args(&["--shards", "65"]).output();
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("write 1 to 64"), "{error}");
}
