//! Answers that go on.

use serde_json::Value;
use tokio::time::timeout;
use warren::ClientError;
use warren::mesh::event::{Event, What};

use crate::daemon::{DEADLINE, Daemon};
use crate::shapes::assert_schema;

fn warning(n: u64) -> Event {
    Event {
        at_ms: n,
        what: What::Warning {
            code: "test".into(),
            message: format!("number {n}"),
        },
    }
}

#[tokio::test]
async fn events_come_one_by_one_as_they_happen() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let mut events = client.events().await.unwrap();
    // Each is read before the next is sent: a line that waits for others would never come.
    for n in 0..3 {
        daemon.node.events.send(warning(n)).unwrap();
        let event = timeout(DEADLINE, events.next_as::<Event>()).await.unwrap();
        assert_eq!(event.unwrap(), Some(warning(n)));
    }
    daemon.cancel.cancel();
    let end = timeout(DEADLINE, events.next()).await.unwrap();
    assert_eq!(end.unwrap(), None, "a daemon that stops ends its streams");
}

#[tokio::test]
async fn a_watch_of_the_ledger_shows_its_bucket() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let (mine, other) = ("mine".parse().unwrap(), "other".parse().unwrap());
    let mut one = client.watch_ledger(Some(&mine)).await.unwrap();
    let mut all = client.watch_ledger(None).await.unwrap();
    daemon.node.events.send(warning(1)).unwrap();
    client.ledger_put(&other, "k", "v").await.unwrap();
    client.ledger_put(&mine, "k", "v").await.unwrap();

    let bucket = |line: Option<String>| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["event"], "ledger");
        line["bucket"].as_str().unwrap().to_owned()
    };
    assert_eq!(bucket(one.next().await.unwrap()), "mine");
    assert_eq!(bucket(all.next().await.unwrap()), "other");
    assert_eq!(bucket(all.next().await.unwrap()), "mine");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told() {
    let daemon = Daemon::start().await;
    let mut events = daemon.client().await.events().await.unwrap();
    // The test's runtime has one thread: nothing is read until this loop ends.
    for n in 0..1000 {
        daemon.node.events.send(warning(n)).unwrap();
    }
    let first = events.next_as::<Value>().await.unwrap().unwrap();
    assert_eq!(first["event"], "lagged", "{first}");
    assert!(first["missed"].as_u64().unwrap() > 0, "{first}");
    assert_schema("events", &first);
}

#[tokio::test]
async fn a_daemon_that_dies_is_not_one_that_stops() {
    let daemon = Daemon::start().await;
    let mut events = daemon.client().await.events().await.unwrap();
    daemon.admin.abort();
    let end = timeout(DEADLINE, events.next()).await.unwrap();
    assert!(matches!(end, Err(ClientError::Lost)), "{end:?}");
}
