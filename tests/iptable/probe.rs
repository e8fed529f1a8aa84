//! `iptable probe`: real servers, with a daemon and without one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::server::{Upload, p2prc, refuses, silent};
use crate::world::World;
#[cfg(feature = "p2p")]
use crate::world::{Daemon, eventually};
use crate::{Table, document, schema};

/// What a server gives that goes on, until this program ends, in a thread of its own: the tests
/// here wait for commands.
pub(crate) fn serving<T: Send + 'static>(server: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            tell.send(server.await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
}

/// The machines of a probe by address, and its last line, after the checks that hold for each.
fn lines(text: &str) -> (BTreeMap<String, Value>, Value) {
    let mut all: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    all.iter().for_each(schema::assert_probe);
    let last = all.pop().unwrap();
    let start = all.remove(0);
    let count = all.len();
    assert_eq!(start["probing"]["machines"], count, "{text}");
    let mut machines = BTreeMap::new();
    for mut line in all {
        let machine = line["machine"].take();
        let address = machine["address"].as_str().unwrap().to_owned();
        assert!(machines.insert(address, machine).is_none(), "twice: {text}");
    }
    let counted = |outcome: &str| {
        let all = machines.values();
        all.filter(|machine| machine["outcome"] == outcome).count()
    };
    if let Some(done) = last.get("done") {
        assert_eq!(done["machines"], count);
        for outcome in ["answered", "missed", "undecided"] {
            assert_eq!(done[outcome], counted(outcome), "{outcome}: {text}");
        }
    }
    (machines, last)
}

impl Table<'_> {
    /// A probe of which something is known in the end.
    fn probe(&self, args: &[&str]) -> BTreeMap<String, Value> {
        let (machines, last) = lines(&self.said(&[&["probe", "--json"], args].concat()));
        assert!(last.get("done").is_some(), "{last}");
        machines
    }

    /// A probe that finds nothing out about anybody.
    fn probe_in_vain(&self, args: &[&str]) -> BTreeMap<String, Value> {
        let output = self.run(&[&["probe", "--json"], args].concat());
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let (rest, last) = text.trim_end().rsplit_once('\n').unwrap();
        let error: Value = serde_json::from_str(last).unwrap();
        assert_eq!(error["error"]["code"], "unreachable", "{text}");
        lines(rest).0
    }

    pub(crate) fn add(&self, at: SocketAddr, name: &str) {
        self.said(&["add", &at.to_string(), "--name", name]);
    }

    /// One field by name of the machine.
    pub(crate) fn by_name(&self, field: &str) -> BTreeMap<String, Value> {
        let rows = self.rows().into_iter();
        rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row[field].clone()))
            .collect()
    }
}

/// Three probes of a machine that answers, one that is silent and one that refuses.
fn three_misses(table: &Table<'_>) {
    let (good, asked) = serving(p2prc(3_000_000, Upload::Get));
    let (silent, refusing) = (serving(silent()), serving(refuses()));
    table.add(good, "good");
    table.add(silent, "silent");
    table.add(refusing, "refusing");
    for (nth, state) in [(1, "suspect"), (2, "suspect"), (3, "unreachable")] {
        let found = table.probe(&[]);
        let good = &found[&good.to_string()];
        assert_eq!(
            (&good["outcome"], &good["reason"], &good["state"]),
            (&json!("answered"), &Value::Null, &json!("reachable"))
        );
        for figure in ["latency_ms", "median_ms", "download_mbps", "upload_mbps"] {
            assert!(good[figure].as_f64().unwrap() > 0.0, "{figure}: {good}");
        }
        for (at, reason) in [(silent, "no answer"), (refusing, "refused")] {
            let bad = &found[&at.to_string()];
            assert_eq!(bad["outcome"], "missed");
            assert!(bad["reason"].as_str().unwrap().contains(reason), "{bad}");
            assert_eq!(
                (&bad["state"], &bad["misses"]),
                (&json!(state), &json!(nth))
            );
            assert_eq!(bad["latency_ms"], Value::Null, "unknown is no number");
        }
        // What was said is on disk.
        let states = table.by_name("state");
        assert_eq!(states["good"], "reachable");
        assert_eq!(
            (&states["silent"], &states["refusing"]),
            (&json!(state), &json!(state))
        );
    }
    assert_eq!(
        asked.infos.load(Ordering::SeqCst),
        12,
        "one to warm up and three, each time"
    );
    let rows = table.rows();
    let good = rows.iter().find(|row| row["name"] == "good").unwrap();
    assert_eq!(
        (&good["measured"], &good["method"]),
        (
            &json!({"latency": true, "download": true, "upload": true}),
            &json!("p2prc")
        )
    );
    // What the user gave stays, whatever was missed.
    assert_eq!(table.json(&["prune"])["removed"], json!([]));
}

#[test]
fn three_misses_make_a_machine_unreachable_without_a_daemon() {
    let world = World::new();
    three_misses(&Table::new(&world, "data"));
}

#[cfg(feature = "p2p")]
#[test]
fn three_misses_make_a_machine_unreachable_through_a_daemon() {
    let world = World::new();
    let daemon = Daemon::start(world.up("data", &[]));
    three_misses(&Table::new(&world, "data"));
    drop(daemon);
}

#[test]
fn a_person_sees_a_table_and_named_machines_are_the_only_ones() {
    let world = World::new();
    let table = Table::new(&world, "data");
    assert_eq!(table.said(&["probe"]), "no machines\n");
    assert!(!world.path("data").exists(), "reading made a directory");
    let (good, asked) = serving(p2prc(0, Upload::Post));
    let refusing = serving(refuses());
    table.add(good, "good");
    table.add(refusing, "refusing");
    let text = table.said(&["probe", "--latency-only", &good.to_string()]);
    assert!(
        text.contains("reachable") && !text.contains("refusing"),
        "{text}"
    );
    assert!(text.contains("1 answered, 0 did not"), "{text}");
    assert_eq!(
        asked.uploaded.load(Ordering::SeqCst),
        0,
        "speeds were not asked for"
    );
    let text = table.said(&["probe"]);
    assert!(
        text.contains("suspect (1)") && text.contains("refused"),
        "{text}"
    );
    assert!(
        text.find("good") < text.find("refusing"),
        "nearest first: {text}"
    );
    assert!(!text.contains('\u{1b}'), "no terminal, no colours");
}

#[test]
fn what_cannot_be_probed_is_said_and_nobody_is_asked() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let (good, asked) = serving(p2prc(0, Upload::Get));
    table.add(good, "good");
    table.said(&["annotate", "me", "--address", "203.0.113.7"]);
    let at = good.to_string();
    let text = table.refused(1, &["probe", &at, "192.0.2.99"]);
    assert!(text.contains("192.0.2.99:8088"), "{text}");
    let text = table.refused(2, &["probe", &at, "203.0.113.7"]);
    assert!(text.contains("itself"), "{text}");
    for wrong in [
        ["--at-once", "0"],
        ["--at-once", "1001"],
        ["--deadline", "0s"],
        ["--deadline", "2h"],
        ["--deadline", "soon"],
        ["a b", "c"],
    ] {
        table.refused(2, &["probe", wrong[0], wrong[1]]);
    }
    assert_eq!(asked.connections.load(Ordering::SeqCst), 0);
    let found = table.probe(&["--latency-only"]);
    assert_eq!(found.len(), 1, "this node itself was probed");
}

#[test]
fn no_miss_is_counted_where_this_machine_has_no_way_or_no_time() {
    let world = World::new();
    let table = Table::new(&world, "data");
    // No system connects to a group of machines.
    table.add("224.0.0.1:9".parse().unwrap(), "no-way");
    let found = table.probe_in_vain(&[]);
    let machine = &found["224.0.0.1:9"];
    assert_eq!(machine["outcome"], "undecided");
    assert!(
        machine["reason"].as_str().unwrap().contains("no way"),
        "{machine}"
    );
    table.said(&["rm", "224.0.0.1:9"]);

    let silent = serving(silent());
    table.add(silent, "silent");
    let found = table.probe_in_vain(&["--deadline", "400ms"]);
    let machine = &found[&silent.to_string()];
    assert!(
        machine["reason"].as_str().unwrap().contains("no time"),
        "{machine}"
    );
    let rows = table.rows();
    assert_eq!(
        (&rows[0]["misses"], &rows[0]["state"]),
        (&json!(0), &json!("unknown"))
    );
}

/// A network of its own with an address on it, 10.9.0.7, from which nothing ever comes; then a
/// probe, inside.
const NETWORK: &str = r#"
set -e
ip link set lo up
ip link add wa type veth peer name wb
ip addr add 10.9.0.1/24 dev wa
ip link set wa up
ip link set wb up
ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev wa nud permanent
echo ready >&2
exec "$@"
"#;

#[test]
fn no_miss_is_counted_while_nobody_out_there_is_heard() {
    let world = World::new();
    let table = Table::new(&world, "data");
    table.add("10.9.0.7:9".parse().unwrap(), "silent");
    let refusing = serving(refuses());
    table.add(refusing, "mine");
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", NETWORK, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_warren"));
    command.args(table.args(&["probe", "--json"]));
    let output = match command.current_dir(world.path(".")).output() {
        Ok(output) => output,
        Err(error) => return println!("left out: no unshare: {error}"),
    };
    let complained = String::from_utf8_lossy(&output.stderr);
    if !complained.starts_with("ready") {
        return println!("left out: no network of its own: {complained}");
    }
    assert!(output.status.success(), "{complained}");
    let (found, _) = lines(std::str::from_utf8(&output.stdout).unwrap());
    let silent = &found["10.9.0.7:9"];
    assert_eq!(
        (&silent["outcome"], &silent["misses"]),
        (&json!("undecided"), &json!(0))
    );
    assert!(
        silent["reason"].as_str().unwrap().contains("offline"),
        "{silent}"
    );
    // This machine itself is no witness that others could be heard.
    assert_eq!(found[&refusing.to_string()]["outcome"], "missed");
    assert_eq!(table.by_name("state")["silent"], "unknown");
}

#[test]
fn a_machine_is_missed_when_none_of_its_addresses_answers() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let (good, _) = serving(p2prc(0, Upload::Get));
    let refusing = serving(refuses());
    // Nothing listens at 127.0.0.2.
    let row = |name: &str, port: u16| {
        json!({"Name": name, "IPV4": "127.0.0.2", "IPV6": "localhost", "ServerPort": port.to_string(),
               "UDPServerPort": ""})
    };
    let rows = json!([row("good", good.port()), row("bad", refusing.port())]);
    table.import(&document(&rows), &[]);
    assert_eq!(table.probe(&["--latency-only"]).len(), 2);
    let states = table.by_name("state");
    assert_eq!(
        (&states["good"], &states["bad"]),
        (&json!("reachable"), &json!("suspect"))
    );
    assert_eq!(table.by_name("misses")["bad"], 1, "one machine, one miss");
}

#[cfg(feature = "p2p")]
#[test]
fn what_others_told_is_probed_on_the_internet_only_unless_it_is_named() {
    let world = World::new();
    let start = world.network();
    let one = start("one", &[]);
    let peer = format!("{}@{}", one.id(), one.udp());
    let two = start("two", &["--connect", &peer]);
    let (at_one, at_two) = (Table::new(&world, "one"), Table::new(&world, "two"));
    let (good, asked) = serving(p2prc(0, Upload::Get));
    let places = [good.to_string(), format!("localhost:{}", good.port())];
    for place in &places {
        at_one.said(&["add", place]);
    }
    eventually("one has told", || at_two.rows().len() == 2);
    let refused = |table: &Table<'_>| {
        let found = table.probe_in_vain(&[]);
        for place in &places {
            let reason = found[place]["reason"].as_str().unwrap();
            assert!(reason.contains("name it"), "{reason}");
        }
        assert_eq!(
            asked.connections.load(Ordering::SeqCst),
            0,
            "it was knocked at"
        );
        assert_eq!(table.all("misses"), json!([0, 0]));
    };
    refused(&at_two);
    drop((one, two));
    // Without the daemon, too; and who told of them does probe them.
    refused(&at_two);
    assert_eq!(at_one.probe(&["--latency-only"]).len(), 2);
    let named = [&places[0], "--latency-only"];
    assert_eq!(at_two.probe(&named)[&places[0]]["outcome"], "answered");
}

#[cfg(feature = "p2p")]
#[test]
fn a_node_that_speaks_of_itself_is_measured_over_its_link() {
    let world = World::new();
    let start = world.network();
    let one = start("one", &[]);
    let peer = format!("{}@{}", one.id(), one.udp());
    let two = start("two", &["--connect", &peer]);
    let (at_one, at_two) = (Table::new(&world, "one"), Table::new(&world, "two"));
    at_one.said(&["annotate", "two GPUs"]);
    eventually("one has told", || at_two.rows().len() == 1);
    let found = at_two.probe(&[]);
    let machine = &found[&one.udp()];
    assert_eq!(
        (&machine["outcome"], &machine["method"]),
        (&json!("answered"), &json!("link"))
    );
    for figure in ["latency_ms", "median_ms", "download_mbps", "upload_mbps"] {
        assert!(
            machine[figure].as_f64().unwrap() > 0.0,
            "{figure}: {machine}"
        );
    }
    assert_eq!(at_two.all("method"), json!(["link"]));
    drop(two);
    // Its address is one of QUIC: whoever asked there over HTTP would count a miss.
    let found = at_two.probe_in_vain(&[]);
    let reason = found[&one.udp()]["reason"].as_str().unwrap();
    assert!(reason.contains("running daemon"), "{reason}");
    assert_eq!(at_two.all("state"), json!(["reachable"]));
}
