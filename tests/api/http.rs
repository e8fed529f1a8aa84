//! The HTTP server on loopback.

use serde_json::json;

use crate::daemon::Daemon;
use crate::fake::{FakeNode, id};
use crate::shapes::assert_schema;

#[tokio::test]
async fn health_follows_the_node() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.get("/livez", "").await, (200, "ok\n".into()));
    assert_eq!(daemon.get("/readyz", "").await.0, 200);
    daemon.node.set_state("starting");
    assert_eq!(daemon.get("/livez", "").await.0, 200);
    assert_eq!(daemon.get("/readyz", "").await.0, 503);
}

#[tokio::test]
async fn localai_reads_our_nodes_as_its_own() {
    let daemon = Daemon::start().await;
    let (n1, n2) = (
        format!("n1-{}", id(1).short()),
        format!("n2-{}", id(2).short()),
    );
    let (now, then) = ("2023-11-14T22:13:20.5Z", "2023-11-14T22:12:20Z");
    let data = |name: &str, id: &str, seen: &str| json!({"Name": name, "ID": id, "TunnelAddress": "", "ServiceID": id, "LastSeen": seen});
    let worker = |name: &str, id: &str, seen: &str, online: bool| json!({"name": name, "id": id, "tunnelAddress": "", "serviceID": id, "lastSeen": seen, "isOnline": online});
    assert_eq!(
        daemon.get_json("/api/p2p").await,
        json!({
            "llama_cpp_nodes": [data("n1", &n1, now)],
            "federated_nodes": [data("n1", &n1, now), data("n2", &n2, then)],
            "mlx_nodes": [],
        })
    );
    let llama = json!([worker("n1", &n1, now, true)]);
    assert_eq!(
        daemon.get_json("/api/p2p/workers").await,
        json!({"llama_cpp": {"nodes": llama}, "mlx": {"nodes": []}, "nodes": llama})
    );
    assert_eq!(
        daemon.get_json("/api/p2p/federation").await,
        json!({"nodes": [worker("n1", &n1, now, true), worker("n2", &n2, then, false)]})
    );
    assert_eq!(
        daemon.get_json("/api/p2p/stats").await,
        json!({
            "llama_cpp_workers": {"online": 1, "total": 1},
            "federated": {"online": 1, "total": 2},
            "mlx_workers": {"online": 0, "total": 0},
        })
    );
}

#[tokio::test]
async fn the_token_is_told_over_http_only_where_that_is_enabled() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.get("/api/p2p/token", "").await, (200, String::new()));
    let mut node = FakeNode::default();
    node.http_token = true;
    let open = Daemon::with(node);
    let told = open.await.get("/api/p2p/token", "").await;
    assert_eq!(told, (200, "warren1secret".into()));
}

#[tokio::test]
async fn other_peoples_pages_get_nothing() {
    let daemon = Daemon::start().await;
    let path = "/api/v1/status";
    for headers in [
        "Host: evil.example\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "",
    ] {
        let (status, body) = daemon.request("GET", path, headers).await;
        assert_eq!(status, 403, "{headers}");
        assert_schema("error", &serde_json::from_str(&body).unwrap());
    }
    for headers in [
        "Host: localhost:99\r\n",
        "Host: mesh.test\r\n",
        "Host: [::1]\r\nOrigin: http://localhost:99\r\n",
    ] {
        assert_eq!(
            daemon.request("GET", path, headers).await.0,
            200,
            "{headers}"
        );
    }
}

#[tokio::test]
async fn http_only_reads() {
    let daemon = Daemon::start().await;
    let host = "Host: localhost\r\n";
    for (method, path, expected) in [
        ("POST", "/api/v1/status", 405),
        ("DELETE", "/api/p2p", 405),
        ("GET", "/", 404),
        ("GET", "/v1/status", 404),
        ("GET", "/v1/token", 404),
    ] {
        let (status, body) = daemon.request(method, path, host).await;
        assert_eq!(status, expected, "{method} {path}");
        assert_schema("error", &serde_json::from_str(&body).unwrap());
    }
}
