//! Roles over the admin socket.

use serde_json::json;
use tokio::time::timeout;
use warren::api::Control;
use warren::api::client::HoldEnd;

use crate::daemon::{DEADLINE, Daemon, code, expose, ingress};

#[tokio::test]
async fn a_role_comes_stays_and_goes() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let kept = client.add_role(expose("llm"), true).await.unwrap();
    let bound = client.add_role(ingress(), false).await.unwrap();
    assert!(kept.kept && !bound.kept);
    assert_eq!(client.roles().await.unwrap().roles, [kept.clone(), bound]);
    client.remove_role(kept.id).await.unwrap();
    assert_eq!(client.roles().await.unwrap().roles.len(), 1);

    let error = client.remove_role(kept.id).await.unwrap_err();
    assert_eq!((code(&error).as_str(), error.exit_code()), ("not_found", 1));
    let error = client.add_role(expose("refused"), false).await.unwrap_err();
    assert_eq!(code(&error), "unreachable");
    assert!(
        error.to_node_error().hint.is_some(),
        "hints survive the way"
    );
}

#[tokio::test]
async fn a_held_role_ends_with_its_holder() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let held = client.hold_role(expose("llm")).await.unwrap();
    assert_eq!(client.roles().await.unwrap().roles, [held.info().clone()]);
    assert!(daemon.node.removed().is_empty());
    let id = held.info().id;
    drop(held);
    daemon.node.wait_removed(id).await;
    assert!(client.roles().await.unwrap().roles.is_empty());
}

#[tokio::test]
async fn a_role_whose_holder_left_too_early_does_not_stay() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let gate = daemon.node.close_gate();
    let asking = tokio::spawn(async move { client.hold_role(expose("llm")).await.map(drop) });
    daemon.node.wait_at_gate().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    drop(gate);
    daemon.node.wait_removed(1).await;
}

#[tokio::test]
async fn a_holder_learns_why_its_role_ended() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let mut held = client.hold_role(expose("llm")).await.unwrap();
    client.remove_role(held.info().id).await.unwrap();
    let end = timeout(DEADLINE, held.ended()).await.unwrap();
    assert_eq!(end.unwrap(), HoldEnd::Removed);

    let mut held = client.hold_role(expose("llm")).await.unwrap();
    daemon.cancel.cancel();
    let end = timeout(DEADLINE, held.ended()).await.unwrap();
    assert_eq!(end.unwrap(), HoldEnd::Stopping);
    daemon.admin.await.unwrap();
    let removed = daemon.node.removed();
    assert!(
        !removed.contains(&held.info().id),
        "the node ends its roles itself: {removed:?}"
    );
}

#[tokio::test]
async fn a_role_is_not_both_kept_and_held() {
    let daemon = Daemon::start().await;
    let body = json!({"spec": {"role": "expose", "service": "s", "target": "h:1"}, "keep": true, "hold": true});
    let body = body.to_string();
    let (status, error) = daemon
        .ask_admin("POST /v1/roles", &daemon.cookie(), body.as_bytes())
        .await;
    assert_eq!((status, &error["error"]["code"]), (400, &json!("usage")));
    assert_eq!(daemon.node.roles(), []);
}
