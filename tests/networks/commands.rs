//! What the commands do, each with a daemon on the directory and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::world::World;
use crate::{EXPLORER, Tokens, new_token};

#[cfg(feature = "p2p")]
fn with_and_without_a_daemon(check: impl Fn(&Tokens<'_>)) {
    let world = World::new();
    check(&Tokens::new(&world, "data"));
    let world = World::new();
    let daemon = world.network()("data", &[]);
    check(&Tokens::new(&world, "data"));
    drop(daemon);
}

#[cfg(not(feature = "p2p"))]
fn with_and_without_a_daemon(check: impl Fn(&Tokens<'_>)) {
    let world = World::new();
    check(&Tokens::new(&world, "data"));
}

#[test]
fn a_file_of_localai_comes_back_byte_for_byte() {
    with_and_without_a_daemon(|tokens| {
        let imported = tokens.import(EXPLORER, &["--dry-run"]);
        assert_eq!(imported["added"], 1);
        assert!(tokens.rows().is_empty(), "nothing was stored");
        tokens.import(EXPLORER, &[]);
        assert_eq!(tokens.said(&["export"]), EXPLORER);
        let again = tokens.import(EXPLORER, &[]);
        assert_eq!((&again["added"], &again["known"]), (&json!(0), &json!(1)));
        assert_eq!(
            tokens.said(&["export", "out.json"]),
            "the networks were written to out.json\n"
        );
        let out = tokens.world.path("out.json");
        assert_eq!(fs::read_to_string(&out).unwrap(), EXPLORER);
        let mode = fs::metadata(&out).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it holds secrets");

        let [row] = tokens.rows().try_into().unwrap();
        assert_eq!(row["name"], "garage");
        assert_eq!(row["state"], "stale");
        assert_eq!(row["clusters"][0]["type"], "federated");
        assert_eq!(row["clusters"][1]["network_id"], "gpu");
    });
}

#[test]
fn networks_are_added_edited_and_removed_and_tokens_shown_only_when_asked() {
    with_and_without_a_daemon(|tokens| {
        let token = new_token(tokens.world);
        let more = ["--name", "gar\u{1b}age", "--bootstrap", "a.example:7717"];
        let fingerprint = tokens.add(&token, &more);
        let inspected = tokens.world.json(&["token", "inspect", "--json", &token]);
        assert_eq!(inspected["network"], fingerprint.as_str());

        for shown in [tokens.said(&["ls"]), tokens.said(&["ls", "--json"])] {
            assert!(
                shown.contains(&fingerprint) && !shown.contains(&token),
                "{shown}"
            );
            assert!(!shown.contains('\u{1b}'), "{shown:?}");
        }
        for asked in [
            &["ls", "--show-tokens"][..],
            &["ls", "--show-tokens", "--json"],
        ] {
            assert!(tokens.said(asked).contains(&token));
        }
        // Another spelling is the same network.
        fs::write(tokens.world.path("token"), token.to_uppercase()).unwrap();
        let text = tokens.refused(1, &["add", "--token-file", "token"]);
        assert!(
            text.contains(&format!("network {fingerprint} is known already")),
            "{text}"
        );

        // Its poster did not agree to more than this explorer's own use.
        assert_eq!(tokens.said(&["export"]), "{}\n");
        assert!(tokens.said(&["export", "--all"]).contains(&token));
        tokens.json(&["edit", &fingerprint, "--publish", "true", "--name", "shed"]);
        assert!(tokens.said(&["export"]).contains("\"name\":\"shed\""));
        tokens.json(&["edit", &fingerprint, "--no-bootstrap"]);
        let [row] = tokens.rows().try_into().unwrap();
        assert_eq!(
            (&row["publish_token"], &row["bootstrap"]),
            (&json!(true), &json!([]))
        );

        let absent = "aaaaaaaaaaaaaaaa";
        let text = tokens.refused(1, &["rm", &fingerprint, absent]);
        assert!(text.contains(&format!("no network {absent}")), "{text}");
        assert_eq!(tokens.rows().len(), 1, "all or none");
        tokens.json(&["rm", &fingerprint]);
        assert!(tokens.rows().is_empty());
        assert_eq!(tokens.said(&["ls"]), "no networks\n");
        assert_eq!(tokens.add(&token, &[]), fingerprint, "it may come again");
    });
}

#[test]
fn a_document_is_taken_as_a_whole_or_not_at_all() {
    with_and_without_a_daemon(|tokens| {
        let (first, second) = (new_token(tokens.world), new_token(tokens.world));
        let upper = first.to_uppercase();
        let document = format!(
            "{{\"{first}\":{{\"name\":\"a\"}},\n\"YTogYg==\":{{}},\n  \"{second}\":{{\"Failures\":-1}},\
             \n\"{upper}\":null}}"
        );
        fs::write(tokens.world.path("given.json"), &document).unwrap();
        let text = tokens.refused(2, &["import", "given.json"]);
        assert!(text.contains("given.json: 2 bad rows"), "{text}");
        assert!(text.contains("line 2, column 1: row 2: "), "{text}");
        let failures = format!(
            "line 3, column {}: row 3, Failures: -1 is not",
            second.len() + 18
        );
        assert!(text.contains(&failures), "{text}\n{failures}");
        assert!(text.contains("--skip-bad"), "{text}");
        assert!(!text.contains("warren1"), "a token is shown: {text}");
        assert!(tokens.rows().is_empty());

        let imported = tokens.import(&document, &["--skip-bad"]);
        assert_eq!(imported["added"], 1);
        assert_eq!(
            (&imported["skipped"], &imported["merged"]),
            (&json!(2), &json!(1))
        );

        let replaced = tokens.import(
            &format!("{{\"{second}\":{{\"name\":\"b\"}}}}"),
            &["--replace"],
        );
        assert_eq!(
            (&replaced["added"], &replaced["removed"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(tokens.rows()[0]["name"], "b");
        fs::write(tokens.world.path("given.json"), "{}").unwrap();
        let text = tokens.refused(2, &["import", "given.json", "--replace"]);
        assert!(text.contains("no networks to replace"), "{text}");
        assert_eq!(tokens.rows().len(), 1);
    });
}

#[test]
fn hostile_tokens_are_refused_and_nothing_is_stored() {
    let world = World::new();
    let tokens = Tokens::new(&world, "data");
    let yaml = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let long = "A".repeat(20_000);
    let zero = format!(
        "otp:\n  dht:\n    interval: 0\n    key: {0}\n    length: 43\n  crypto:\n    interval: 0\n    \
         key: {0}\n    length: 400\nroom: {0}\n",
        "k".repeat(43)
    );
    let nan = zero.replace("interval: 0", "interval: .nan");
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nroom: *c\n";
    for hostile in ["a: b", &zero, &nan, bomb, "\u{feff}", "{}"].map(yaml) {
        fs::write(world.path("token"), &hostile).unwrap();
        let text = tokens.refused(2, &["add", "--token-file", "token"]);
        assert!(
            !text.contains(&hostile) && !text.contains("panicked"),
            "{text}"
        );
    }
    fs::write(world.path("token"), &long).unwrap();
    tokens.refused(2, &["add", "--token-file", "token"]);
    fs::write(world.path("token"), b"\xff\xfe").unwrap();
    tokens.refused(2, &["add", "--token-file", "token"]);
    assert!(tokens.rows().is_empty());
}

#[test]
fn the_number_of_networks_is_bounded_as_it_is_configured() {
    let world = World::new();
    let tokens = Tokens::new(&world, "data");
    let documents = [new_token(&world), new_token(&world)];
    let [first, second] = documents
        .each_ref()
        .map(|token| format!("{{\"{token}\":{{}}}}"));
    tokens.import(&first, &["--max-networks", "1"]);
    fs::write(world.path("given.json"), &second).unwrap();
    for limit in [&["--max-networks", "1"], &["--max-network-bytes", "1k"]] {
        let text = tokens.refused(1, &[&["import", "given.json"][..], limit].concat());
        assert!(
            text.contains("the database would have 2 networks"),
            "{text}"
        );
    }
    let variable = tokens.args(&["import", "given.json"]);
    let mut command = world.command(&variable);
    let output = command.env("WARREN_MAX_NETWORKS", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(tokens.rows().len(), 1);
    tokens.import(&second, &[]);
    assert_eq!(tokens.rows().len(), 2);
}

#[test]
fn wrong_usage_is_said() {
    let world = World::new();
    let tokens = Tokens::new(&world, "data");
    tokens.refused(2, &["rm", "not-a-fingerprint"]);
    tokens.refused(2, &["edit", "aaaaaaaaaaaaaaaa"]);
    tokens.refused(2, &["add", "--name", "n"]);
    tokens.refused(2, &["ls", "--state", "dead"]);
    assert!(!world.path("data").exists(), "reading makes nothing");
    assert_eq!(tokens.said(&["ls"]), "no networks\n");
    assert_eq!(tokens.said(&["export"]), "{}\n");
    assert!(!world.path("data").exists(), "reading makes nothing");
}
