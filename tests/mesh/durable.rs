//! What a node still knows after it was killed.

use std::time::{Duration, Instant};

use crate::common::server::Backend;
use crate::common::{Daemon, Mesh, http, until};

/// Counts of the last moments before a kill may be lost.
const LOST_AT_MOST: Duration = Duration::from_millis(100);
/// What a loaded machine may add to it.
const SLACK: Duration = Duration::from_millis(400);

fn kill_all(nodes: &mut [Daemon]) {
    for node in nodes.iter_mut() {
        node.signal(rustix::process::Signal::KILL);
    }
    for node in nodes {
        node.wait();
    }
}

fn value(of: &Daemon, key: &str) -> Option<String> {
    let output = of.run(&["ledger", "get", "notes", key, "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["value"].as_str().map(str::to_owned)
}

#[test]
fn the_ledger_outlives_the_death_of_every_node() {
    let mesh = Mesh::new();
    let first = mesh.node("n0").start();
    let at = first.udp();
    let mut nodes = vec![first];
    for name in ["n1", "n2"] {
        let node = mesh.node(name).connect(&nodes[0]).start();
        nodes.push(node);
    }
    nodes[0].wait_online(3);
    let ids: Vec<String> = nodes.iter().map(|node| node.id.clone()).collect();
    for (at, node) in nodes.iter().enumerate() {
        let key = format!("from{at}");
        node.said(&["ledger", "put", "notes", &key, &format!("value {at}")]);
    }
    nodes[1].said(&["ledger", "put", "notes", "gone", "soon"]);
    nodes[1].said(&["ledger", "rm", "notes", "gone"]);
    until("everything is at the third node", || {
        (0..3)
            .all(|at| value(&nodes[2], &format!("from{at}")).is_some())
            .then_some(())
    });
    // On disk when the command returns: nothing may happen in between.
    nodes[2].said(&["ledger", "put", "notes", "last", "breath"]);
    kill_all(&mut nodes);

    // One alone has what the others wrote, too.
    let third = mesh.node("n2").start();
    assert_eq!(third.id, ids[2]);
    assert_eq!(value(&third, "from0").as_deref(), Some("value 0"));
    assert_eq!(value(&third, "from1").as_deref(), Some("value 1"));
    assert_eq!(value(&third, "last").as_deref(), Some("breath"));
    drop(third);

    let first = mesh.node("n0").listen(at).start();
    let second = mesh.node("n1").start();
    let third = mesh.node("n2").start();
    let nodes = [first, second, third];
    for (node, id) in nodes.iter().zip(&ids) {
        assert_eq!(&node.id, id);
        // The others find the first where they knew it.
        node.wait_online(3);
    }
    until("what only the third knew has spread", || {
        (value(&nodes[0], "last").as_deref() == Some("breath")).then_some(())
    });
    for node in &nodes {
        let list = node.json(&["ledger", "ls", "notes"]);
        let keys = list["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["key"]);
        assert!(keys.clone().all(|key| key != "gone"), "{list}");
    }
}

#[test]
fn request_counts_outlive_a_kill() {
    let backend = Backend::http("b");
    let mesh = Mesh::new();
    let node = mesh.node("n0").expose("federated", backend.addr()).start();
    let mut gateway = mesh.federated("gateway").connect(&node).start();
    gateway.wait_ready("federated", 1);
    let mut answered = Vec::new();
    // From the first answer on: that request may have taken long by itself.
    let is_old = |first: &Instant| first.elapsed() > LOST_AT_MOST + SLACK;
    while !answered.first().is_some_and(is_old) || answered.len() < 50 {
        assert_eq!(http::get(gateway.ingress(), "/").unwrap().status, 200);
        answered.push(Instant::now());
    }
    gateway.kill();
    let killed = Instant::now();
    let sure = answered
        .iter()
        .filter(|at| killed - **at > LOST_AT_MOST + SLACK)
        .count();
    assert!(sure > 0, "no request is old enough to be counted for sure");

    let gateway = mesh.federated("gateway").connect(&node).start();
    gateway.wait_ready("federated", 1);
    let served = gateway.providers("federated")[0]["served"]
        .as_u64()
        .unwrap();
    assert!(served >= sure as u64, "{served} of {sure} requests counted");
    assert!(served <= answered.len() as u64);
    let usage = &gateway.json(&["status"])["usage"][0];
    assert_eq!(usage["served"], served);
}

#[test]
fn a_second_daemon_on_a_directory_is_told_of_the_first() {
    let mesh = Mesh::new();
    let first = mesh.node("atlas").start();
    let recipe = mesh
        .node("other")
        .args(&["--json", "--listen", "127.0.0.1:0", "--http", "off"]);
    let second = recipe
        .args(&["--data-dir", first.dir.to_str().unwrap()])
        .output();
    assert_eq!(second.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("atlas"), "{message}");
    assert!(message.contains(&first.pid().to_string()), "{message}");
    assert!(message.contains(&first.short()), "{message}");
    assert_eq!(first.json(&["status"])["pid"], first.pid());
}
