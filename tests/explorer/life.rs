//! Start, end, and others on the same directory.

use rustix::process::Signal;

use super::common::until;
use super::*;

#[test]
fn the_ready_line_names_the_address_and_keeps_to_its_schema() {
    let board = Board::start();
    let schema = closed::validator("ready");
    closed::assert_valid(&schema, "ready", &board.ready);
    assert_eq!(board.get("/livez").text(), "ok\n");
    assert_eq!(board.get("/readyz").text(), "ok\n");
    let metrics = board.get("/metrics");
    assert!(
        metrics
            .text()
            .contains("warren_explorer_networks{state=\"new\"} 0"),
        "{}",
        metrics.text()
    );
    assert!(
        metrics
            .text()
            .contains("warren_explorer_requests_total{route=\"/livez\",status=\"200\"} 1")
    );
}

#[test]
fn a_second_process_is_refused_by_name_and_commands_attach() {
    let board = Board::start();
    board.added("garage");
    let second = warren(&board.dir(), &["explorer", "--address", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    let holder = format!("the daemon explorer, process {}", board.process.pid());
    assert!(said.contains(&holder), "{said}");

    let list = board.tokens(&["ls"]);
    assert_eq!(list["networks"][0]["name"], "garage");
    let fingerprint = list["networks"][0]["fingerprint"].as_str().unwrap();
    board.tokens(&["edit", fingerprint, "--name", "cellar"]);
    assert_eq!(board.networks("")["networks"][0]["name"], "cellar");
    board.tokens(&["rm", fingerprint]);
    assert_eq!(board.networks("")["total"], 0);
}

#[test]
fn an_address_that_is_taken_is_named_and_the_directory_let_go() {
    let board = Board::start();
    let home = TempDir::new().unwrap();
    let at = board.at.to_string();
    let dir = home.path().join("data");
    let refused = warren(&dir, &["explorer", "--address", &at])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains(&format!("{at} is in use by another program")),
        "{said}"
    );
    assert_eq!(tokens(&dir, &["ls"])["networks"], json!([]));
}

#[test]
fn what_was_acknowledged_is_there_after_the_end_and_after_a_kill() {
    let board = Board::with(&["--add-rate", "off"]);
    for n in 0..20 {
        board.added(&format!("net {n}"));
    }
    board.process.signal(Signal::KILL);
    let Board {
        mut process, home, ..
    } = board;
    process.wait();
    let board = Board::on(home, &[]);
    assert_eq!(board.networks("")["total"], 20);
    let (code, home) = board.stop();
    assert_eq!(code, 0);
    assert!(!home.path().join("data/warren.sock").exists());
    assert_eq!(Board::on(home, &[]).networks("")["total"], 20);
}

#[test]
fn a_stop_ends_streams_and_goes_with_zero() {
    let mut board = Board::start();
    let mut stream = http::connect(board.at).unwrap();
    let ask = http::head("GET", "/api/v1/events", "");
    std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
    let stopped = warren(&board.dir(), &["stop"]).output().unwrap();
    if cfg!(feature = "p2p") {
        assert!(stopped.status.success(), "{stopped:?}");
    } else {
        board.process.signal(Signal::TERM);
    }
    assert_eq!(board.process.wait().code(), Some(0));
    // The stream was ended, not broken off.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).unwrap();
    assert!(
        rest.ends_with(b"\r\n0\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
}

#[test]
fn the_pool_file_is_taken_in_and_kept_in_step() {
    let home = TempDir::new().unwrap();
    let pool = home.path().join("explorer.json");
    let [known, junk] = [new_token(), "bm90IGEgdG9rZW4=".to_owned()];
    let document = json!({
        &known: with_workers("garage", "worker", "", 1),
        &junk: {"name": "junk", "description": "", "Clusters": null, "Failures": 0},
    });
    std::fs::write(&pool, document.to_string()).unwrap();
    let board = Board::on(home, &["--pool-database", pool.to_str().unwrap()]);
    assert_eq!(board.networks("")["total"], 1);
    let added = board.added("new here");
    let (code, _home) = board.stop();
    assert_eq!(code, 0);
    let written: Value = serde_json::from_slice(&std::fs::read(&pool).unwrap()).unwrap();
    assert_eq!(written[&added]["name"], "new here");
    assert_eq!(written[&known]["name"], "garage");
    assert_eq!(
        written[&junk]["name"], "junk",
        "a row that nobody reads stays"
    );
}

#[test]
fn tls_is_served_and_slow_handshakes_hold_up_nobody() {
    let board = Board::with(&["--tls-self-signed"]);
    let _silent: Vec<_> = (0..20).map(|_| http::connect(board.at).unwrap()).collect();
    let url = format!("https://{}/livez", board.at);
    let curl = std::process::Command::new("curl")
        .args(["-sk", "--max-time", "30", &url])
        .output();
    let curl = curl.expect("curl is needed here, install it (apt-get install curl)");
    assert_eq!(curl.stdout, b"ok\n");
    // Plain HTTP on a TLS port gets an alert or an end, and the server goes on.
    let _ = http::get(board.at, "/livez");
    let again = std::process::Command::new("curl")
        .args(["-sk", "--max-time", "30", &url])
        .output();
    assert_eq!(again.unwrap().stdout, b"ok\n");
}

#[test]
fn localais_variables_set_it_up() {
    let home = TempDir::new().unwrap();
    let pool = home.path().join("pool.json");
    let mut command = warren(&home.path().join("data"), &["explorer", "--print-ready"]);
    command
        .env("ADDRESS", "127.0.0.1:0")
        .env("LOCALAI_POOL_DATABASE", &pool);
    let mut process = Process::start(command);
    let ready: Value = serde_json::from_str(&process.line()).unwrap();
    let at: SocketAddr = ready["explorer"].as_str().unwrap().parse().unwrap();
    assert!(at.ip().is_loopback());
    until("it answers", || http::get(at, "/livez").ok());
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&pool).unwrap().trim(), "{}");
}
