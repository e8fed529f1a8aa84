//! This server as this program's own probe of P2PRC's servers finds it; and what it never does.

use std::net::TcpListener;
use std::time::Duration;

use warren::mesh::measure::Limits;
use warren::mesh::probe::Verdict;
use warren::service::probe::{Settings, probe};

use super::*;

#[tokio::test]
async fn the_probe_of_p2prcs_servers_measures_this_one_both_ways() {
    let node = tokio::task::spawn_blocking(|| Node::start("atlas"))
        .await
        .unwrap();
    let settings = Settings {
        deadline: common::DEADLINE,
        jitter: Duration::ZERO,
        patience: Duration::from_secs(10),
        transfer: Some(Limits {
            bytes: 40_000_000,
            time: Duration::from_secs(10),
        }),
        ..Settings::default()
    };
    let mut probing = probe([((), node.at.into())], settings);
    let outcome = probing.next().await.unwrap();
    let Verdict::Answered(found) = outcome.verdict else {
        panic!("{outcome:?}");
    };
    assert!(found.measurement().latency_ms().is_some());
    assert_eq!(found.upload.unwrap().bytes(), 40_000_000);
    assert!(found.download.unwrap().bytes() > 20_000_000);
}

#[test]
fn case_39_nothing_that_is_sent_is_connected_to() {
    let bait = TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let port = bait.local_addr().unwrap().port().to_string();
    let node = Node::start("atlas");
    // The first leads there, the others to addresses of this machine alone.
    let forged = (0..1_000).map(|n| {
        let ip = format!("127.0.{}.{}", n / 250, n % 250 + 1);
        row(&format!("bait{n}"), &ip, &port, "")
    });
    let answer = node.post_table(&document(&forged.collect::<Vec<_>>()));
    assert_eq!(names(&answer)[..2], ["atlas", "bait0"]);
    assert_eq!(answer.header("warren-left-out"), Some("744"));
    let taken = node.rows().len();
    assert_eq!(taken, 256);
    // The answer to one more request comes later than what the first would have begun.
    assert_eq!(node.get("/server_info").status, 200);
    assert_eq!(bait.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    // Nor is it when the user measures what is in the table, unless it is named.
    let probe = ["iptable", "probe", "--json"];
    let output = warren(&node.mesh.dir("atlas"), &probe).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("name it").count(), taken, "{text}");
    assert_eq!(bait.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_variable_and_the_config_file_switch_it_on_and_nothing_else_does() {
    let mesh = Mesh::new();
    let at = |daemon: &Daemon| daemon.json(&["status"])["p2prc_http"].clone();
    let plain = mesh.node("plain").start();
    assert_eq!(at(&plain), Value::Null);
    let by_variable = mesh.node("env").env("WARREN_P2PRC_HTTP", "127.0.0.1:0");
    assert!(at(&by_variable.start()).is_string());
    let file = mesh.home().join("warren.toml");
    std::fs::write(&file, "p2prc-http = '127.0.0.1:0'\n").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let by_file = mesh.node("file").args(&config).start();
    assert!(at(&by_file).is_string());
    let off = mesh.node("off").args(&config);
    assert_eq!(at(&off.args(&["--p2prc-http", "off"]).start()), Value::Null);
    // A taken address is said, not replaced: P2PRC's nodes would look for it there.
    let taken = at(&by_file).as_str().unwrap().to_owned();
    let refused = mesh.node("taken").args(&["--p2prc-http", &taken]);
    let output = refused.args(&["--listen", "127.0.0.1:0"]).output();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&taken) && text.contains("--p2prc-http"),
        "{text}"
    );
}
