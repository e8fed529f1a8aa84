//! The HTTP server on loopback.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warren::api::{Control, ImportOptions};
use warren::mesh::ip_table::Sort;

use crate::daemon::{DEADLINE, Daemon, ask};
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

/// Tables that are written at once.
const MAX_TABLES: usize = 4;

impl Daemon {
    async fn fill_table(&self, rows: &[Value]) {
        let document = json!({ "ip_address": rows }).to_string();
        let table = self.node.ip_table();
        let imported = table.import(document, ImportOptions::default()).await;
        assert_eq!(imported.unwrap().merged.added, rows.len());
    }

    /// A client that asks for the table in HTTP's first version, which has no chunks.
    async fn ask_table(&self, query: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let head = format!("GET /api/v1/iptable{query} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn table(&self, query: &str) -> (u16, Value) {
        let (status, body) = ask(self.ask_table(query).await, "", b"").await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn the_ip_table_is_read_as_iptable_ls_shows_it() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.table("").await, (200, json!({ "ip_table": [] })));
    let rows = json!([
        {"Name": "b\u{9b}31m", "IPV4": "192.0.2.1", "Latency": 9_000_000, "UDPServerPort": ""},
        {"Name": "a", "IPV4": "192.0.2.2", "UDPServerPort": "", "Download": 34},
    ]);
    daemon.fill_table(rows.as_array().unwrap()).await;
    let client = daemon.client().await;
    for (query, sort, first) in [("", Sort::Latency, "b"), ("?sort=name", Sort::Name, "a")] {
        let (status, table) = daemon.table(query).await;
        assert_eq!(status, 200);
        assert_schema("iptable", &table);
        let name = table["ip_table"][0]["name"].as_str().unwrap();
        assert!(name.starts_with(first), "{table}");
        let listed = client.ip_table(sort).await.unwrap();
        assert_eq!(serde_json::to_value(listed).unwrap(), table);
    }
    let (_, raw) = ask(daemon.ask_table("").await, "", b"").await;
    assert!(!raw.contains('\u{9b}') && raw.contains("\\u009b"), "{raw}");
    assert_eq!(daemon.get("/api/v1/iptable?sort=luck", "").await.0, 400);
    assert_eq!(daemon.get("/api/v1/iptable?format=x", "").await.0, 400);
    let of_another_page = "Origin: http://evil.example\r\n";
    assert_eq!(daemon.get("/api/v1/iptable", of_another_page).await.0, 403);
}

#[tokio::test]
async fn of_a_large_ip_table_only_what_is_read_is_in_memory_and_few_read_it_at_once() {
    let daemon = Daemon::start().await;
    let text = "x".repeat(16_000);
    let rows = (0..1_500).map(|n| {
        let ip = format!("192.0.{}.{}", n / 250, n % 250 + 1);
        json!({"IPV4": ip, "UDPServerPort": "", "CustomInformation": text})
    });
    daemon.fill_table(&rows.collect::<Vec<_>>()).await;
    let mut slow = Vec::new();
    for _ in 0..MAX_TABLES {
        let mut stream = daemon.ask_table("").await;
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.0 200");
        slow.push(stream);
    }
    let (status, error) = daemon.table("").await;
    assert_eq!(status, 503, "{error}");
    assert_schema("error", &error);
    assert_eq!(daemon.get("/livez", "").await.0, 200);
    // One that goes away leaves its place, and one that reads on gets everything.
    drop(slow.pop());
    let again = async {
        loop {
            match daemon.table("").await {
                (503, _) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    };
    let (status, table) = tokio::time::timeout(DEADLINE, again).await.unwrap();
    assert_eq!(
        (status, table["ip_table"].as_array().unwrap().len()),
        (200, 1_500)
    );
    let mut rest = String::new();
    slow[0].read_to_string(&mut rest).await.unwrap();
    let (_, body) = rest.split_once("\r\n\r\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), table);
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
        ("POST", "/api/v1/iptable", 405),
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
