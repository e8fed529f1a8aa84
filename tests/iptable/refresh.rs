//! A daemon that asks its table again without being asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::probe::serving;
use crate::server::{Upload, p2prc, p2prc_on};
use crate::world::{Daemon, World, eventually, refusal};
use crate::{Table, document};

/// An address that the internet has given up (RFC 7526), and that counts as one of the internet.
const FAR: &str = "192.88.99.1";
/// A network of its own in which that is this machine, then a program inside.
const NETWORK: &str = r#"
set -e
ip link set lo up
ip addr add 192.88.99.1/32 dev lo
exec "$@"
"#;

/// `command` in a network of its own.
fn inside(command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["-rn", "sh", "-c", NETWORK, "sh"]);
    inside.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        inside.env(key, value.unwrap());
    }
    inside.current_dir(command.get_current_dir().unwrap());
    inside
}

/// Somebody who has proven nothing tells of a machine.
fn post(to: &str, ip: &str, port: u16, name: &str) {
    let rows = json!([{"Name": name, "IPV4": ip, "ServerPort": port.to_string(),
                       "UDPServerPort": ""}]);
    let form = format!(
        "--X\r\nContent-Disposition: form-data; name=\"json\"; filename=\"t.json\"\r\n\r\n{}\r\n\
         --X--\r\n",
        document(&rows)
    );
    let mut stream = TcpStream::connect(to).unwrap();
    write!(
        stream,
        "POST /IpTable HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=X\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The figure of this name in each line of the log about passes that changed something.
fn told(log: &[String], figure: &str) -> Vec<String> {
    let lines = log
        .iter()
        .filter(|line| line.contains("of the IP table changed"));
    let figure = format!("{figure}=");
    let figures = lines.map(|line| {
        let plain = line.split(&figure).nth(1).unwrap();
        plain.chars().take_while(char::is_ascii_digit).collect()
    });
    figures.collect()
}

#[test]
fn case_45_a_dead_machine_is_suspect_then_unreachable_then_gone_and_bootstrap_rows_stay() {
    let probe = Command::new("unshare")
        .args(["-rn", "sh", "-c", NETWORK, "sh", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return println!("left out: no network of its own");
    }
    let world = World::new();
    let table = Table::new(&world, "data");
    let daemon = Daemon::start(world.up("data", &["--p2prc-http", "127.0.0.1:0"]));
    let at = daemon.ready()["p2prc_http"].as_str().unwrap().to_owned();
    post(&at, FAR, 9, "dead");
    table.add(format!("{FAR}:10").parse().unwrap(), "mine");
    let rows =
        json!([{"Name": "from a file", "IPV4": FAR, "ServerPort": "11", "UDPServerPort": ""}]);
    table.import(&document(&rows), &[]);
    assert_eq!(
        table.all("source"),
        json!(["posted", "configured", "imported"])
    );
    assert_eq!(daemon.end().0, Some(0));

    std::fs::write(
        world.path("refresh.toml"),
        "iptable-refresh = \"1s\"\niptable-prune-after = \"1s\"\n",
    )
    .unwrap();
    let daemon = Daemon::start(inside(&world.up("data", &["--config", "refresh.toml"])));
    eventually("the dead machine is gone", || {
        !table.by_name("state").contains_key("dead")
    });
    // The others are asked on and on, and stay.
    eventually("five misses", || {
        let misses = table.by_name("misses");
        misses.len() == 2 && misses.values().all(|misses| misses.as_u64() > Some(4))
    });
    assert_eq!(table.all("state"), json!(["unreachable", "unreachable"]));
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log:#?}");
    // Each state is told once, in the pass that brought it, and no other pass says anything.
    assert_eq!(told(&log, "suspect"), ["3", "0", "0"], "{log:#?}");
    assert_eq!(told(&log, "unreachable"), ["0", "3", "0"], "{log:#?}");
    assert_eq!(told(&log, "gone"), ["0", "0", "1"], "{log:#?}");
}

#[test]
fn a_machine_that_comes_back_is_reachable_again_and_keeps_its_speeds() {
    let world = World::new();
    let table = Table::new(&world, "data");
    // Bound and not listening: it refuses, and nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at: SocketAddr = socket.local_addr().unwrap();
    table.add(at, "atlas");
    let mut command = world.up("data", &["--iptable-prune-after", "1s"]);
    command.env("WARREN_IPTABLE_REFRESH", "1s");
    let daemon = Daemon::start(command);
    let is = |state: &'static str| {
        eventually(state, || table.by_name("state")["atlas"] == *state);
    };
    is("unreachable");
    let (_, asked) =
        serving(async move { p2prc_on(socket.listen(64).unwrap(), 3_000_000, Upload::Get) });
    is("reachable");
    let row = table.rows().remove(0);
    assert_eq!(
        row["measured"],
        json!({"latency": true, "download": false, "upload": false}),
        "more than round trips was measured"
    );
    assert_eq!(row["misses"], 0);

    // The speeds that a person asked for stay when it is asked again.
    table.said(&["probe"]);
    let speeds = |row: &Value| (row["download_mbps"].clone(), row["upload_mbps"].clone());
    let before = table.rows().remove(0);
    assert_ne!(before["download_mbps"], Value::Null);
    let infos = asked.infos.load(Ordering::SeqCst);
    eventually("it was asked again", || {
        asked.infos.load(Ordering::SeqCst) >= infos + 12
    });
    assert_eq!(speeds(&table.rows().remove(0)), speeds(&before));
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn nobody_is_asked_unless_it_is_said_how_often() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let (good, asked) = serving(p2prc(0, Upload::Get));
    table.add(good, "good");
    for (flags, words) in [
        (
            ["--iptable-refresh", "999ms"].as_slice(),
            ["1s to 168h", "off"],
        ),
        (&["--iptable-refresh", "169h"], ["1s to 168h", "off"]),
        (&["--iptable-refresh", "daily"], ["30s", "or off"]),
        (
            &["--iptable-refresh", "1h", "--iptable-prune-after", "0s"],
            ["1s to 8760h", "off"],
        ),
        (
            &["--iptable-prune-after", "1h"],
            ["not --iptable-refresh", "how often"],
        ),
        (
            &["--iptable-refresh", "off", "--iptable-prune-after", "1h"],
            ["not --iptable-refresh", "how often"],
        ),
    ] {
        refusal(&mut world.up("data", flags), 2, &words);
    }
    let off = ["--iptable-refresh", "off", "--iptable-prune-after", "off"];
    let mut command = world.up("data", &off);
    command.env("WARREN_IPTABLE_REFRESH", "1s");
    let daemon = Daemon::start(command);
    // The flag goes before the variable; another daemon's passes are what time is measured by.
    let other = Table::new(&world, "other");
    let (theirs, their_asked) = serving(p2prc(0, Upload::Get));
    other.add(theirs, "good");
    let refreshing = Daemon::start(world.up("other", &["--iptable-refresh", "1s"]));
    eventually("three passes", || {
        their_asked.infos.load(Ordering::SeqCst) >= 12
    });
    assert_eq!(asked.connections.load(Ordering::SeqCst), 0);
    assert_eq!((daemon.end().0, refreshing.end().0), (Some(0), Some(0)));
}
