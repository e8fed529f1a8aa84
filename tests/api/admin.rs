//! The admin socket and its client.

use serde_json::{Value, json};
use warren::api::shapes::{BenchPhase, BenchRequest, LedgerDocument};
use warren::api::{COOKIE_NAME, SOCKET_NAME, Stop};
use warren::{Client, ClientError};

use crate::daemon::{DEADLINE, Daemon, code};
use crate::fake::{entry, id};
use crate::shapes::assert_schema;

#[tokio::test]
async fn the_ledger_is_read_written_and_moved() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let bucket = "notes".parse().unwrap();
    let key = "a b/ü&=+%?#";
    let put = client.ledger_put(&bucket, key, vec![0xff]).await.unwrap();
    assert_eq!(put.key, key);
    daemon.node.take(entry(2, "notes", key, b"theirs"));

    let value = client.ledger_get(&bucket, key).await.unwrap();
    assert_eq!(value.newest.value.to_bytes().unwrap(), [0xff]);
    assert_eq!(value.others.len(), 1);
    assert_eq!(client.ledger(Some(&bucket)).await.unwrap().entries.len(), 2);
    let none = "none".parse().unwrap();
    assert!(client.ledger(Some(&none)).await.unwrap().entries.is_empty());

    let export: LedgerDocument = client.ledger_export().await.unwrap();
    let text = serde_json::to_vec(&export).unwrap();
    let fresh = Daemon::start().await;
    let imported = fresh
        .client()
        .await
        .ledger_import(text.clone())
        .await
        .unwrap();
    assert_eq!((imported.taken, imported.known), (2, 0));
    assert_eq!(fresh.client().await.ledger_export().await.unwrap(), export);

    client.ledger_remove(&bucket, key).await.unwrap();
    let error = client.ledger_remove(&bucket, key).await.unwrap_err();
    assert_eq!(code(&error), "not_found");
    let error = client.ledger_get(&none, "k").await.unwrap_err();
    assert_eq!(code(&error), "not_found");
}

#[tokio::test]
async fn an_export_that_does_not_belong_here_changes_nothing() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let bucket = "notes".parse().unwrap();
    client.ledger_put(&bucket, "k", "v").await.unwrap();
    let good = serde_json::to_value(client.ledger_export().await.unwrap()).unwrap();

    let spoil = |path: &str, with: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = with;
        bad.to_string()
    };
    for (bad, says) in [
        (spoil("/network", json!("elsewhere")), "elsewhere"),
        (spoil("/warren_ledger", json!(2)), "format 2"),
        (
            spoil("/entries/0/signature", json!("x")),
            "entries[0].signature",
        ),
        (
            spoil("/entries/0/value", json!({"base64": "!"})),
            "entries[0].value",
        ),
        (spoil("/entries/0/author", json!("me")), "line 1"),
        ("[".to_owned(), "line 1"),
    ] {
        let error = client.ledger_import(bad).await.unwrap_err();
        assert_eq!((code(&error).as_str(), error.exit_code()), ("usage", 2));
        assert!(
            error.to_string().contains(says),
            "{error} should name {says}"
        );
    }
    assert_eq!(daemon.node.imports(), 0);
}

#[tokio::test]
async fn a_node_is_pinged_drained_and_stopped() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let pong = client.ping("n2").await.unwrap();
    assert_eq!(
        (pong.id, pong.name.unwrap().as_str(), pong.rtt_ms),
        (id(2), "n2", 1.5)
    );
    assert_eq!(code(&client.ping("nobody").await.unwrap_err()), "not_found");

    client.drain(true).await.unwrap();
    assert_eq!(daemon.get("/readyz", "").await, (503, "draining\n".into()));
    client.drain(false).await.unwrap();
    assert_eq!(daemon.get("/readyz", "").await, (200, "ok\n".into()));

    assert_eq!(client.join_token().await.unwrap().as_str(), "warren1secret");
    client.stop(false).await.unwrap();
    client.stop(true).await.unwrap();
    client.leave().await.unwrap();
    assert_eq!(daemon.node.stops(), [Stop::Drain, Stop::Now, Stop::Leave]);
}

#[tokio::test]
async fn a_bench_tells_how_far_it_is_and_ends_with_one_word() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let mut request = BenchRequest {
        node: "n3".to_owned(),
        bytes: 1_000_000,
        time_ms: 1_000,
    };
    let found = client.bench(&request, |_| {}).await.unwrap();
    assert_eq!((found.id, found.download_mbps), (id(3), Some(8.0)));
    assert_eq!((found.loss, found.upload_mbps), (Some(0.1), None));
    assert_eq!(found.upload_loss, Some(0.5));
    assert_schema("bench", &serde_json::to_value(&found).unwrap());

    request.node = "n2".to_owned();
    let error = client.bench(&request, |_| {}).await.unwrap_err();
    assert_eq!(code(&error), "unreachable");
    request.node = "nobody".to_owned();
    let error = client.bench(&request, |_| {}).await.unwrap_err();
    assert_eq!(code(&error), "not_found");
    request.time_ms = 30_001;
    let error = client.bench(&request, |_| {}).await.unwrap_err();
    assert_eq!((code(&error).as_str(), error.exit_code()), ("usage", 2));

    // Node 1 takes until the daemon stops.
    request = BenchRequest {
        node: "n1".to_owned(),
        bytes: 7,
        time_ms: 1,
    };
    let mut told = Vec::new();
    let ended = client.bench(&request, |progress| {
        told.push((progress.phase, progress.done, progress.of));
        daemon.cancel.cancel();
    });
    let ended = tokio::time::timeout(DEADLINE, ended).await.unwrap();
    assert_eq!(code(&ended.unwrap_err()), "lost");
    assert_eq!(told, [(BenchPhase::Download, 1, 7)]);
}

#[tokio::test]
async fn without_a_daemon_the_client_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::connect(dir.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
    assert_eq!((error.exit_code(), code(&error).as_str()), (3, "no_daemon"));

    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    daemon.cancel.cancel();
    daemon.admin.await.unwrap();
    assert!(client.wait_gone(DEADLINE).await);
    assert!(!daemon.dir.path().join(SOCKET_NAME).exists());
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");

    // What a killed daemon leaves behind.
    let path = dir.path().join(SOCKET_NAME);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Client::connect(dir.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
}

#[tokio::test]
async fn who_has_not_read_the_cookie_is_not_obeyed() {
    let daemon = Daemon::start().await;
    let wrong = "0".repeat(64);
    for head in [
        "GET /v1/status",
        "POST /v1/stop",
        "GET /v1/token",
        "GET /nothing",
    ] {
        for cookie in [wrong.as_str(), "", &daemon.cookie()[1..]] {
            let (status, error) = daemon.ask_admin(head, cookie, b"").await;
            assert_eq!(
                (status, &error["error"]["code"]),
                (401, &json!("denied")),
                "{head}"
            );
        }
    }
    assert_eq!(daemon.node.stops(), []);

    std::fs::write(daemon.dir.path().join(COOKIE_NAME), &wrong).unwrap();
    let client = daemon.client().await;
    assert_eq!(code(&client.status().await.unwrap_err()), "denied");
    std::fs::remove_file(daemon.dir.path().join(COOKIE_NAME)).unwrap();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_json() {
    let daemon = Daemon::start().await;
    let cookie = daemon.cookie();
    for (head, body, expected) in [
        ("GET /v1/nothing", "", (404, "not_found")),
        ("POST /v1/status", "", (405, "method_not_allowed")),
        ("POST /v1/ping", "{", (400, "usage")),
        ("POST /v1/ping", "{\"nodes\":\"n2\"}", (400, "usage")),
        (
            "POST /v1/bench",
            "{\"node\":\"n3\",\"bytes\":0}",
            (400, "usage"),
        ),
        (
            "POST /v1/bench",
            "{\"node\":\"nobody\"}",
            (404, "not_found"),
        ),
        ("POST /v1/drain", "{\"on\":1}", (400, "usage")),
        (
            "POST /v1/roles",
            "{\"spec\":{\"role\":\"king\"}}",
            (400, "usage"),
        ),
        ("DELETE /v1/roles/x", "", (400, "usage")),
        ("DELETE /v1/roles/9", "", (404, "not_found")),
        ("GET /v1/ledger/entry?bucket=b", "", (400, "usage")),
        (
            "GET /v1/ledger/entry?bucket=b%20c&key=k",
            "",
            (400, "usage"),
        ),
        ("GET /v1/ledger?bukket=b", "", (400, "usage")),
        ("PUT /v1/ledger/entry?bucket=b&key=", "v", (400, "usage")),
    ] {
        let (status, error) = daemon.ask_admin(head, &cookie, body.as_bytes()).await;
        assert_eq!(
            (status, error["error"]["code"].as_str().unwrap()),
            expected,
            "{head}: {error}"
        );
        assert_schema("error", &error);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_sender_gets_to_know() {
    let daemon = Daemon::start().await;
    let limit = 1024 * 1024;
    let cookie = daemon.cookie();
    let body = vec![b'x'; limit + 1];
    let (status, error) = daemon
        .ask_admin("PUT /v1/ledger/entry?bucket=b&key=k", &cookie, &body)
        .await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (413, &json!("too_large"))
    );

    let client = daemon.client().await;
    let bucket = "b".parse().unwrap();
    let put = client.ledger_put(&bucket, "k", vec![b'x'; 8 * limit]).await;
    assert_eq!(code(&put.unwrap_err()), "too_large");
    let import = client.ledger_import(vec![b' '; 256 * limit + 1]).await;
    assert_eq!(code(&import.unwrap_err()), "too_large");
    let import = client.ledger_import(vec![b' '; 2 * limit]).await;
    assert_eq!(
        code(&import.unwrap_err()),
        "usage",
        "within the limit, but no document"
    );
}
