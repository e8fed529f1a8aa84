//! An explorer that looks at the networks it lists: what it serves is what it saw.

use super::common::server::Backend;
use super::common::{Daemon, Mesh, until};
use super::*;

/// A network whose one node has a server, and the body that lists it.
fn network(network_id: &str) -> (Mesh, Daemon, Backend, Value) {
    let mesh = Mesh::new();
    let backend = Backend::http("one");
    let recipe = mesh.node("atlas").expose("federated", backend.addr());
    let node = recipe.args(&["--network-id", network_id]).start();
    let body = json!({
        "token": mesh.token(), "name": "garage", "description": "d",
        "bootstrap": [node.udp().to_string()],
    });
    (mesh, node, backend, body)
}

fn listed(board: &Board) -> Option<Value> {
    board
        .get("/networks")
        .json()
        .as_array()
        .unwrap()
        .first()
        .cloned()
}

#[test]
fn a_network_that_is_posted_is_looked_at_and_listed() {
    let (_mesh, _node, _backend, body) = network("my_net");
    let board = Board::with(&["--with-sync", "--allow-private"]);
    assert_eq!(board.add(&body).status, 200);
    let row = until("it is listed", || listed(&board));
    let cluster = &row["Clusters"][0];
    assert_eq!(
        (&cluster["Type"], &cluster["NetworkID"]),
        (&json!("federated"), &json!("my_net"))
    );
    assert!(
        cluster["Workers"][0]
            .as_str()
            .unwrap()
            .starts_with("atlas-"),
        "{row}"
    );
    let shown = &board.networks("?online=true")["networks"][0];
    assert_eq!(
        (&shown["state"], &shown["workers"]),
        (&json!("active"), &json!(1))
    );
    let (code, _) = board.stop();
    assert_eq!(code, 0);
}

#[test]
fn a_pass_goes_through_the_process_that_serves() {
    let (_mesh, _node, _backend, body) = network("one");
    let board = Board::with(&["--allow-private"]);
    assert_eq!(board.add(&body).status, 200);
    assert_eq!(listed(&board), None);
    let sync = warren(&board.dir(), &["explorer", "sync", "--once"])
        .output()
        .unwrap();
    assert!(sync.status.success(), "{sync:?}");
    assert!(listed(&board).is_some(), "{sync:?}");
}

#[test]
fn only_sync_looks_once_and_serves_nothing() {
    let (_mesh, _node, _backend, body) = network("one");
    let board = Board::start();
    assert_eq!(board.add(&body).status, 200);
    let (_, home) = board.stop();
    let dir = home.path().join("data");
    let mut command = warren(
        &dir,
        &["explorer", "--only-sync", "--allow-private", "--json"],
    );
    let output = command
        .env("LOCALAI_ADDRESS", "127.0.0.1:1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(listed(&Board::on(home, &[])).is_some());
}
