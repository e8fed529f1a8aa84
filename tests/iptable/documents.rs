//! Documents in: what is read, what is refused with its place, and that a refusal stores nothing.

use serde_json::{Value, json};

use crate::world::World;
use crate::{Table, document};

/// Forms that were shipped; all mean 203.0.113.7:8078, and the latency is the same one.
fn shipped() -> Vec<(&'static str, Value)> {
    let ns = 14_981_051;
    vec![
        (
            "V3",
            json!({"ipv4": "203.0.113.7", "ipv6": "", "latency": ns, "download": 0, "upload": 0}),
        ),
        (
            "V4",
            json!({"ipv4": "203.0.113.7", "ipv6": "", "latency": ns, "download": 0, "upload": 0, "serverport": "8078"}),
        ),
        (
            "V5",
            json!({"ipv4": "203.0.113.7", "latency": ns, "serverport": "8078", "proxyport": "7000"}),
        ),
        (
            "V7",
            json!({"Name": "n", "IPV4": "203.0.113.7", "Latency": ns, "ServerPort": "8078", "NAT": "False", "EscapeImplementation": ""}),
        ),
        (
            "V8",
            json!({"Name": "n", "IPV4": "203.0.113.7", "Latency": ns, "ServerPort": "8078", "NAT": "False", "EscapeImplementation": "", "CustomInformation": null}),
        ),
        (
            "V11",
            json!({"IPV4": "203.0.113.7", "Latency": ns, "ServerPort": "8078", "NAT": "", "BareMetalSSHPort": "", "ProxyServer": "False"}),
        ),
        (
            "V12",
            json!({"IPV4": "203.0.113.7", "Latency": ns, "ServerPort": "8078", "NAT": "False", "UnSafeMode": false, "PublicKey": "k"}),
        ),
        (
            "V14",
            json!({"IPV4": "203.0.113.7", "Latency": ns, "ServerPort": "8078", "NAT": false, "UDPServerPort": "", "ProxyServer": false}),
        ),
    ]
}

#[test]
fn case_1_each_shipped_form_loads_with_its_latency_in_milliseconds() {
    let world = World::new();
    let table = Table::new(&world, "data");
    for (variant, row) in shipped() {
        let done = table.import(&document(&json!([row])), &["--replace"]);
        assert_eq!(done["variant"], variant, "{done:#}");
        let rows = table.rows();
        let port = if variant == "V3" { 8088 } else { 8078 };
        assert_eq!(
            rows[0]["address"],
            format!("203.0.113.7:{port}"),
            "{variant}"
        );
        assert_eq!(rows[0]["latency_ms"], 14.981051, "{variant}");
        assert_eq!(
            rows[0]["download_mbps"],
            Value::Null,
            "0 is unknown: {variant}"
        );
        assert_eq!(rows[0]["nat"], false, "{variant}");
    }
}

#[test]
fn case_6_the_documented_sample_is_refused_with_its_place_and_read_when_asked() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let sample = "{\n \"ip_address\": [\n  {\n   \"ipv4\": \"198.51.100.7\",\n   \"latency\": \"12\",\n   \
                  \"download\": \"34.5\",\n   \"upload\": \"6\"\n   \"port no\": \"8088\",\n  }\n ]\n}\n";
    let text = table.refuses(sample);
    assert!(text.contains("line 8, column 4"), "{text}");
    // With only the missing comma mended, there is still one too many.
    let text = table.refuses(sample.replace("\"6\"", "\"6\","));
    assert!(text.contains("line 9, column 3"), "{text}");
    assert_eq!(table.rows().len(), 0);

    let done = table.import(sample, &["--lenient"]);
    assert_eq!(
        (&done["variant"], &done["latency_unit"]),
        (&json!("D3"), &json!("milliseconds"))
    );
    let rows = table.rows();
    assert_eq!(rows[0]["address"], "198.51.100.7:8088");
    assert_eq!(
        (&rows[0]["latency_ms"], &rows[0]["upload_mbps"]),
        (&json!(12.0), &json!(6.0))
    );

    // Case 7: with both commas mended it is JSON, and quoted figures are figures.
    let mended = sample
        .replace("\"6\"", "\"6\",")
        .replace("\"8088\",", "\"8088\"");
    assert_eq!(table.import(&mended, &[])["unchanged"], 1);
}

#[test]
fn case_8_what_is_no_table_is_refused_and_the_old_table_stays() {
    let world = World::new();
    let table = Table::new(&world, "data");
    table.import(
        &document(&json!([{"ipv4": "192.0.2.1", "latency": 5_000_000, "ipv6": ""}])),
        &[],
    );
    let before = table.export();
    for bad in [
        "",
        "\u{feff}{\"ip_address\":[]}",
        "{\"ip_address\":[{\"ipv4\":\"192.0.2.2\"}",
        "{\"ip_address\":[]} x",
        "[{\"ipv4\":\"192.0.2.2\"}]",
        "{\"ip_addresses\":[]}",
        "{\"ip_address\":[],\"ip_address\":[]}",
    ] {
        table.refuses(bad);
    }
    table.refuses(b"{\"ip_address\":[{\"ipv4\":\"\xff\"}]}");
    // An empty table is one: it brings nothing, and takes nothing away.
    for empty in ["{\"ip_address\":null}", "{\"ip_address\":[]}", "{}"] {
        assert_eq!(table.import(empty, &[])["elements"], 0);
        let text = table.refused(1, &["import", "given.json", "--replace"]);
        assert!(text.contains("no rows to replace"), "{text}");
    }
    assert_eq!(table.export(), before);
}

#[test]
fn cases_4_10_17_and_19_bad_rows_are_named_with_row_and_field_and_stop_the_import() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let good = json!({"ipv4": "192.0.2.1", "ipv6": "", "latency": 5_000_000});
    for (bad, words) in [
        (
            json!({"ipv4": "192.0.2.2", "serverport": "0"}),
            ["serverport", "no port"],
        ),
        (
            json!({"ipv4": "192.0.2.2", "serverport": "70000"}),
            ["serverport", "70000"],
        ),
        (
            json!({"ipv4": "192.0.2.2", "serverport": "-1"}),
            ["serverport", "-1"],
        ),
        (
            json!({"ipv4": "192.0.2.2", "serverport": "80x"}),
            ["serverport", "80x"],
        ),
        (json!({"ipv4": "010.0.0.1"}), ["ipv4", "010.0.0.1"]),
        (json!({"ipv4": "", "ipv6": ""}), ["row 2", "no address"]),
        (json!({"ipv4": "\u{1b}[31m\u{9b}x"}), ["ipv4", "neither"]),
        (
            json!({"ipv4": "192.0.2.2", "Name": {"a": 1}}),
            ["Name", "row 2"],
        ),
    ] {
        let text = table.refuses(document(&json!([good, bad])));
        for word in words.iter().chain(&["line 1, column", "row 2"]) {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
        assert_eq!(table.rows().len(), 0, "{text}");
    }
    let bad = json!([good, {"ipv4": "010.0.0.1"}, {"ipv4": "192.0.2.3", "serverport": "0"}]);
    let done = table.import(&document(&bad), &["--skip-bad"]);
    assert_eq!((&done["added"], &done["skipped"]), (&json!(1), &json!(2)));
    assert_eq!(done["problems"].as_array().unwrap().len(), 2);
    assert_eq!(table.all("address"), json!(["192.0.2.1:8088"]));
}

#[test]
fn cases_9_and_10_what_is_no_row_or_no_figure_is_left_out_with_a_word() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let rows = json!([null, 5, {"IPV4": "192.0.2.1", "Latency": -1, "UDPServerPort": ""}]);
    let done = table.import(&document(&rows), &[]);
    assert_eq!(
        (&done["added"], &done["note_count"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(table.all("latency_ms"), json!([null]));
}

#[test]
fn case_12_unknown_fields_come_back_and_an_unknown_latency_is_no_low_number() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let row = json!({"ipv4": "192.0.2.1", "latency": 0, "ipv6": "", "region": {"zone": [1, 2.50]}});
    table.import(&document(&json!([row])), &[]);
    let export = table.export();
    assert!(export.contains("\"region\": {\"zone\":[1,2.5"), "{export}");
    assert!(export.contains("\"Latency\": 10000000000000,"), "{export}");
    // And what is exported is read as what it was.
    std::fs::write(world.path("again.json"), &export).unwrap();
    let again = Table::new(&world, "other");
    again.json(&["import", "again.json"]);
    assert_eq!(again.export(), export);
    assert_eq!(again.rows(), table.rows());
    let legacy = table.said(&["export", "--format", "legacy"]);
    assert!(legacy.contains("\"NAT\": \"False\""), "{legacy}");
    let documented = table.said(&["export", "--format", "documented"]);
    assert!(documented.contains("\"port no\": \"8088\""), "{documented}");
}

#[test]
fn case_13_large_and_deep_documents_end_in_an_error_and_texts_do_not_reach_the_terminal() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let deep = format!(
        "{{\"ip_address\":[{{\"ipv4\":\"192.0.2.1\",\"x\":{}",
        "[".repeat(50_000)
    );
    table.refuses(deep);
    table.refuses(document(
        &json!([{"ipv4": "192.0.2.1", "Name": "x".repeat(1_000_000)}]),
    ));
    let many = vec!["{\"ipv4\":\"192.0.2.1\"}"; 200_001].join(",");
    let text = table.refuses(format!("{{\"ip_address\":[{many}]}}"));
    assert!(text.contains("more than 200000 rows"), "{text}");

    let evil = "\u{1b}]0;x\u{7}\u{9b}31m\r\n";
    let row = json!({"IPV4": "192.0.2.1", "Name": evil, "CustomInformation": evil,
                     "BareMetalSSHPort": "", "\u{1b}[2J": "\u{9b}2J"});
    table.import(&document(&json!([row])), &[]);
    let strange = |text: &str| text.contains(|c: char| c.is_control() && c != '\n');
    for args in [
        &["ls"][..],
        &["ls", "--json"],
        &["export"],
        &["export", "--format", "legacy"],
    ] {
        let text = table.said(args);
        assert!(!strange(&text), "{args:?}: {text:?}");
    }
    assert_eq!(table.all("name"), json!([evil]));
}

#[test]
fn a_dry_run_says_what_would_happen_and_stores_nothing() {
    let world = World::new();
    let table = Table::new(&world, "data");
    let rows = json!([{"ipv4": "192.0.2.1", "latency": 5_000_000}, {"ipv4": "192.0.2.2"}]);
    let done = table.import(&document(&rows), &["--dry-run"]);
    assert_eq!(
        (&done["added"], &done["dry_run"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(table.rows().len(), 0);
}

#[test]
fn case_43_a_configuration_of_any_generation_says_where_the_table_is() {
    let world = World::new();
    let table = Table::new(&world, "data");
    std::fs::create_dir_all(world.path("p2prc/p2p")).unwrap();
    let rows = document(&json!([{"ipv4": "192.0.2.1"}]));
    std::fs::write(world.path("p2prc/p2p/ip_table.json"), rows).unwrap();
    let config = world.path("p2prc/config.json");
    for text in [
        json!({"MachineName": "a", "IPTable": "p2p/ip_table.json", "BehindNAT": "True"}),
        json!({"IPTable": world.path("p2prc/p2p/ip_table.json"), "BehindNAT": true, "Test": false}),
    ] {
        std::fs::write(&config, text.to_string()).unwrap();
        table.json(&["import", "--p2prc-config", "p2prc/config.json"]);
        let args = table.args(&["import", "--json", "--p2prc-config"]);
        let mut command = world.command(&args);
        let output = command.env("P2PRC", world.path("p2prc")).output().unwrap();
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(done["unchanged"], 1, "{done}");
        // Without the variable it is the directory where the command runs.
        let output = world
            .command(&args)
            .current_dir(world.path("p2prc"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    std::fs::write(&config, "{\n\"IPTable\": \"x\",\n}").unwrap();
    let text = table.refused(2, &["import", "--p2prc-config", "p2prc/config.json"]);
    assert!(
        text.contains("p2prc/config.json: line 3, column 1"),
        "{text}"
    );
    table.refused(
        2,
        &[
            "import",
            "given.json",
            "--p2prc-config",
            "p2prc/config.json",
        ],
    );
    table.refused(2, &["import"]);
}
