//! The commands without a daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;
use warren::IpTable;
use warren::mesh::ip_table::{Latency, Measured, Method, Probe, Round};

use crate::world::{World, eventually, finish, listing};
use crate::{Table, document};

#[test]
fn case_42_listing_works_offline_and_makes_nothing() {
    let world = World::new();
    let table = Table::new(&world, "data");
    assert_eq!(table.said(&["ls"]), "no machines\n");
    assert_eq!(table.export(), "{\n \"ip_address\": []\n}\n");
    assert_eq!(
        listing(&world.path("data")),
        [""; 0],
        "reading made a directory"
    );
    table.said(&["add", "192.0.2.1", "--name", "atlas"]);
    let text = table.said(&["ls"]);
    assert!(
        text.contains("atlas") && text.contains("192.0.2.1:8088"),
        "{text}"
    );
    // An address book is no node: nothing of one was made.
    assert!(!listing(&world.path("data")).contains(&"identity.key".to_owned()));
}

#[test]
fn case_40_addresses_are_read_as_meant_or_refused() {
    let world = World::new();
    let table = Table::new(&world, "data");
    for (given, meant) in [
        ("192.0.2.1", "192.0.2.1:8088"),
        ("[2001:db8::1]:9000", "[2001:db8::1]:9000"),
        ("localhost", "localhost:8088"),
        ("host.example:9000", "host.example:9000"),
        ("::ffff:203.0.113.7", ""),
        ("[::ffff:203.0.113.7]", "203.0.113.7:8088"),
    ] {
        if meant.is_empty() {
            table.refused(2, &["add", given]);
            continue;
        }
        assert_eq!(table.json(&["add", given])["added"], true, "{given}");
        assert_eq!(table.json(&["add", meant])["added"], false, "{given}");
    }
    for bad in [
        "",
        "1.2.3.4:99999",
        "1.2.3.4:0",
        "010.0.0.1",
        "host.7",
        "a b",
    ] {
        table.refused(2, &["add", bad]);
    }
    assert_eq!(table.rows().len(), 5);
    table.said(&["rm", "192.0.2.1", "LOCALHOST."]);
    let text = table.refused(1, &["rm", "203.0.113.7", "192.0.2.99"]);
    assert!(text.contains("192.0.2.99:8088"), "{text}");
    assert_eq!(table.rows().len(), 3, "one of two was removed");
}

#[test]
fn case_41_replacing_the_table_with_one_machine_asks() {
    let world = World::new();
    let table = Table::new(&world, "data");
    for n in 1..4 {
        table.said(&["add", &format!("192.0.2.{n}")]);
    }
    let text = table.refused(2, &["add", "0.0.0.0:2000", "--replace"]);
    assert!(text.contains("--yes") && text.contains("export"), "{text}");
    assert_eq!(table.rows().len(), 3);
    let done = table.json(&["add", "0.0.0.0:2000", "--replace", "--yes"]);
    assert_eq!(
        (&done["added"], &done["removed"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(table.all("address"), json!(["0.0.0.0:2000"]));
}

#[test]
fn case_14_two_commands_at_once_both_leave_their_machine() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let children: Vec<_> = (1..=6)
        .map(|n| {
            let address = format!("192.0.2.{n}");
            let args = table.args(&["add", &address]).join(" ");
            let args: Vec<&str> = args.split(' ').collect();
            let mut command = world.command(&args);
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(table.rows().len(), 6);
}

#[test]
fn an_export_replaces_a_file_as_a_whole_or_not_at_all() {
    let world = World::new();
    let table = Table::new(&world, "data");
    table.said(&["add", "192.0.2.1"]);
    fs::write(world.path("out.json"), "old").unwrap();
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(world.path("out.json"), private).unwrap();
    std::os::unix::fs::symlink("out.json", world.path("link.json")).unwrap();
    let done = table.json(&["export", "out.json"]);
    assert_eq!(done["exported"], "out.json");
    assert_eq!(
        fs::read_to_string(world.path("out.json")).unwrap(),
        table.export()
    );
    table.said(&["add", "192.0.2.2"]);
    table.said(&["export", "link.json"]);
    let out = world.path("out.json");
    assert_eq!(fs::read_to_string(&out).unwrap(), table.export());
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );
    table.said(&["export", "/dev/null"]);
    assert_eq!(listing(&world.path(".")), ["data", "link.json", "out.json"]);
    let text = table.refused(1, &["export", "none/out.json"]);
    assert!(text.contains("none/out.json: "), "{text}");
    // A reader that has enough is no error.
    let mut shell = std::process::Command::new("sh");
    let warren = env!("CARGO_BIN_EXE_warren");
    shell.args([
        "-c",
        &format!("{warren} iptable export --data-dir data | head -c 1"),
    ]);
    shell.current_dir(world.path("."));
    assert_eq!(finish(&mut shell).stdout, b"{");
}

#[test]
fn annotating_needs_an_address_until_a_daemon_has_run() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let text = table.refused(1, &["annotate", "two GPUs"]);
    assert!(text.contains("--address"), "{text}");
    table.said(&["annotate", "two GPUs", "--address", "203.0.113.7"]);
    table.said(&["annotate", "three GPUs"]);
    assert_eq!(table.all("address"), json!(["203.0.113.7:8088"]));
    assert_eq!(table.all("custom_information"), json!(["three GPUs"]));
    assert_eq!(table.all("source"), json!(["self"]));
    // No document speaks for this node.
    let rows =
        json!([{"IPV4": "203.0.113.7", "CustomInformation": "mine", "BareMetalSSHPort": ""}]);
    assert_eq!(table.import(&document(&rows), &[])["own"], 1);
    assert_eq!(table.all("custom_information"), json!(["three GPUs"]));
    let long = "x".repeat(20_000);
    table.refused(2, &["annotate", &long]);
}

#[test]
fn rows_are_sorted_by_what_was_asked_and_the_unknown_is_last() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let rows = json!([
        {"Name": "c", "IPV4": "192.0.2.1", "Latency": 9_000_000, "UDPServerPort": ""},
        {"Name": "a", "IPV4": "192.0.2.2", "Latency": 0, "Download": 5},
        {"Name": "b", "IPV4": "192.0.2.3", "Latency": 1_000_000, "Download": 50},
    ]);
    table.import(&document(&rows), &[]);
    for (by, expected) in [
        ("latency", "bca"),
        ("name", "abc"),
        ("address", "cab"),
        ("download", "bac"),
    ] {
        let list = table.json(&["ls", "--sort", by]);
        let rows = list["ip_table"].as_array().unwrap();
        let names: String = rows
            .iter()
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, expected, "{by}");
    }
    table.refused(2, &["ls", "--sort", "colour"]);
    let text = table.said(&["ls"]);
    let first = text.lines().nth(1).unwrap();
    assert!(
        first.starts_with('b') && first.contains("~1.0") && first.contains("~50.0"),
        "{text}"
    );
}

#[test]
fn case_44_nothing_touches_the_keys_of_ssh() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let ssh = world.path(".ssh");
    fs::create_dir(&ssh).unwrap();
    let keys = ssh.join("authorized_keys");
    let text = "command=\"x\" ssh-ed25519 AAAA admin\n";
    fs::write(&keys, text).unwrap();
    // Whoever opened it would fail.
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o000)).unwrap();
    let row = json!({"IPV4": "192.0.2.1", "PublicKey": "ssh-ed25519 AAAA admin\n", "UnSafeMode": true,
                     "BareMetalSSHPort": "22"});
    table.import(&document(&json!([row])), &[]);
    table.said(&["rm", "192.0.2.1"]);
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::read_to_string(&keys).unwrap(), text);
}

/// One round of measurements over the library, as a daemon or a command takes it.
async fn measure(world: &World, results: &[(&str, Probe)]) {
    let mut table = None;
    // Whoever starts a command beside this test has our lock for a moment, until it runs.
    eventually("the table is free", || {
        let opened = IpTable::open(&world.path("data"), 1);
        let held = opened.as_ref().is_err_and(|error| error.code() == "in_use");
        table = (!held).then(|| opened.unwrap());
        table.is_some()
    });
    let table = table.unwrap();
    let results = results
        .iter()
        .map(|(at, probe)| (at.parse().unwrap(), *probe));
    let round = Round {
        at_ms: 1_790_000_000_000,
        online: false,
        results: results.collect(),
    };
    table.record(&round).await.unwrap();
    table.close().await.unwrap();
}

#[tokio::test]
async fn case_26_what_was_measured_is_on_disk_and_only_prune_removes() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let rows = json!([
        {"Name": "near", "IPV4": "192.0.2.1", "Latency": 90_000_000, "Download": 5, "UDPServerPort": ""},
        {"Name": "gone", "IPV4": "192.0.2.2", "Latency": 5_000_000},
    ]);
    table.import(&document(&rows), &[]);
    let answered = Probe::Answered(Measured {
        at_ms: 1_790_000_000_000,
        method: Method::P2prc,
        least: Latency::from_ms(40.0),
        median: Latency::from_ms(41.0),
        download: None,
        upload: None,
    });
    for expected in ["suspect", "suspect", "unreachable"] {
        measure(
            &world,
            &[("192.0.2.1", answered), ("192.0.2.2", Probe::Missed)],
        )
        .await;
        assert_eq!(table.all("state"), json!(["reachable", expected]));
    }
    let rows = table.rows();
    assert_eq!(
        (&rows[0]["latency_ms"], &rows[0]["median_ms"]),
        (&json!(40.0), &json!(41.0))
    );
    assert_eq!(
        rows[0]["measured"],
        json!({"latency": true, "download": false, "upload": false})
    );
    assert_eq!(
        (&rows[0]["method"], &rows[0]["download_mbps"]),
        (&json!("p2prc"), &json!(5.0))
    );
    // Case 24: a round trip of 40 ms leaves as P2PRC's one way in nanoseconds.
    assert!(table.export().contains("\"Latency\": 20000000,"));

    // An outage of this machine itself: nobody answers, and nobody is blamed.
    for _ in 0..3 {
        measure(
            &world,
            &[("192.0.2.1", Probe::Missed), ("192.0.2.2", Probe::Missed)],
        )
        .await;
    }
    assert_eq!(table.all("state"), json!(["reachable", "unreachable"]));
    assert_eq!(
        table.json(&["prune"])["removed"],
        json!([]),
        "what the user gave went"
    );
    let dry = table.json(&["prune", "--all", "--dry-run"]);
    assert_eq!(dry["removed"][0]["name"], "gone");
    assert_eq!(table.rows().len(), 2);
    table.json(&["prune", "--all"]);
    assert_eq!(table.all("name"), json!(["near"]));
}
