//! What scripts rely on.

use serde_json::{Value, json};

use crate::daemon::{Daemon, expose, ingress};
use crate::fake::{entry, id};
use crate::schema::{assert_valid, validator};

#[tokio::test]
async fn every_document_keeps_to_its_schema() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    client.add_role(expose("llm"), true).await.unwrap();
    client.add_role(ingress(), false).await.unwrap();
    let (bucket, other) = ("notes".parse().unwrap(), "other".parse().unwrap());
    client.ledger_put(&bucket, "a b/ü", "text").await.unwrap();
    client
        .ledger_put(&bucket, "raw", vec![0xff, 0])
        .await
        .unwrap();
    client.ledger_put(&other, "k", "v").await.unwrap();
    daemon.node.take(entry(2, "notes", "a b/ü", b"older"));

    let cookie = daemon.cookie();
    for (path, schema) in [
        ("/v1/status", "status"),
        ("/v1/nodes", "nodes"),
        ("/v1/services", "services"),
        ("/v1/ledger", "ledger"),
        ("/v1/ledger/entry?bucket=notes&key=a%20b/%C3%BC", "ledger"),
        ("/v1/ledger/export", "ledger"),
    ] {
        let (status, body) = daemon.ask_admin(&format!("GET {path}"), &cookie, b"").await;
        assert_eq!(status, 200, "{path}: {body}");
        assert_schema(schema, &body);
    }
    for (path, schema) in [
        ("status", "status"),
        ("nodes", "nodes"),
        ("services", "services"),
    ] {
        assert_schema(schema, &daemon.get_json(&format!("/api/v1/{path}")).await);
    }
    let (_, error) = daemon.ask_admin("GET /v1/nothing", &cookie, b"").await;
    assert_schema("error", &error);
}

#[tokio::test]
async fn nodes_and_services_read_as_scripts_expect() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;

    let nodes = serde_json::to_value(client.nodes().await.unwrap()).unwrap();
    let nodes = nodes["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    let of = |n: u8| {
        nodes
            .iter()
            .find(|node| node["id"] == id(n).to_string())
            .unwrap()
    };
    assert_eq!(of(1)["self"], true);
    assert_eq!(
        of(1)["path"],
        json!({"kind": "self", "rtt_ms": 0.0, "via": null})
    );
    assert_eq!(of(1)["last_seen"], "2023-11-14T22:13:20.5Z", "online: now");
    assert_eq!(of(2)["online"], false);
    assert_eq!(
        of(2)["last_seen"],
        "2023-11-14T22:12:20Z",
        "offline: when it was heard"
    );
    assert_eq!(of(3)["last_seen"], Value::Null, "never heard");
    assert_eq!(of(3)["path"]["via"], id(1).to_string());

    let services = serde_json::to_value(client.services().await.unwrap()).unwrap();
    let lab = &services["services"][0];
    assert_eq!(lab["service"], "lab_federated");
    assert_eq!(lab["nodes"].as_array().unwrap().len(), 2);
    let counted = lab["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|n| n["name"] == "n1")
        .unwrap();
    assert_eq!(
        (&counted["in_flight"], &counted["served"]),
        (&json!(2), &json!(40))
    );
}

/// Fails unless `value` is what `schema/NAME.schema.json` says, and has nothing beyond it.
pub(crate) fn assert_schema(name: &str, value: &Value) {
    assert_valid(&validator(name), name, value);
}
