//! The documents of two running daemons keep to schema/*.schema.json, and have nothing beyond.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::schema::{assert_valid, validator};
use crate::world::{World, echo_server, eventually, finish};

fn assert_schema(name: &str, value: &Value) {
    assert_valid(&validator(name), name, value);
}

/// A stream of events; ends with the test.
struct Events(Child);

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn documents_of_running_daemons_keep_to_their_schemas() {
    let world = World::new();
    let start = world.network();
    let flags = [
        "--ingress",
        "chat=127.0.0.1:0",
        "--network-id",
        "lab",
        "--http",
        "127.0.0.1:0",
    ];
    let one = start("one", &flags);
    assert_schema("ready", one.ready());
    let mut events = world.command(&["events", "--json", "--data-dir", "one"]);
    let mut events = Events(events.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(events.0.stdout.take().unwrap()).lines();

    let expose = format!("chat={}", echo_server());
    let peer = format!("{}@{}", one.id(), one.udp());
    let flags = [
        "--expose",
        &expose,
        "--network-id",
        "lab",
        "--connect",
        &peer,
    ];
    let two = start("two", &flags);
    assert_schema("ready", two.ready());
    let ask = |args: &[&str]| world.json(&[args, &["--json", "--data-dir", "one"]].concat());
    eventually("the service is seen", || {
        ask(&["services"])["services"][0]["nodes"][0]["ready"] == true
    });

    assert_schema("status", &ask(&["status"]));
    assert_schema("nodes", &ask(&["nodes"]));
    assert_eq!(ask(&["nodes"])["nodes"].as_array().unwrap().len(), 2);
    assert_schema("services", &ask(&["services"]));
    world.said(&[
        "ledger",
        "put",
        "notes",
        "a b/ü",
        "text",
        "--data-dir",
        "one",
    ]);
    world.said(&[
        "ledger",
        "put",
        "notes",
        "a b/ü",
        "other",
        "--data-dir",
        "two",
    ]);
    fs::write(world.path("raw"), [0xff, 0]).unwrap();
    let mut raw = world.command(&["ledger", "put", "notes", "raw", "-", "--data-dir", "two"]);
    raw.stdin(fs::File::open(world.path("raw")).unwrap());
    assert!(finish(&mut raw).status.success());
    eventually("both values are seen", || {
        let got = ask(&["ledger", "get", "notes", "a b/ü"]);
        got["others"]
            .as_array()
            .is_some_and(|others| others.len() == 1)
    });
    eventually("what is not text is seen", || {
        let args = ["ledger", "get", "notes", "raw", "--data-dir", "one"];
        world.run(&args).status.success()
    });
    world.said(&["ledger", "rm", "notes", "a b/ü", "--data-dir", "one"]);
    assert_schema("ledger", &ask(&["ledger", "get", "notes", "a b/ü"]));
    assert_schema("ledger", &ask(&["ledger", "ls"]));
    assert_schema("ledger", &ask(&["ledger", "export"]));
    let missing = world.run(&[
        "ledger",
        "get",
        "notes",
        "none",
        "--json",
        "--data-dir",
        "one",
    ]);
    assert_eq!(missing.status.code(), Some(1));
    assert_schema("error", &serde_json::from_slice(&missing.stdout).unwrap());

    let bench = ["bench", &two.id(), "--time", "200ms", "--bytes", "20M"];
    assert_schema("bench", &ask(&bench));

    drop(two);
    let mut kinds = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_schema("events", &event);
        kinds.push(event["event"].as_str().unwrap().to_owned());
        if event["event"] == "node_down" {
            break;
        }
    }
    assert!(kinds.iter().any(|kind| kind == "ledger"), "{kinds:?}");
    assert_schema("nodes", &ask(&["nodes"]));
    assert_schema("services", &ask(&["services"]));
    assert_schema("status", &ask(&["status"]));
}

#[test]
fn a_node_and_a_service_look_the_same_in_a_list_and_in_a_stream() {
    let part = |name: &str, part: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{name}.schema.json"));
        let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        schema["$defs"][part].clone()
    };
    assert_eq!(part("events", "node"), part("nodes", "node"));
    assert_eq!(part("events", "provider"), part("services", "provider"));
}

#[test]
fn every_kind_of_event_is_in_the_schema() {
    let id = "23cctc7cq5ud6djc75ms5pvobszwvfo5sfymuqxydxla2het5gtq";
    for event in [
        json!({"event": "node_up", "id": id, "name": "a"}),
        json!({"event": "node_left", "id": id, "name": null}),
        json!({"event": "node_down", "id": id, "name": null, "reason": "silent"}),
        json!({"event": "service_up", "service": "chat", "id": id}),
        json!({"event": "service_down", "service": "chat", "id": id}),
        json!({"event": "warning", "code": "store", "message": "full"}),
        json!({"event": "resolved", "code": "store"}),
    ] {
        let mut line = event;
        line["at_ms"] = json!(1);
        assert_schema("events", &line);
        // The program's own type agrees on what it reads and writes.
        let read: warren::mesh::event::Event = serde_json::from_value(line.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), line);
    }
}
