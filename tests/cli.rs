//! The binary as scripts meet it: exit codes, what is on which stream, JSON errors. No test here
//! needs a running node.

// clippy.toml's allowance ends at the test functions; these helpers are part of them.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The command in an empty world: its own home, no variables of whoever runs the tests.
struct World {
    home: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn warren(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.warren(args).output().unwrap()
    }

    /// Stdout of a command that must succeed.
    fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        out(&output)
    }

    /// Stderr of a command that must end with `code`.
    fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            err(&output)
        );
        err(&output)
    }
}

/// What stores nothing needs no place to store it: containers often have no home.
#[test]
fn commands_that_keep_nothing_do_without_a_home() {
    let world = World::new();
    let homeless = |args: &[&str]| world.warren(args).env_clear().output().unwrap();
    let token = out(&homeless(&["token", "new"]));
    assert_eq!(
        homeless(&["token", "inspect", token.trim()]).status.code(),
        Some(0)
    );
    assert_eq!(homeless(&["completions", "bash"]).status.code(), Some(0));
    let refused = homeless(&["status"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("--data-dir"), "{}", err(&refused));
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn with_stdin(mut command: Command, text: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A child that has read enough may be gone before we have written all.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn help_and_version_are_answers() {
    let world = World::new();
    assert!(world.said(&["--help"]).contains("Exit codes:"));
    assert!(world.said(&["--version"]).starts_with("warren "));
    assert!(world.said(&["up", "--help"]).contains("WARREN_LISTEN"));
    assert!(world.said(&["help", "ledger", "put"]).contains("Examples:"));
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_known() {
    let world = World::new();
    for args in [&["status", "--lisen"][..], &["ping"], &[]] {
        world.refused(2, args);
    }
    assert!(world.refused(2, &["statsu"]).contains("'status'"));
}

#[test]
fn wrong_usage_under_json_is_a_document_on_stdout() {
    let output = World::new().run(&["nodes", "--json", "--nope"]);
    assert_eq!(output.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["code"], "usage");
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("--nope"), "{message}");
}

#[cfg(feature = "p2p")]
#[test]
fn without_a_daemon_its_commands_exit_3() {
    let world = World::new();
    let commands: [&[&str]; 13] = [
        &["status"],
        &["nodes"],
        &["services", "--roles"],
        &["role", "rm", "1"],
        &["ledger", "ls"],
        &["ledger", "put", "b", "k", "v"],
        &["ping", "atlas"],
        &["bench", "atlas"],
        &["events"],
        &["drain"],
        &["leave", "--yes"],
        &["stop"],
        &["expose", "chat", "127.0.0.1:1", "--bg"],
    ];
    for args in commands {
        let text = world.refused(3, args);
        assert!(text.starts_with("error: no daemon"), "{text}");
        assert!(text.contains("\nhint: "), "{text}");
    }
    let output = world.run(&["--json", "status"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["code"], "no_daemon");
    assert!(document["error"]["hint"].is_string());
    assert_eq!(err(&output), "");
}

#[cfg(feature = "p2p")]
#[test]
fn only_up_and_demo_found_a_network() {
    let world = World::new();
    let commands: [&[&str]; 3] = [
        &["expose", "chat", "127.0.0.1:1"],
        &["ingress", "chat", "127.0.0.1:0"],
        &["federated", "--address", "127.0.0.1:0"],
    ];
    for args in commands {
        let text = world.refused(2, args);
        assert!(text.contains("error: no token"), "{text}");
        assert!(text.contains("warren up"), "{text}");
    }
    assert!(
        !world.home.path().join(".local").exists(),
        "nothing is made"
    );
}

#[cfg(feature = "p2p")]
#[test]
fn leaving_unasked_needs_yes() {
    assert!(World::new().refused(2, &["leave"]).contains("--yes"));
}

#[test]
fn bad_names_and_addresses_exit_2_with_the_reason() {
    let world = World::new();
    let cases: [(&[&str], &str); 7] = [
        (&["up", "--name", "a b"], "position 1"),
        (&["up", "--name", ""], "1 to 63"),
        (&["up", "--expose", "ä=h:1"], "not allowed"),
        (&["up", "--listen", "8080"], ":PORT"),
        (&["up", "--connect", "x@h:1"], "before the @"),
        (&["expose", "chat", "http://127.0.0.1:80"], "http://"),
        (&["ingress", "chat", "example.org:80"], "IP address"),
    ];
    for (args, reason) in cases {
        let text = world.refused(2, args);
        assert!(text.contains(reason), "{args:?}: {text}");
    }
}

#[test]
fn a_bad_variable_or_config_file_is_named() {
    let world = World::new();
    let mut command = world.warren(&["status"]);
    let output = command.env("WARREN_LISTEN", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("WARREN_LISTEN"));

    let file = world.home.path().join("warren.toml");
    std::fs::write(&file, "nmae = 'x'\n").unwrap();
    let text = world.refused(2, &["status", "--config", file.to_str().unwrap()]);
    assert!(text.contains("did you mean \"name\""), "{text}");
}

#[test]
fn a_new_token_is_one_line_and_stores_nothing() {
    let world = World::new();
    let token = world.said(&["token", "new"]);
    assert!(token.starts_with("warren1") && token.lines().count() == 1);
    assert_ne!(token, world.said(&["token", "new"]));
    let text = world.refused(1, &["token", "show"]);
    assert!(text.contains("no token is stored"), "{text}");
    assert_eq!(std::fs::read_dir(world.home.path()).unwrap().count(), 0);
}

#[test]
fn inspecting_tells_everything_but_the_secret() {
    let world = World::new();
    let token = world.said(&[
        "token",
        "new",
        "--dht-interval",
        "60",
        "--otp-interval",
        "120",
    ]);
    let output = with_stdin(world.warren(&["token", "inspect", "--json", "-"]), &token);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["kind"], "native");
    assert_eq!(document["dht_interval_s"], 60);
    assert_eq!(document["otp_interval_s"], 120);
    assert_eq!(document["bootstrap"], Value::Array(vec![]));
    assert!(!document["network"].as_str().unwrap().is_empty());
    let secret = token.trim().get(12..).unwrap();
    assert!(!out(&output).contains(secret) && !err(&output).contains(secret));

    let text = world.said(&["token", "inspect", token.trim()]);
    assert!(text.contains("120 s") && !text.contains(secret));
}

#[test]
fn intervals_come_from_localais_variables_and_are_bounded() {
    let world = World::new();
    let new = |name: &str, value: &str| {
        let mut command = world.warren(&["token", "new"]);
        command.env(name, value).output().unwrap()
    };
    let token = out(&new("LOCALAI_P2P_DHT_INTERVAL", "77"));
    assert!(
        world
            .said(&["token", "inspect", token.trim()])
            .contains("77 s")
    );
    let unusable = new("P2P_OTP_INTERVAL", "soon");
    assert_eq!(unusable.status.code(), Some(0));
    assert!(err(&unusable).contains("P2P_OTP_INTERVAL is not used"));
    let zero = world.refused(2, &["token", "new", "--otp-interval", "0"]);
    assert!(zero.contains("--otp-interval"), "{zero}");
}

#[test]
fn a_broken_token_is_refused_with_its_cause_and_without_its_text() {
    let world = World::new();
    let token = world.said(&["token", "new"]);
    let cut = &token.trim()[..token.trim().len() - 6];
    let huge = "A".repeat(10_000_000);
    for text in [cut, "hello", &huge] {
        let output = with_stdin(world.warren(&["token", "inspect", "-"]), text);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).starts_with("error: "), "{}", err(&output));
        assert!(!err(&output).contains(cut) && output.stderr.len() < 1000);
    }
}

#[test]
fn an_empty_secret_is_refused() {
    let world = World::new();
    world.refused(2, &["up", "--token", ""]);
    let mut command = world.warren(&["up"]);
    let output = command.env("WARREN_TOKEN", " ").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("WARREN_TOKEN") && err(&output).contains("empty"));
}

#[cfg(feature = "p2p")]
#[test]
fn a_token_on_the_command_line_warns_and_is_not_shown() {
    let world = World::new();
    let token = world.said(&["token", "new"]);
    // A data directory that cannot be: the daemon ends by itself.
    let file = world.home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap();
    let text = world.refused(
        1,
        &[
            "up",
            "--token",
            token.trim(),
            "--http=off",
            "--data-dir",
            path,
        ],
    );
    assert!(text.contains("--token-file"), "{text}");
    assert!(!text.contains(token.trim()));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let world = World::new();
    let mut command = world.warren(&["completions", "bash"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn completions_know_the_commands() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.said(&["completions", shell]);
        assert!(script.contains("federated"), "{shell}");
        assert!(script.contains("drain-timeout"), "{shell}");
    }
}

#[cfg(not(feature = "p2p"))]
#[test]
fn without_the_mesh_its_commands_say_so() {
    let world = World::new();
    for args in [&["up"][..], &["status"], &["expose", "a", "h:1"], &["demo"]] {
        let text = world.refused(1, args);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("feature `p2p`"), "{text}");
    }
}
