//! The commands against running daemons: what they say, and what they do to the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::server::Backend;
use crate::common::{Daemon, Mesh, http, until};

/// Until others stop choosing a node that drains, and what a loaded machine may add.
const DRAINED: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(2);

fn keys(value: &Value, wanted: &[&str]) {
    for key in wanted {
        assert!(value.get(key).is_some(), "no {key} in {value}");
    }
}

#[test]
fn documents_have_the_fields_that_scripts_rely_on() {
    let backends = Backend::several(1);
    let mesh = Mesh::new();
    let (nodes, gateway) = mesh.served_by(&backends);
    let document = gateway.json(&["nodes"]);
    let all = document["nodes"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    for node in all {
        keys(
            node,
            &[
                "id",
                "name",
                "self",
                "online",
                "stale",
                "last_seen",
                "version",
            ],
        );
        keys(&node["path"], &["kind", "rtt_ms", "via"]);
        assert_eq!(node["online"], true);
        let is_self = node["id"] == gateway.id;
        assert_eq!(node["self"], is_self);
        assert_eq!(
            node["path"]["kind"],
            if is_self { "self" } else { "direct" }
        );
        assert!(!node["addresses"].as_array().unwrap().is_empty(), "{node}");
    }
    let provider = &gateway.providers("federated")[0];
    assert_eq!(provider["id"], nodes[0].id);
    assert_eq!(provider["target"], backends[0].addr().to_string());
    keys(
        provider,
        &["name", "online", "ready", "in_flight", "served"],
    );

    let status = gateway.json(&["status"]);
    assert_eq!(status["id"], gateway.id);
    assert_eq!(status["state"], "running");
    assert_eq!(status["roles"][0]["role"], "ingress");
    assert_eq!(status["problems"], Value::Array(vec![]));

    nodes[0].said(&["ledger", "put", "notes", "k", "theirs"]);
    until("the value is here", || {
        gateway
            .run(&["ledger", "get", "notes", "k"])
            .status
            .success()
            .then_some(())
    });
    gateway.said(&["ledger", "put", "notes", "k", "ours"]);
    let value = gateway.json(&["ledger", "get", "notes", "k"]);
    keys(&value, &["bucket", "key", "author", "version"]);
    assert_eq!(
        (&value["value"], &value["author"]),
        (&"ours".into(), &gateway.id.as_str().into())
    );
    assert_eq!(value["others"][0]["value"], "theirs");

    for name in [
        "n0",
        &nodes[0].short(),
        &nodes[0].id,
        &format!("n0-{}", nodes[0].short()),
    ] {
        let pings = gateway.json(&["ping", name, "--count", "1"]);
        assert!(
            pings["pings"][0]["rtt_ms"].as_f64().unwrap() > 0.0,
            "{pings}"
        );
    }
    assert_eq!(gateway.refused(1, &["ping", "nobody"])["code"], "not_found");
}

#[test]
fn a_watch_of_nodes_sees_one_come_and_go() {
    let mesh = Mesh::new();
    let first = mesh.node("n0").http().start();
    let mut watch = first.running(&["nodes", "--watch", "--json"]);
    watch.find(|line| line["event"] == "nodes");
    let mut stream = TcpStream::connect(first.http()).unwrap();
    let request = "GET /api/v1/events?kind=nodes HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();

    let mut second = mesh.node("n1").connect(&first).start();
    let id = second.id.clone();
    let is =
        |line: &Value, online: bool| line["node"]["id"] == id && line["node"]["online"] == online;
    watch.find(|line| is(line, true));
    second.kill();
    watch.find(|line| is(line, false));

    // A client that streams, and has not read anything yet, does not hold the daemon.
    let mut first = first;
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0));
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("event: nodes\n") && text.contains("event: node\n"),
        "{text}"
    );
    assert!(text.ends_with("\r\n0\r\n\r\n"), "ended, not cut: {text}");
}

#[test]
fn what_is_watched_appears_when_it_happens() {
    let mesh = Mesh::new();
    let first = mesh.node("n0").start();
    let second = mesh.node("n1").connect(&first).start();
    first.wait_online(2);
    let mut watch = second.running(&["ledger", "watch", "notes", "--json"]);
    // Nothing says that it watches already.
    let seen = until("a line of the watch", || {
        first.said(&["ledger", "put", "notes", "k", "v"]);
        watch.line_within(Duration::from_millis(100))
    });
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["event"], "ledger");
    assert_eq!(
        (&seen["bucket"], &seen["value"]),
        (&"notes".into(), &"v".into())
    );
    assert_eq!(seen["author"], first.id);
    first.said(&["ledger", "put", "other", "k", "v"]);
    first.said(&["ledger", "rm", "notes", "k"]);
    let removed = watch.find(|event| {
        assert_eq!(event["bucket"], "notes");
        event["deleted"] == true
    });
    assert_eq!(removed["key"], "k");
    assert!(removed.get("value").is_none());
}

#[test]
fn a_role_ends_with_its_command_however_it_ends() {
    let backend = Backend::http("b");
    let target = backend.addr().to_string();
    let mesh = Mesh::new();
    let first = mesh.node("n0").start();
    let second = mesh.node("n1").connect(&first).start();
    first.wait_online(2);
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut expose = first.running(&["expose", "chat", &target]);
        assert!(expose.line().contains("exposes chat"));
        let mut ingress = second.running(&["ingress", "chat", "127.0.0.1:0", "--print-ready"]);
        let ready: Value = serde_json::from_str(&ingress.line()).unwrap();
        assert_eq!(ready["node_id"], second.id);
        let at = ready["ingress"][0]["listen"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        second.wait_ready("chat", 1);
        assert_eq!(http::get(at, "/").unwrap().text(), "b");

        expose.signal(signal);
        second.wait_ready("chat", 0);
        assert_eq!(http::get(at, "/").unwrap().status, 503);
        ingress.signal(signal);
        until("nobody listens", || {
            TcpStream::connect(at).is_err().then_some(())
        });
        let code = (signal != Signal::KILL).then_some(0);
        assert_eq!((expose.wait().code(), ingress.wait().code()), (code, code));
        for node in [&first, &second] {
            until("no roles", || no_roles(node).then_some(()));
        }
    }
}

fn roles(of: &Daemon) -> Vec<Value> {
    let document = of.json(&["services", "--roles"]);
    document["roles"].as_array().unwrap().clone()
}

fn no_roles(of: &Daemon) -> bool {
    roles(of).is_empty()
}

#[test]
fn a_role_in_the_background_is_kept_until_it_is_removed() {
    let backend = Backend::http("b");
    let target = backend.addr().to_string();
    let mesh = Mesh::new();
    let mut node = mesh.node("n0").start();
    let watcher = mesh.node("n1").connect(&node).start();
    let role = node.json(&["expose", "chat", &target, "--bg"]);
    assert_eq!(
        (&role["kept"], &role["ready"]),
        (&true.into(), &true.into())
    );
    let ingress = node.json(&["ingress", "chat", "127.0.0.1:0", "--bg"]);
    watcher.wait_ready("chat", 1);
    node.kill();

    let mut node = mesh.node("n0").connect(&watcher).start();
    watcher.wait_ready("chat", 1);
    let at = node.ingress();
    until("the kept ingress serves", || {
        http::get(at, "/")
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    });
    let kept = roles(&node);
    let numbers: Vec<&Value> = kept.iter().map(|role| &role["id"]).collect();
    assert_eq!(numbers, [&role["id"], &ingress["id"]], "numbers stay");
    for number in numbers {
        node.said(&["role", "rm", &number.to_string()]);
    }
    watcher.wait_ready("chat", 0);
    until("nobody listens", || {
        TcpStream::connect(at).is_err().then_some(())
    });
    node.kill();
    let node = mesh.node("n0").connect(&watcher).start();
    assert!(no_roles(&node));
    assert_eq!(node.refused(1, &["role", "rm", "1"])["code"], "not_found");
}

#[test]
fn a_role_is_refused_by_a_daemon_of_another_network_and_without_a_server() {
    let mesh = Mesh::new();
    let node = mesh.node("n0").start();
    let other = Mesh::new();
    let expose = ["expose", "chat", "127.0.0.1:1", "--token", other.token()];
    assert_eq!(node.refused(1, &expose)["code"], "other_network");
    let expose = ["expose", "chat", "127.0.0.1:1"];
    assert_eq!(node.refused(1, &expose)["code"], "unreachable");
    let http = ["federated", "--address", "127.0.0.1:0", "--mode", "http"];
    let refused = node.refused(2, &http);
    assert!(
        refused["message"].as_str().unwrap().contains("http"),
        "{refused}"
    );
    assert!(no_roles(&node));
}

#[test]
fn a_node_that_drains_is_not_chosen_and_finishes_what_runs() {
    let backends = Backend::several(2);
    let mesh = Mesh::new();
    let (nodes, gateway) = mesh.served_by(&backends);
    let at = gateway.ingress();
    let clients = [(); 2].map(|()| thread::spawn(move || http::get(at, "/hold").unwrap()));
    for backend in &backends {
        backend.wait_held(1);
    }
    let asked = Instant::now();
    assert_eq!(nodes[0].json(&["drain"])["draining"], true);
    until("the others know", || {
        (gateway.usable("federated") == ["n1"]).then_some(())
    });
    assert!(asked.elapsed() < DRAINED + SLACK, "{:?}", asked.elapsed());
    let before = backends[0].requests();
    for _ in 0..4 {
        assert_eq!(http::get(at, "/").unwrap().text(), "b1");
    }
    assert_eq!(backends[0].requests(), before);
    assert_eq!(nodes[0].json(&["status"])["state"], "draining");
    for backend in &backends {
        backend.release();
    }
    let mut names = clients.map(|client| client.join().unwrap().text().to_owned());
    names.sort();
    assert_eq!(names, ["b0", "b1"]);

    nodes[0].said(&["drain", "--off"]);
    gateway.wait_ready("federated", 2);
    for _ in 0..4 {
        assert_eq!(http::get(at, "/").unwrap().status, 200);
    }
    assert!(backends[0].requests() > before);
}

#[test]
fn whoever_leaves_is_gone_at_once_and_forgets_the_network_not_itself() {
    let mesh = Mesh::new();
    let mut node = mesh.node("n0").start();
    let other = mesh.node("n1").connect(&node).start();
    node.wait_online(2);
    let server = Backend::http("b");
    let target = server.addr().to_string();
    node.said(&["expose", "chat", &target, "--bg"]);
    other.wait_ready("chat", 1);
    let mut events = other.events();
    node.said(&["leave", "--yes"]);
    let left = Instant::now();
    events.find(|event| event["event"] == "node_left" && event["id"] == node.id);
    assert!(left.elapsed() < SLACK, "{:?}", left.elapsed());
    assert_eq!(node.wait().code(), Some(0));
    let files = |name: &str| node.dir.join(name).exists();
    assert!(!files("token") && files("identity.key") && !files("warren.sock"));
    let refused = node.refused(3, &["status"]);
    assert!(
        refused["message"].as_str().unwrap().contains("daemon"),
        "{refused}"
    );

    let again = mesh.node("n0").start();
    assert_eq!(again.id, node.id);
    assert!(no_roles(&again));
    assert_eq!(again.json(&["nodes"])["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn stop_returns_when_the_daemon_is_gone() {
    let mesh = Mesh::new();
    let mut node = mesh.node("n0").start();
    assert_eq!(node.json(&["stop"])["stopped"], true);
    node.refused(3, &["status"]);
    assert_eq!(node.wait().code(), Some(0));
    // The directory is free again at once.
    drop(mesh.node("n0").start());
}

/// A client that has the head of its answer, and waits for the rest.
fn dripping(at: std::net::SocketAddr) -> TcpStream {
    let mut stream = http::connect(at).unwrap();
    let request = http::head("GET", "/drip", "");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn sigterm_lets_running_answers_finish_and_takes_no_new_ones() {
    let backends = Backend::several(2);
    let mesh = Mesh::new();
    let (mut nodes, mut gateway) = mesh.served_by(&backends);
    let at = gateway.ingress();
    let clients = [(); 2].map(|()| {
        let stream = dripping(at);
        thread::spawn(move || rest(stream))
    });

    // First a node that serves.
    nodes[1].signal(Signal::TERM);
    gateway.wait_ready("federated", 1);
    for _ in 0..3 {
        assert_eq!(http::get(at, "/").unwrap().text(), "b0");
    }
    assert!(nodes[1].is_running());
    backends[1].release();
    assert_eq!(nodes[1].wait().code(), Some(0));

    // Then the address itself.
    gateway.signal(Signal::TERM);
    until("new clients are refused", || {
        TcpStream::connect(at).is_err().then_some(())
    });
    assert!(gateway.is_running());
    backends[0].release();
    let mut ends = clients.map(|client| client.join().unwrap());
    ends.sort_by_key(|answer| answer.chars().last());
    assert!(
        ends[0].ends_with("b0") && ends[1].ends_with("b1"),
        "{ends:?}"
    );
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let backends = Backend::several(1);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mesh = Mesh::new();
        let (_nodes, mut gateway) = mesh.served_by(&backends);
        let mut client = dripping(gateway.ingress());
        gateway.signal(signal);
        until("it drains", || {
            TcpStream::connect(gateway.ingress()).is_err().then_some(())
        });
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(code));
        assert!(
            client.read_to_end(&mut Vec::new()).is_err(),
            "cut, not ended"
        );
    }
}
