//! Tokens that are meant to hurt: refused before anything is stored, and the server answers on.

use data_encoding::BASE64;

use super::*;

const GOOD: &str = "\
otp:
  dht:
    interval: 360
    key: dddddddddddddddddddd
    length: 43
  crypto:
    interval: 9000
    key: cccccccccccccccccccc
    length: 43
room: rrrrrrrrrrrrrrrrrrrr
rendezvous: vvvvvvvvvvvvvvvvvvvv
mdns: mmmmmmmmmmmmmmmmmmmm
max_message_size: 20971520
";

fn yaml(document: &str) -> String {
    BASE64.encode(document.as_bytes())
}

fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    yaml(&GOOD.replacen(old, new, 1))
}

/// At least 64 of them, each with a word for it.
fn tokens() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut push = |what: &str, token: String| all.push((what.to_owned(), token));
    // What crashes LocalAI's explorer: divisions by zero, slices beyond their end.
    push("no fields", yaml("a: b"));
    for number in [
        "0",
        "-1",
        "0.5",
        "1e3",
        "0x10",
        "1_000",
        ".nan",
        "NaN",
        ".inf",
        "-.inf",
        "4294967296",
        "18446744073709551616",
        "2592001",
        "null",
        "~",
        "\"360\"x",
        "[360]",
        "{a: 1}",
        "",
        "true",
    ] {
        push(
            &format!("dht interval {number}"),
            with("interval: 360", &format!("interval: {number}")),
        );
        push(
            &format!("crypto interval {number}"),
            with("interval: 9000", &format!("interval: {number}")),
        );
    }
    for length in ["45", "-1", ".nan", "99999999999", "x"] {
        push(
            &format!("length {length}"),
            with("length: 43", &format!("length: {length}")),
        );
    }
    push("short room", with("rrrrrrrrrrrrrrrrrrrr", "r"));
    push("short key", with("cccccccccccccccccccc", "c"));
    push(
        "long room",
        with("rrrrrrrrrrrrrrrrrrrr", &"r".repeat(2_000)),
    );
    push(
        "duplicate room",
        with("room:", "room: aaaaaaaaaaaaaaaaaaaa\nroom:"),
    );
    push("anchor", with("room: r", "room: &a r"));
    push(
        "alias",
        with(
            "room: rrrrrrrrrrrrrrrrrrrr",
            "x: &a rrrrrrrrrrrrrrrrrrrr\nroom: *a",
        ),
    );
    push("merge", with("otp:\n", "<<: {room: x}\notp:\n"));
    push("tag", with("room: r", "room: !!binary r"));
    push("two documents", yaml(&format!("{GOOD}---\n{GOOD}")));
    push("alias bomb", yaml(&bomb()));
    push(
        "deep",
        yaml(&format!("otp: {}{}", "[".repeat(5_000), "]".repeat(5_000))),
    );
    push("no mapping", yaml("- 1\n- 2\n"));
    push("empty document", yaml("\n"));
    push("nothing but a comment", yaml("# nothing\n"));
    push(
        "control characters",
        yaml(&GOOD.replace("room: r", "room: \"\\u0000r\" #")),
    );
    push("not UTF-8", BASE64.encode(b"otp: \xff\xfe\x80"));
    push(
        "base64 without padding",
        yaml(GOOD).trim_end_matches('=').to_owned() + "*",
    );
    push("half of one", yaml(GOOD)[..101].to_owned());
    let native = new_token();
    push("native, cut", native[..native.len() - 5].to_owned());
    push(
        "native, changed",
        native.replacen(
            &native[20..21],
            if &native[20..21] == "a" { "b" } else { "a" },
            1,
        ),
    );
    push("native, prefix only", "warren1".to_owned());
    push("native, long", format!("{native}{}", "a".repeat(30_000)));
    push("markup", "<script>alert(1)</script>".to_owned());
    push("a shell's", "$(touch x)`id`;\n".to_owned());
    all
}

/// Nine levels of nine: a reader that expands aliases needs gigabytes.
fn bomb() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let refs = vec![format!("*a{}", level - 1); 9].join(",");
        text.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    format!("{text}{GOOD}")
}

#[test]
fn hostile_tokens_are_refused_before_they_are_stored() {
    let board = Board::with(&["--add-rate", "off"]);
    let tokens = tokens();
    assert!(tokens.len() >= 64, "{}", tokens.len());
    for (what, token) in &tokens {
        let answer = board.add(&json!({"token": token, "name": "n", "description": "d"}));
        let said = (answer.status, answer.json());
        assert_eq!(said, (400, json!({"error": "Invalid token"})), "{what}");
    }
    assert_eq!(board.networks("")["total"], 0);
    board.added("after all of them");
    assert_eq!(board.networks("")["total"], 1);
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let board = Board::with(&["--add-rate", "off"]);
    let huge = format!("{{\"token\":\"{}\"}}", "A".repeat(10 * 1024 * 1024));
    assert_eq!(board.post(huge.as_bytes()).status, 413);
    let deep = [vec![b'['; 30_000], vec![b']'; 30_000]].concat();
    for body in [
        b"{\"token\":\"\xff\xfe\"}".as_slice(),
        b"{\"token\":NaN}",
        b"{\"token\":\"\\ud800\"}",
        b"{",
        b"\0",
        &deep,
    ] {
        let answer = board.post(body);
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({"error": "Cannot parse JSON"}))
        );
    }
    board.added("after all of them");
}
