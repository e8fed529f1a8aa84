//! What bounds a client: bytes, rows, requests, connections, time, keys.

use std::io::Read;

use super::common::until;
use super::*;

#[test]
fn bodies_and_tables_that_are_too_large_are_refused_and_nothing_is_stored() {
    let node = Node::start("atlas");
    let long = document(&[row("long", "192.0.2.1", "8088", &"x".repeat(1_100_000))]);
    let answer = node.post_table(&long);
    assert_eq!(answer.status, 413, "{}", answer.text());
    let rows: Vec<Value> = (0..1_001)
        .map(|n| json!({"ipv4": format!("192.0.2.{}", n % 250), "serverport": n + 1}))
        .collect();
    let answer = node.post_table(&document(&rows));
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(node.rows().len(), 0);
    // Said beforehand, nothing of it is read.
    let mut stream = node.begin("POST", "/upload", KIND, 300 << 20).unwrap();
    assert_eq!(http::read_answer(&mut stream).unwrap().status, 413);
    // Of many machines a client brings only so many at once.
    let answer = node.post_table(&document(&rows[..400]));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("warren-left-out"), Some("144"));
    assert_eq!(node.rows().len(), 256);
}

#[test]
fn a_client_that_asks_too_often_is_told_to_wait() {
    let node = Node::start("atlas");
    let table = document(&[]);
    let answers: Vec<Answer> = (0..12).map(|_| node.post_table(&table)).collect();
    assert_eq!(answers[0].status, 200);
    let refused = answers.iter().find(|answer| answer.status == 429);
    let refused = refused.expect("twelve tables at once pass");
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(refused.text().starts_with("error: too many requests"));
    // Its other requests are counted apart.
    assert_eq!(node.get("/server_info").status, 200);
    let mut stream = http::connect(node.at).unwrap();
    let one = "GET /server_info HTTP/1.1\r\nHost: x\r\n";
    let all = format!(
        "{}{one}Connection: close\r\n\r\n",
        format!("{one}\r\n").repeat(400)
    );
    stream.write_all(all.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let count = |status| answers.matches(&format!("HTTP/1.1 {status} ")).count();
    assert_eq!(count(200) + count(429), 401);
    assert!(count(200) > 50 && count(429) > 50, "{} passed", count(200));
    assert!(answers.contains("retry-after: 1\r\n"));
    until("it may ask again", || {
        (node.get("/server_info").status == 200).then_some(())
    });
}

#[test]
fn a_slow_client_and_a_hoarder_of_connections_keep_nobody_waiting() {
    let node = Node::start("atlas");
    let mut held = Vec::new();
    // Some keep silent, some begin a head, some a body.
    for n in 0..40 {
        let mut stream = http::connect(node.at).unwrap();
        let begun: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET /server_info HTTP/1.1\r\n",
            _ => {
                b"POST /IpTable HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\
                  Content-Type: multipart/form-data; boundary=X\r\n\r\n--"
            }
        };
        let _ = stream.write_all(begun);
        held.push(stream);
    }
    // Those above the number of one client are closed at once, the others in the end.
    for mut stream in held {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.contains(" 408 "), "{answer}");
    }
    assert_eq!(node.get("/server_info").status, 200);
    // A connection is kept for more than one request.
    let mut stream = http::connect(node.at).unwrap();
    let kept = b"GET /server_info HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(kept).unwrap();
        let mut some = [0; 4_096];
        let read = stream.read(&mut some).unwrap();
        assert!(some[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
}

#[test]
fn with_a_key_only_who_has_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let node = Node::with("atlas", &["--p2prc-http-key-file", file.to_str().unwrap()]);
    for path in ["/server_info", "/50", "/nothing"] {
        let answer = node.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let key = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    let answer = http::get_with(node.at, "/server_info", key).unwrap();
    assert_eq!(answer.status, 200);
    let sent = document(&[row("x", "10.0.0.1", "8088", "")]);
    assert_eq!(node.post_table(&sent).status, 401);
    assert_eq!(node.rows().len(), 0);
    assert_eq!(names(&node.post_table_with(key, &sent)), ["atlas", "x"]);
    let log = std::fs::read_to_string(node.mesh.dir("atlas").with_extension("log")).unwrap();
    assert!(!log.contains("0123456789abcdef"), "the key is in the log");
}

#[test]
fn a_key_that_guards_nothing_or_can_be_guessed_is_refused() {
    let mesh = Mesh::new();
    let dir = mesh.dir("atlas");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("key"), "short").unwrap();
    let key = dir.join("key");
    let key = key.to_str().unwrap();
    for (flags, word) in [
        (vec!["--p2prc-http-key-file", key], "--p2prc-http"),
        (
            vec!["--p2prc-http", ":0", "--p2prc-http-key-file", key],
            "16",
        ),
        (vec!["--p2prc-http", "nowhere"], "port"),
    ] {
        let output = warren(&dir, &[&["up", "--http", "off"], flags.as_slice()].concat())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("error: ") && text.contains(word), "{text}");
    }
}

#[test]
fn pages_in_a_browser_are_refused() {
    let node = Node::start("atlas");
    let sent = document(&[row("x", "10.0.0.1", "8088", "")]);
    for header in [
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(node.post_table_with(header, &sent).status, 403);
    }
    assert_eq!(node.rows().len(), 0);
    let typed_in = "Sec-Fetch-Site: none\r\n";
    assert_eq!(
        http::get_with(node.at, "/server_info", typed_in)
            .unwrap()
            .status,
        200
    );
}

#[test]
fn a_table_that_is_being_sent_at_the_end_is_still_stored() {
    let mut node = Node::start("atlas");
    let body = form(
        "json",
        "t",
        &document(&[row("late", "192.0.2.9", "8088", "")]),
    );
    let mut stream = node.begin("POST", "/IpTable", KIND, body.len()).unwrap();
    stream.write_all(&body[..20]).unwrap();
    // Answered, so that the other connection was accepted before it.
    assert_eq!(node.get("/server_info").status, 200);
    let daemon = node.daemon.take().unwrap();
    daemon.signal(rustix::process::Signal::TERM);
    until("nobody is accepted any more", || {
        http::connect(node.at).err()
    });
    stream.write_all(&body[20..]).unwrap();
    let answer = http::read_answer(&mut stream).unwrap();
    assert_eq!(names(&answer), ["atlas", "late"]);
    drop(daemon);
    until("the directory is free", || {
        let mut list = warren(&node.mesh.dir("atlas"), &["iptable", "ls", "--json"]);
        let output = list.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains("late").then_some(())
    });
}
