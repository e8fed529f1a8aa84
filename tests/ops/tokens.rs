//! Tokens that are none: an error that names the cause, exit 2, nothing stored, nothing printed
//! that was secret.

use std::fs;
use std::process::Command;

use data_encoding::BASE64;

use crate::world::{World, refusal};

/// LocalAI's own form.
const LOCALAI: &str = "\
otp:
  dht:
    interval: 360
    key: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq
    length: 43
  crypto:
    interval: 9000
    key: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq
    length: 43
room: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq
rendezvous: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq
mdns: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq
max_message_size: 20971520
";

fn refused(world: &World, token: &str, words: &[&str]) {
    let mut command = world.up("data", &[]);
    let text = refusal(command.env("WARREN_TOKEN", token), 2, words);
    assert!(text.contains("\nhint: "), "{text}");
    assert!(text.len() < 1_000 && !text.contains(token), "{text}");
    let mut command = world.command(&["token", "inspect", "-"]);
    fs::write(world.path("stdin"), token).unwrap();
    command.stdin(fs::File::open(world.path("stdin")).unwrap());
    refusal(&mut command, 2, words);
    assert!(!world.path("data").exists(), "nothing is stored");
}

#[test]
fn a_localai_token_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::new();
    let valid = BASE64.encode(LOCALAI.as_bytes());
    assert!(
        world
            .said(&["token", "inspect", &valid])
            .contains("localai")
    );

    let nested = format!("max_message_size: {}", "[".repeat(2_000));
    let wide = format!("room: {}", "x".repeat(20_000));
    // Each line doubles what the one before stands for.
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nroom: *c\n";
    let cases = [
        ("interval: 360", "interval: 0", "otp.dht.interval"),
        ("interval: 9000", "interval: 2592001", "otp.crypto.interval"),
        ("interval: 9000", "interval: -1", "otp.crypto.interval"),
        ("interval: 360", "interval: 1e3", "otp.dht.interval"),
        ("length: 43", "length: 400", "length"),
        ("room: abc", "room: &x abc", "anchor"),
        (
            "room: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq\n",
            bomb,
            "anchor",
        ),
        ("mdns:", "room:", "twice"),
        (
            "max_message_size: 20971520",
            "...\nmore: {",
            "follows the document",
        ),
        (
            "max_message_size: 20971520",
            "---\nmore: 1",
            "follows the document",
        ),
        ("max_message_size: 20971520", &nested, "nested deeper"),
        (
            "room: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq",
            &wide,
            "bytes",
        ),
        (
            "room: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq",
            "room: short",
            "room",
        ),
        (
            "room: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq",
            "room: [a]",
            "room",
        ),
        ("otp:", "otp: !!binary", ""),
    ];
    for (from, to, word) in cases {
        assert!(LOCALAI.contains(from));
        let text = LOCALAI.replacen(from, to, 1);
        refused(&world, &BASE64.encode(text.as_bytes()), &[word]);
    }
    refused(&world, &format!("{valid}!"), &["token"]);
    refused(&world, &format!("{valid}{valid}"), &["token"]);
    refused(&world, &BASE64.encode(&[0xff; 400]), &["token"]);
}

#[test]
fn a_native_token_with_a_changed_character_is_refused() {
    let world = World::new();
    let token = world.said(&["token", "new"]);
    let token = token.trim();
    let (head, tail) = token.split_at(token.len() / 2);
    let other = if tail.starts_with('q') { 'p' } else { 'q' };
    let changed = format!("{head}{other}{}", &tail[1..]);
    refused(&world, &changed, &["changed", "copy"]);
    refused(&world, &format!("{token}q"), &["added", "copy"]);
    refused(&world, head, &["copy"]);
    refused(&world, "hello", &["warren1"]);
}

#[test]
fn ten_megabytes_are_no_token() {
    let world = World::new();
    let big = world.path("big");
    fs::write(&big, vec![b'A'; 10_000_000]).unwrap();
    let words = ["65536", "no token", "hint: "];
    let with_file = |mut command: Command| {
        refusal(command.arg("--token-file").arg(&big), 2, &words);
    };
    with_file(world.up("data", &[]));
    let from_stdin = |command: &mut Command| {
        command.stdin(fs::File::open(&big).unwrap());
        let text = refusal(command, 2, &words);
        assert!(text.contains("on standard input"), "{text}");
    };
    from_stdin(&mut world.up("data", &["--token-file", "-"]));
    from_stdin(&mut world.command(&["join", "-", "--data-dir", "data"]));
    from_stdin(&mut world.command(&["token", "inspect", "-"]));
    assert!(!world.path("data").exists(), "nothing is stored");
}

#[test]
fn a_token_file_that_cannot_be_read_is_named() {
    let world = World::new();
    fs::create_dir(world.path("dir")).unwrap();
    fs::write(world.path("empty"), "\n").unwrap();
    fs::write(world.path("binary"), [0xff, 0xfe]).unwrap();
    for (file, reason) in [
        ("missing", "No such file"),
        ("dir", "directory"),
        ("empty", "empty"),
        ("binary", "UTF-8"),
    ] {
        let words = [file, reason, "hint: ", "warren token show"];
        refusal(&mut world.up("data", &["--token-file", file]), 2, &words);
    }
    assert!(!world.path("data").exists(), "nothing is stored");
}

#[test]
fn a_token_of_another_network_does_not_replace_the_stored_one() {
    let world = World::new();
    let founded = crate::world::Daemon::start(world.up("data", &[]));
    assert_eq!(founded.end().0, Some(0));
    let before = fs::read(world.path("data/token")).unwrap();
    let mut command = world.up("data", &[]);
    command.env("WARREN_TOKEN", world.said(&["token", "new"]).trim());
    refusal(
        &mut command,
        1,
        &["another network", "hint: ", "warren leave"],
    );
    assert_eq!(fs::read(world.path("data/token")).unwrap(), before);
}
