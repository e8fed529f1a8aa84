//! Each route with its body and its status.

use super::*;

#[test]
fn a_node_answers_as_p2prc_does() {
    let node = Node::start("atlas");
    let info = node.get("/server_info");
    assert_eq!(info.status, 200);
    assert_eq!(
        info.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let info = info.json();
    let keys: Vec<&String> = info.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["Hostname", "Platform", "CPU", "RAM", "Disk", "GPU"]);
    assert_eq!(
        (&info["Hostname"], &info["Platform"]),
        (&json!("atlas"), &json!("linux"))
    );
    assert!(info["RAM"].as_u64().unwrap() > 0 && info["Disk"].as_u64().unwrap() > 0);

    let file = node.get("/50");
    assert_eq!((file.status, file.body.len()), (200, 50_000_000));

    for method in ["GET", "POST"] {
        let upload = form("file", "/home/ann/50.bin", &"x".repeat(300_000));
        let answer = node.send(method, "/upload", KIND, &upload);
        assert_eq!((answer.status, answer.text()), (200, "'50.bin' uploaded!"));
        let upload = form("file", "\u{1b}[31m.bin", "");
        assert_eq!(
            node.send(method, "/upload", KIND, &upload).text(),
            "'[31m.bin' uploaded!"
        );
    }
    // Case 28.
    let missing = node.send("GET", "/upload", KIND, &form("other", "a", "x"));
    assert_eq!(missing.status, 400);

    // Case 32: what runs here is no FRP server, and nobody takes the text for a port.
    for path in ["/FRPPort", "/FRPport", "/FRPPort?udp=true"] {
        let answer = node.get(path);
        assert_eq!(answer.status, 501);
        assert!(answer.text().starts_with("error: "), "{}", answer.text());
        assert!(
            answer.text().contains("`warren publish`"),
            "{}",
            answer.text()
        );
    }
    for path in [
        "/MAPPort?port=22",
        "/AddProxy",
        "/startcontainer",
        "/",
        "/iptable",
    ] {
        assert_eq!(node.get(path).status, 404, "{path}");
    }
    let wrong = node.get("/IpTable");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));

    let status = node.warren(&["status"]);
    assert_eq!(status["p2prc_http"], node.at.to_string());
}

#[test]
fn case_38_what_is_no_table_is_refused_with_its_reason_and_nothing_is_stored() {
    let node = Node::start("atlas");
    let good = document(&[row("good", "192.0.2.1", "8088", "")]);
    let bad_row = document(&[
        row("good", "192.0.2.1", "8088", ""),
        row("bad\u{1b}[31m", "1.2.3", "8088", ""),
    ]);
    for (document, words) in [
        ("", "line 1"),
        ("{", "line 1"),
        ("[]", "ip_address"),
        ("{\"a\": 1}", "ip_address"),
        (
            "{\"ip_address\":[{\"ipv4\":\"192.0.2.1\",}]}",
            "line 1, column",
        ),
        (bad_row.as_str(), "row 2"),
    ] {
        let answer = node.post_table(document);
        let text = answer.text();
        assert_eq!(answer.status, 400, "{document}: {text}");
        assert!(
            text.starts_with("error: ") && text.contains(words),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    let field = node.send("POST", "/IpTable", KIND, &form("file", "t", &good));
    assert_eq!(field.status, 400);
    let json = "Content-Type: application/json\r\n";
    let answer = node.send("POST", "/IpTable", json, good.as_bytes());
    assert_eq!(answer.status, 415);
    assert!(answer.text().contains("multipart/form-data"));
    assert_eq!(node.rows(), Vec::<Value>::new());
}

#[test]
fn a_row_that_was_sent_is_kept_without_its_keys_and_figures() {
    let mut node = Node::start("atlas");
    let mut sent = row("two\u{1b}[31m", "192.0.2.2", "9000", "a\u{7}b");
    sent["NAT"] = json!(false);
    let answer = node.post_table(&document(&[sent]));
    assert_eq!(names(&answer), ["atlas", "two\u{fffd}[31m"]);
    let answered = &answer.json()["ip_address"][1];
    assert_eq!(answered["CustomInformation"], "a\u{fffd}b");
    for empty in ["PublicKey", "MachineUsername", "BareMetalSSHPort"] {
        assert_eq!(answered[empty], "", "{empty}");
    }
    assert_eq!(answered["UnSafeMode"], false);
    let kept = node.row("192.0.2.2:9000").unwrap();
    assert_eq!(kept["source"], "posted");
    assert_eq!(
        (&kept["latency_ms"], &kept["download_mbps"]),
        (&Value::Null, &Value::Null)
    );
    // It is on disk, and the user's to remove.
    drop(node.daemon.take());
    assert_eq!(node.rows().len(), 1);
    node.warren(&["iptable", "rm", "192.0.2.2:9000"]);
    assert_eq!(node.rows().len(), 0);
    // No key ever comes near the user's own.
    assert!(!node.mesh.dir("atlas").join(".ssh").exists());
}

#[test]
fn one_who_sends_rows_replaces_neither_the_users_nor_this_nodes() {
    let node = Node::start("atlas");
    node.warren(&["iptable", "add", "192.0.2.1:8088", "--name", "mine"]);
    node.warren(&["iptable", "annotate", "hello"]);
    let own = node.row(&node.at.to_string()).unwrap();
    assert_eq!(
        (&own["source"], &own["custom_information"]),
        (&json!("self"), &json!("hello"))
    );
    let port = node.at.port().to_string();
    let answer = node.post_table(&document(&[
        row("forged", "192.0.2.1", "8088", "forged"),
        row("forged", "127.0.0.1", &port, "forged"),
    ]));
    assert_eq!(names(&answer), ["atlas", "mine"]);
    assert_eq!(node.row(&node.at.to_string()).unwrap(), own);
}
