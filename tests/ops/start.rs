//! What is in the way of a start: ports, files, certificates. Each refusal says what, where and
//! what to do; no network is founded or joined by a start that failed.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::world::{Daemon, World, listing, refusal};

/// Nothing of a network is left: the next start is as the first one.
fn assert_no_network(dir: &Path) {
    let left = listing(dir);
    for file in ["token", "warren.sock"] {
        assert!(!left.iter().any(|name| name == file), "{left:?}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let world = World::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = udp.local_addr().unwrap().to_string();
    let tcp = tcp.local_addr().unwrap();
    let (http, ingress) = (tcp.to_string(), format!("chat={tcp}"));
    let taken = "Address already in use";
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--listen", &udp], &[&udp, taken, "hint: ", "--listen"]),
        (&["--http", &http], &[&http, taken, "hint: ", "--http"]),
        (
            &["--ingress", &ingress],
            &[&http, "in use", "hint: ", "port 0"],
        ),
    ];
    for (flags, words) in cases {
        refusal(&mut world.up("data", flags), 1, words);
        assert_no_network(&world.path("data"));
    }
    let daemon = Daemon::start(world.up("data", &[]));
    assert_eq!(
        daemon.end().0,
        Some(0),
        "and nothing keeps it from starting later"
    );
}

#[test]
fn default_ports_in_use_are_replaced_by_free_ones_and_that_is_said() {
    let world = World::new();
    // Whoever has them already has them as well as we.
    let _udp = UdpSocket::bind("[::]:7717");
    let _tcp = TcpListener::bind("127.0.0.1:7718");
    let mut command = world.command(&["up", "--data-dir", "data", "--no-mdns", "--print-ready"]);
    command.arg("--exit-with-stdin");
    let daemon = Daemon::start(command);
    assert!(!daemon.udp().ends_with(":7717"), "{}", daemon.udp());
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0));
    for port in ["UDP port 7717 is taken", "HTTP port 7718 is taken"] {
        assert!(
            log.iter().any(|line| line.contains(port)),
            "{port}: {log:#?}"
        );
    }
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let world = World::new();
    let hint = "`ip address`";
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["--listen", "192.0.2.1:0"],
            &["192.0.2.1:0", "hint: ", hint],
        ),
        (
            &["--http", "192.0.2.1:0"],
            &["192.0.2.1:0", "hint: ", "--http"],
        ),
        (
            &["--ingress", "a=192.0.2.1:0"],
            &["192.0.2.1:0", "hint: ", hint],
        ),
    ];
    for (flags, words) in cases {
        refusal(&mut world.up("data", flags), 1, words);
        assert_no_network(&world.path("data"));
    }
}

#[test]
fn certificates_that_are_none_are_refused() {
    let world = World::new();
    fs::write(world.path("garbage"), "garbage\n").unwrap();
    for (file, reason) in [
        ("missing", "No such file"),
        ("garbage", "no PEM certificate"),
    ] {
        let mut command = world.command(&["federated", "--address", "127.0.0.1:0"]);
        command
            .args(["--listen", "127.0.0.1:0", "--http=off", "--no-mdns"])
            .args(["--tls-cert", file, "--tls-key", file, "--print-ready"])
            .env("WARREN_TOKEN", world.said(&["token", "new"]).trim())
            .env("WARREN_DATA_DIR", "data");
        refusal(
            &mut command,
            2,
            &[file, reason, "hint: ", "--tls-self-signed"],
        );
        assert_no_network(&world.path("data"));
    }
}

#[test]
fn what_stands_where_a_file_should_be_is_left_alone() {
    let world = World::new();
    fs::write(world.path("file"), "").unwrap();
    let text = refusal(&mut world.up("file", &[]), 1, &["file", "move it away"]);
    assert!(text.contains("cannot create the directory"), "{text}");

    for name in ["warren.redb", "token", "identity.key"] {
        let data = format!("with-{name}");
        fs::create_dir_all(world.path(&data).join(name)).unwrap();
        let words = [name, "is a directory, not a file", "move it away"];
        refusal(&mut world.up(&data, &[]), 1, &words);
        assert!(world.path(&data).join(name).is_dir());
    }

    let data = world.path("with-socket");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("warren.sock"), "mine").unwrap();
    let words = ["warren.sock", "not a socket", "move it away"];
    refusal(&mut world.up("with-socket", &[]), 1, &words);
    assert_eq!(fs::read(data.join("warren.sock")).unwrap(), b"mine");
    assert!(!data.join("token").exists());
}

#[test]
fn a_damaged_database_is_reported_and_not_touched() {
    let world = World::new();
    let daemon = Daemon::start(world.up("data", &[]));
    assert_eq!(daemon.end().0, Some(0));
    let file = world.path("data/warren.redb");
    let mut bytes = fs::read(&file).unwrap();
    for damage in ["not a database", ""] {
        if damage.is_empty() {
            // The header stays, what it points to does not.
            bytes[4096..].fill(0xa5);
            fs::write(&file, &bytes).unwrap();
        } else {
            fs::write(&file, damage).unwrap();
        }
        let before = fs::read(&file).unwrap();
        let words = [
            "warren.redb",
            "is damaged",
            "not changed",
            "backup",
            "move it away",
        ];
        refusal(&mut world.up("data", &[]), 1, &words);
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[test]
fn a_second_daemon_is_told_who_is_the_first() {
    let world = World::new();
    let daemon = Daemon::start(world.up("data", &["--name", "first"]));
    let pid = daemon.pid().to_string();
    refusal(
        &mut world.up("data", &[]),
        1,
        &["in use by", "first", &pid, "--data-dir"],
    );
}

#[test]
fn config_files_are_refused_with_file_key_and_reason() {
    let world = World::new();
    let cases: [(&str, &[&str]); 5] = [
        ("lisen = ':0'", &["unknown key \"lisen\"", "\"listen\""]),
        ("drain_timeout = 3", &["\"drain-timeout\""]),
        ("listen = 5", &["listen: ", "no port"]),
        ("name = 'a b'", &["name: ", "position 1"]),
        ("name = ", &["line 1"]),
    ];
    for (text, words) in cases {
        fs::write(world.path("c.toml"), text).unwrap();
        let mut command = world.up("data", &["--config", "c.toml"]);
        let text = refusal(&mut command, 2, words);
        assert!(
            text.contains("config file c.toml") && text.contains("hint: "),
            "{text}"
        );
    }
    let mut missing = world.up("data", &["--config", "missing.toml"]);
    refusal(&mut missing, 2, &["missing.toml", "No such file"]);
    assert!(!world.path("data").exists());
}

#[test]
fn a_network_from_before_is_not_forgotten_by_a_start_that_fails() {
    let world = World::new();
    let daemon = Daemon::start(world.up("data", &[]));
    world.said(&["ledger", "put", "b", "k", "v", "--data-dir", "data"]);
    assert_eq!(daemon.end().0, Some(0));
    let token = fs::read(world.path("data/token")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ingress = format!("chat={}", taken.local_addr().unwrap());
    refusal(
        &mut world.up("data", &["--ingress", &ingress]),
        1,
        &["in use"],
    );
    assert_eq!(fs::read(world.path("data/token")).unwrap(), token);
    // Nor where only the token was lost: the ledger is what cannot be had again.
    fs::remove_file(world.path("data/token")).unwrap();
    let mut command = world.up("data", &["--ingress", &ingress]);
    command.env("WARREN_TOKEN", std::str::from_utf8(&token).unwrap().trim());
    refusal(&mut command, 1, &["in use"]);
    let mut command = world.up("data", &[]);
    command.env("WARREN_TOKEN", std::str::from_utf8(&token).unwrap().trim());
    let _daemon = Daemon::start(command);
    let value = world.said(&["ledger", "get", "b", "k", "--data-dir", "data"]);
    assert_eq!(value, "v\n");
}
