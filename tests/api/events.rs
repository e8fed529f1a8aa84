//! The stream of events over HTTP, as a browser's `EventSource` or `curl -N` reads it.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use warren::mesh::event::{Event, What};

use crate::daemon::{DEADLINE, Daemon};
use crate::fake::{entry, id};
use crate::shapes::assert_schema;

/// Streams that a server has at once.
const MAX_STREAMS: usize = 32;

/// A client that reads a stream. Dropped, it is gone.
struct Stream {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    text: String,
    last_id: u64,
    _connection: JoinSet<()>,
}

impl Stream {
    async fn open(daemon: &Daemon, query: &str) -> Self {
        let socket = TcpStream::connect(daemon.http).await.unwrap();
        let (mut sender, driver) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            let _ = driver.await;
        });
        let request = Request::get(format!("/api/v1/events{query}"))
            .header("host", "localhost")
            .body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.unwrap());
        let answer = timeout(DEADLINE, answer).await.unwrap().unwrap();
        let (head, body) = answer.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            text: String::new(),
            last_id: 0,
            _connection: connection,
        }
    }

    /// What comes next up to an empty line; `None` when the server has ended the stream. One that
    /// is cut fails.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = timeout(DEADLINE, self.body.frame()).await.unwrap();
            let data = frame?.expect("the stream was cut").into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next event, which keeps to the schema and the form.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                continue;
            }
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)).unwrap()
            };
            let event: Value = serde_json::from_str(field("data: ")).unwrap();
            assert_eq!(event["event"], field("event: "));
            let number = field("id: ").parse().unwrap();
            assert_eq!(number, self.last_id + 1, "numbers run");
            self.last_id = number;
            assert_schema("events", &event);
            return Some(event);
        }
    }

    /// The next event, which is of this kind.
    async fn expect(&mut self, kind: &str) -> Value {
        let event = self.next().await.expect("the stream has ended");
        assert_eq!(event["event"], kind, "{event}");
        event
    }
}

fn node_up(n: u8) -> Event {
    Event {
        at_ms: 1,
        what: What::NodeUp {
            id: id(n),
            name: None,
        },
    }
}

#[tokio::test]
async fn a_stream_begins_with_what_is_and_goes_on_with_what_changes() {
    let daemon = Daemon::start().await;
    let mut stream = Stream::open(&daemon, "").await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-store");
    let nodes = stream.expect("nodes").await;
    assert_eq!(
        nodes["nodes"],
        daemon.get_json("/api/v1/nodes").await["nodes"]
    );
    let services = stream.expect("services").await;
    assert_eq!(
        services["services"],
        daemon.get_json("/api/v1/services").await["services"]
    );

    // Each is read before the next happens: nothing waits for others, or for a time to look.
    daemon.node.set_online(2, true);
    daemon.node.events.send(node_up(2)).unwrap();
    let change = stream.expect("node").await;
    assert_eq!(change["node"]["id"], id(2).to_string());
    assert_eq!(change["node"]["online"], true);
    let event = stream.expect("node_up").await;
    assert_eq!(event["id"], id(2).to_string(), "after what it resulted in");

    daemon.node.change(|view| {
        view.services.remove(&"lab_worker".parse().unwrap());
        view.nodes.remove(&id(3));
    });
    let removed = stream.expect("node_removed").await;
    assert_eq!(removed["id"], id(3).to_string());
    let service = stream.expect("service").await;
    assert_eq!(
        (&service["service"], &service["nodes"]),
        (&json!("lab_worker"), &json!([]))
    );

    daemon.node.take(entry(2, "notes", "k", b"v"));
    assert_eq!(stream.expect("ledger").await["value"], "v");
    daemon.node.serve_one();
    let service = stream.expect("service").await;
    let counted = &service["nodes"].as_array().unwrap();
    assert!(counted.iter().any(|node| node["served"] == 41), "{service}");
}

#[tokio::test]
async fn only_what_is_asked_for_comes() {
    let daemon = Daemon::start().await;
    let mut two = Stream::open(&daemon, "?kind=node_up,ledger").await;
    let mut state = Stream::open(&daemon, "?kind=nodes").await;
    state.expect("nodes").await;
    let node = daemon.node.clone();
    let resolved = What::Resolved { code: "c".into() };
    let unwanted = Event {
        at_ms: 1,
        what: resolved,
    };
    node.events.send(unwanted).unwrap();
    node.change(|view| view.services.clear());
    node.set_online(2, true);
    node.events.send(node_up(2)).unwrap();
    node.take(entry(2, "notes", "k", b"v"));

    two.expect("node_up").await;
    two.expect("ledger").await;
    state.expect("node").await;
    node.set_online(2, false);
    state.expect("node").await;
}

#[tokio::test]
async fn an_unknown_kind_is_refused_with_those_that_there_are() {
    let daemon = Daemon::start().await;
    let (status, body) = daemon.get("/api/v1/events?kind=nodeup", "").await;
    let error: Value = serde_json::from_str(&body).unwrap();
    assert_schema("error", &error);
    assert_eq!((status, &error["error"]["code"]), (400, &json!("usage")));
    let message = error["error"]["message"].as_str().unwrap();
    for word in ["\"nodeup\"", "nodes", "services", "node_up", "resolved"] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(daemon.get("/api/v1/events?kinds=ledger", "").await.0, 400);
    let of_another_page = "Origin: http://evil.example\r\n";
    assert_eq!(daemon.get("/api/v1/events", of_another_page).await.0, 403);
}

#[tokio::test]
async fn a_client_that_lags_is_told_and_gets_the_state_anew() {
    let daemon = Daemon::start().await;
    let mut stream = Stream::open(&daemon, "?kind=nodes,node_up").await;
    stream.expect("nodes").await;
    // The test's runtime has one thread: nothing is read until this loop ends.
    let sent = 1_000;
    for n in 0..sent {
        daemon.node.set_online(2, n % 2 == 0);
        daemon.node.events.send(node_up(2)).unwrap();
    }
    daemon.node.change(|view| {
        view.nodes.remove(&id(3));
    });
    // The change of the view may be seen before the gap.
    let lagged = loop {
        let event = stream.next().await.unwrap();
        if event["event"] == "lagged" {
            break event;
        }
        assert_ne!(event["event"], "node_up", "a gap came before its mark");
    };
    let state = stream.expect("nodes").await;
    assert_eq!(state["nodes"].as_array().unwrap().len(), 2, "as it is now");
    let missed = lagged["missed"].as_u64().unwrap();
    for _ in missed..sent {
        stream.expect("node_up").await;
    }
}

#[tokio::test]
async fn one_stream_too_many_is_refused_until_another_ends() {
    let daemon = Daemon::start().await;
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let mut stream = Stream::open(&daemon, "").await;
        stream.expect("nodes").await;
        streams.push(stream);
    }
    let refused = Stream::open(&daemon, "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    let body = refused.body.collect().await.unwrap().to_bytes();
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_schema("error", &error);
    assert_eq!(error["error"]["code"], "busy");
    assert_eq!(daemon.get("/livez", "").await.0, 200, "others are served");

    streams.pop();
    let again = async { while Stream::open(&daemon, "").await.status != 200 {} };
    timeout(DEADLINE, again).await.unwrap();
}

#[tokio::test]
async fn a_streaming_client_does_not_hold_up_the_end() {
    let daemon = Daemon::start().await;
    let mut stream = Stream::open(&daemon, "").await;
    stream.expect("nodes").await;
    stream.expect("services").await;
    daemon.cancel.cancel();
    assert_eq!(stream.next().await, None, "ended, not cut");
    let ended = timeout(DEADLINE, daemon.http_server).await;
    ended.expect("the server still waits").unwrap();
}

#[tokio::test]
async fn the_name_of_an_event_is_the_word_in_it() {
    let daemon = Daemon::start().await;
    let mut all = Stream::open(&daemon, "").await;
    all.expect("nodes").await;
    all.expect("services").await;
    let text = id(2).to_string();
    for kind in What::KINDS {
        let event = json!({
            "at_ms": 1, "event": kind, "id": text, "name": null, "reason": "silent",
            "service": "chat", "bucket": "b", "key": "k", "author": text, "version": 1,
            "deleted": true, "code": "clock", "message": "m",
        });
        let event: Event = serde_json::from_value(event).unwrap();
        assert_eq!(event.what.kind(), kind);
        daemon.node.events.send(event).unwrap();
        all.expect(kind).await;
    }
}
