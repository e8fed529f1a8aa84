//! The commands through a daemon, and tables between nodes.

use serde_json::{Value, json};

use crate::world::{Daemon, World, eventually};
use crate::{Table, document};

#[test]
fn a_daemon_answers_as_the_directory_itself_does() {
    let world = World::new();
    let (here, there) = (Table::new(&world, "here"), Table::new(&world, "there"));
    let daemon = Daemon::start(world.up("there", &[]));
    let rows = json!([
        {"Name": "a", "IPV4": "192.0.2.1", "Latency": 9_000_000, "UDPServerPort": "", "x": [1]},
        {"Name": "b\u{1b}[31m", "IPV4": "host.example", "ServerPort": "9000", "Download": 5},
        {"IPV6": "2001:db8::1", "Latency": 4},
    ]);
    let rows = document(&rows);
    for table in [&here, &there] {
        table.import(&rows, &[]);
        table.said(&["add", "192.0.2.9", "--name", "atlas"]);
        table.said(&["annotate", "hello", "--address", "203.0.113.7"]);
        table.said(&["rm", "[2001:db8::1]"]);
        assert_eq!(
            table.json(&["prune", "--all", "--dry-run"])["removed"],
            json!([])
        );
        table.refuses("{\"ip_address\":[{\"ipv4\":\"1.2.3\"}]}");
        table.refused(1, &["rm", "192.0.2.77"]);
        let many = vec!["{\"ipv4\":\"192.0.2.1\"}"; 200_001].join(",");
        table.refuses(format!("{{\"ip_address\":[{many}]}}"));
    }
    // The name of the node itself is known only to the daemon.
    let nameless = |table: &Table<'_>| {
        let mut rows = table.rows();
        for row in &mut rows {
            if row["source"] == "self" {
                row["name"] = Value::Null;
            }
        }
        rows
    };
    assert_eq!(nameless(&here), nameless(&there));
    let before = there.export();
    assert!(before.contains("\"x\": [1]"), "{before}");
    // It is all on disk.
    drop(daemon);
    assert_eq!(there.export(), before);
}

#[test]
fn case_20_nobody_claims_an_address_at_which_another_member_is_reached() {
    let world = World::new();
    let start = world.network();
    let root = start("root", &["--name", "root"]);
    let peer = format!("{}@{}", root.id(), root.udp());
    let one = start("one", &["--connect", &peer, "--name", "one"]);
    let two = start("two", &["--connect", &peer, "--name", "two"]);
    let [at_root, at_one, at_two] = ["root", "one", "two"].map(|data| Table::new(&world, data));
    eventually("the root has links", || {
        let nodes = world.json(&["nodes", "--json", "--data-dir", "root"]);
        let nodes = nodes["nodes"].as_array().unwrap();
        nodes
            .iter()
            .filter(|n| n["path"]["kind"] == "direct")
            .count()
            == 2
    });
    at_two.said(&["annotate", "forged", "--address", &one.udp()]);
    let tells = |n: usize| {
        let list = world.json(&["ledger", "ls", "iptable", "--json", "--data-dir", "root"]);
        let entries = list["entries"].as_array().unwrap();
        entries.iter().filter(|e| e["author"] == two.id()).count() == n
    };
    eventually("the claim has come", || tells(1));
    // What comes later is read with it.
    at_two.said(&["add", "192.0.2.60"]);
    for table in [&at_root, &at_one] {
        eventually("a later row is there", || {
            table
                .rows()
                .iter()
                .any(|row| row["address"] == "192.0.2.60:8088")
        });
        let rows = table.rows();
        assert!(
            rows.iter().all(|row| row["address"] != one.udp()),
            "{rows:?}"
        );
    }
    at_one.said(&["annotate", "true"]);
    eventually("it says so itself", || {
        let mut rows = at_root.rows().into_iter();
        let row = rows.find(|row| row["address"] == one.udp());
        row.is_some_and(|r| r["learnt_from"] == one.id() && r["custom_information"] == "true")
    });
}

#[test]
fn case_23_in_a_chain_of_four_everybody_hears_of_everybody() {
    let world = World::new();
    let start = world.network();
    let names = ["first", "second", "third", "last"];
    let mut chain: Vec<Daemon> = Vec::new();
    for name in names {
        let before = chain.last();
        let peer = before.map(|before| format!("{}@{}", before.id(), before.udp()));
        let connect = peer.as_deref().map(|peer| ["--connect", peer]);
        let connect = connect.iter().flatten().copied();
        let flags: Vec<&str> = ["--name", name].into_iter().chain(connect).collect();
        chain.push(start(name, &flags));
    }
    let tables = names.map(|data| Table::new(&world, data));
    for (table, name) in tables.iter().zip(names) {
        table.said(&["annotate", name]);
    }
    // A ledger has no hops.
    for table in &tables {
        eventually("everybody is known", || {
            let rows = table.rows();
            let said = |name: &&str| rows.iter().any(|row| row["custom_information"] == **name);
            names.iter().all(said)
        });
    }
}

#[test]
fn case_22_three_nodes_around_a_root_see_each_others_rows() {
    let world = World::new();
    let start = world.network();
    let names = ["--name", "root"];
    let root = start("root", &names);
    let peer = format!("{}@{}", root.id(), root.udp());
    let one = start("one", &["--connect", &peer, "--name", "one"]);
    let two = start("two", &["--connect", &peer, "--name", "two"]);
    let tables = ["root", "one", "two"].map(|data| Table::new(&world, data));
    let [at_root, at_one, at_two] = &tables;

    // P2PRC's `--amd`: what one node says of itself, all see.
    at_one.said(&["annotate", "test message"]);
    let shows = |table: &Table<'_>, text: &str| {
        table
            .rows()
            .iter()
            .any(|row| row["custom_information"] == text)
    };
    eventually("the message is everywhere", || {
        tables.iter().all(|t| shows(t, "test message"))
    });
    let of_one = |table: &Table<'_>| {
        let rows = table.rows();
        rows.into_iter().find(|row| row["name"] == "one").unwrap()
    };
    let seen = of_one(at_two);
    assert_eq!(
        (&seen["source"], &seen["learnt_from"]),
        (&json!("learnt"), &json!(one.id()))
    );
    assert_eq!(of_one(at_one)["source"], "self");
    assert_eq!(seen["address"], one.udp());

    // A row that one imported is known to all, without its figures: those are the one's own.
    let rows = json!([{"Name": "far", "IPV4": "192.0.2.1", "Latency": 9_000_000, "Download": 5, "UDPServerPort": ""}]);
    at_root.import(&document(&rows), &[]);
    let far = |table: &Table<'_>| table.rows().into_iter().find(|row| row["name"] == "far");
    eventually("the row is everywhere", || {
        tables.iter().all(|t| far(t).is_some())
    });
    assert_eq!(far(at_root).unwrap()["latency_ms"], 9.0);
    let told = far(at_two).unwrap();
    for field in ["latency_ms", "download_mbps", "measured_at"] {
        assert_eq!(
            told[field],
            Value::Null,
            "{field} of another node was taken"
        );
    }

    // Case 20: who claims another's address replaces nothing there.
    at_two.said(&["add", &one.udp(), "--name", "forged"]);
    at_two.said(&["add", "192.0.2.1", "--name", "nearer"]);
    let entry = world.said(&[
        "ledger",
        "put",
        "iptable",
        "192.0.2.50:8088",
        r#"{"name":"by hand"}"#,
        "--data-dir",
        "two",
    ]);
    drop(entry);
    eventually("two has told", || {
        let list = world.json(&["ledger", "ls", "iptable", "--json", "--data-dir", "one"]);
        let entries = list["entries"].as_array().unwrap();
        entries.iter().filter(|e| e["author"] == two.id()).count() == 2
    });
    assert_eq!(of_one(at_one)["custom_information"], "test message");
    assert_eq!(of_one(at_one)["source"], "self");
    assert_eq!(far(at_root).unwrap()["source"], "imported");
    // And what a machine says of itself goes before what others say of it.
    assert_eq!(of_one(at_root)["learnt_from"], json!(one.id()));

    // What is removed where it was, goes everywhere; what is removed elsewhere, only there.
    at_one.said(&["rm", "192.0.2.1"]);
    assert!(far(at_one).is_none() && far(at_root).is_some());
    at_one.said(&["annotate", "new message"]);
    eventually("the new one is everywhere", || {
        tables.iter().all(|t| shows(t, "new message"))
    });
    at_root.said(&["rm", "192.0.2.1"]);
    at_two.said(&["rm", "192.0.2.1"]);
    eventually("it is gone everywhere", || {
        let all = tables.iter();
        all.flat_map(Table::rows)
            .all(|row| row["address"] != "192.0.2.1:8088")
    });

    // What others told stays when they are gone, with the daemon and without it.
    drop((root, one));
    assert!(shows(at_two, "new message"));
    drop(two);
    assert!(shows(at_two, "new message"));
}
