//! LocalAI's token, network id and HTTP routes.

use rustix::process::Signal;
use serde_json::Value;

use crate::common::server::Backend;
use crate::common::{Mesh, http, until};

/// Made by LocalAI itself.
const TOKEN: &str = include_str!("../fixtures/localai-token.txt");

#[test]
fn a_token_of_localai_makes_a_mesh_and_its_network_id_splits_it() {
    let backends = Backend::several(2);
    let mesh = Mesh::of(TOKEN.trim());
    let first = mesh.node("n0").expose("federated", backends[0].addr());
    let first = first.args(&["--network-id", "blue"]).start();
    let second = mesh.node("n1").connect(&first);
    // As LocalAI's users have set it.
    let second = second
        .expose("federated", backends[1].addr())
        .env("LOCALAI_P2P_NETWORK_ID", "red");
    let second = second.start();
    let blue = mesh
        .federated("blue")
        .connect(&first)
        .args(&["--network-id", "blue"])
        .start();
    let red = mesh
        .federated("red")
        .connect(&first)
        .args(&["--network-id", "red"])
        .start();
    let none = mesh.federated("none").connect(&first).start();
    for node in [&first, &second, &blue, &red, &none] {
        node.wait_online(5);
    }
    blue.wait_ready("blue_federated", 1);
    red.wait_ready("red_federated", 1);
    for _ in 0..2 {
        assert_eq!(http::get(blue.ingress(), "/").unwrap().text(), "b0");
        assert_eq!(http::get(red.ingress(), "/").unwrap().text(), "b1");
        assert_eq!(http::get(none.ingress(), "/").unwrap().status, 503);
    }
    assert!(
        first.log().contains("LocalAI"),
        "no note on what such a token cannot do"
    );
    assert!(!first.log().contains(TOKEN.trim()), "the token was logged");
}

#[test]
fn its_routes_answer_on_loopback() {
    let backends = Backend::several(2);
    let mesh = Mesh::new();
    let mut nodes: Vec<_> = Vec::new();
    for (at, backend) in backends.iter().enumerate() {
        let recipe = mesh
            .node(&format!("n{at}"))
            .expose("federated", backend.addr());
        nodes.push(match nodes.first() {
            Some(first) => recipe.connect(first).start(),
            None => recipe.start(),
        });
    }
    let open = mesh
        .node("open")
        .connect(&nodes[0])
        .http()
        .args(&["--http-token"])
        .start();
    let closed = mesh.node("closed").connect(&nodes[0]).http().start();
    open.wait_ready("federated", 2);
    let get = |path: &str| http::get(open.http(), path).unwrap();
    assert_eq!((get("/livez").status, get("/readyz").status), (200, 200));

    let federation = get("/api/p2p/federation").json();
    let listed = federation["nodes"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for node in listed {
        assert_eq!(node["isOnline"], true);
        for key in ["name", "id", "tunnelAddress", "serviceID", "lastSeen"] {
            assert!(node[key].is_string(), "{key} in {node}");
        }
    }
    let id = format!("n0-{}", nodes[0].short());
    assert!(listed.iter().any(|node| node["id"] == *id), "{listed:?}");
    let all = get("/api/p2p").json();
    assert_eq!(all["federated_nodes"].as_array().unwrap().len(), 2);
    for key in ["Name", "ID", "TunnelAddress", "ServiceID", "LastSeen"] {
        assert!(all["federated_nodes"][0][key].is_string(), "{key} in {all}");
    }
    let stats = || get("/api/p2p/stats").json()["federated"].clone();
    assert_eq!(stats(), serde_json::json!({"online": 2, "total": 2}));
    let status = get("/api/v1/status").json();
    assert_eq!(
        (&status["id"], &status["state"]),
        (&Value::from(&*open.id), &"running".into())
    );

    assert_eq!(get("/api/p2p/token").text().trim(), mesh.token());
    let token = http::get(closed.http(), "/api/p2p/token").unwrap();
    assert!(!token.text().contains("warren1"), "{token:?}");

    nodes[1].signal(Signal::STOP);
    until("one is offline", || (stats()["online"] == 1).then_some(()));
    let foreign = http::get_with(
        open.http(),
        "/api/p2p/token",
        "Origin: http://evil.example\r\n",
    );
    assert_eq!(foreign.unwrap().status, 403);
}
