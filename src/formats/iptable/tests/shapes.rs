//! Every variant loads, and means what its version meant.

use super::*;

/// Tables in the form of each variant, with one machine that took 14.981051 ms.
fn shipped() -> Vec<(Variant, String)> {
    let v2 = r#""ipv4":"203.0.113.7","latency":14981051,"download":8142.5,"upload":3578.25"#;
    let v3 = format!(r#"{v2},"ipv6":"""#);
    let v4 = format!(r#"{v3},"serverport":"8088""#);
    let v5 = format!(r#"{v4},"proxyport":"7000""#);
    let v6 = format!(r#"{v5},"Name":"node""#);
    let v7 = |nat: &str| {
        format!(
            r#""Name":"node","IPV4":"203.0.113.7","IPV6":"","Latency":14981051,"Download":8142.5,
            "Upload":3578.25,"ServerPort":"8088","NAT":{nat},"EscapeImplementation":"FRP""#
        )
    };
    let v8 = |custom: &str| format!(r#"{},"CustomInformation":{custom}"#, v7("\"False\""));
    let v10 = |nat: &str| {
        let v9 = format!(r#"{},"CustomInformation":"for you""#, v7(nat));
        format!(r#"{v9},"BareMetalSSHPort":"22""#)
    };
    let v11 = |nat: &str| format!(r#"{},"ProxyServer":{nat}"#, v10(nat));
    let v12 = |nat: &str| {
        let user = r#""MachineUsername":"ann","UnSafeMode":true,"PublicKey":"ssh-rsa AAAA\n""#;
        format!("{},{user}", v11(nat))
    };
    let v14 = format!(r#"{},"UDPServerPort":"""#, v12("false"));
    [
        (Variant::V2, v2.to_owned()),
        (Variant::V3, v3),
        (Variant::V4, v4),
        (Variant::V5, v5),
        (Variant::V6, v6),
        (Variant::V7, v7("\"False\"")),
        (Variant::V8, v8("\"Zm9yIHlvdQ==\"")),
        (Variant::V9, v8("\"for you\"")),
        (Variant::V10, v10("\"False\"")),
        (Variant::V11, v11("\"False\"")),
        (Variant::V12, v12("\"False\"")),
        (Variant::V13, v12("false")),
        (Variant::V14, v14),
    ]
    .map(|(variant, row)| (variant, table(&[&format!("{{{row}}}")])))
    .into()
}

#[test]
fn every_shipped_variant_loads_with_the_same_machine_and_latency() {
    for (variant, text) in shipped() {
        let document = strict(&text);
        assert_eq!(document.variant, Some(variant), "{text}");
        assert_eq!(document.report.note_count, 0, "{:?}", document.report);
        assert_eq!(places(&document), ["203.0.113.7:8088"], "{variant}");
        let row = &document.rows[0];
        assert_eq!(latency_ms(row), Some(14.981_051), "{variant}");
        assert_eq!(row.download_mbps(), Some(8142.5));
        assert_eq!(row.upload_mbps(), Some(3578.25));
        assert_eq!(
            row.name.as_str(),
            ["node", ""][usize::from(variant < Variant::V6)]
        );
        if variant >= Variant::V8 {
            assert_eq!(row.carried.custom_information, "for you", "{variant}");
        }
    }
}

/// The fuzz targets begin with the same files.
#[test]
fn files_that_were_shipped_load() {
    let head = include_str!("../../../../fuzz/seeds/iptable_strict/p2prc-head");
    let v110 = include_str!("../../../../fuzz/seeds/iptable_strict/p2prc-1.1.0");
    let first = include_str!("../../../../fuzz/seeds/iptable_strict/p2prc-2021-03");
    for (text, variant, place, name) in [
        (head, Variant::V8, "139.59.162.154:8078", "Node1"),
        (v110, Variant::V4, "139.162.246.221:8088", ""),
        (first, Variant::V1, "23.23.232.2:8088", ""),
    ] {
        let document = strict(text);
        assert_eq!(document.variant, Some(variant));
        assert_eq!(places(&document), [place]);
        assert_eq!(document.rows[0].name, name);
        assert!(!document.rows[0].flags.nat);
    }
    let documented = include_str!("../../../../fuzz/seeds/iptable_lenient/documented-sample");
    assert!(read(documented.as_bytes(), STRICT).is_err());
    let document = read(documented.as_bytes(), LENIENT).unwrap();
    assert_eq!(document.variant, Some(Variant::D3));
    assert_eq!(places(&document), ["198.51.100.7:8088"]);
}

#[test]
fn the_first_variant_counts_in_milliseconds() {
    let text = r#"{"ip_address":[{"ipv4":"23.23.232.2","latency":3,"download":34,"upload":50}]}"#;
    let document = strict(text);
    assert_eq!(document.variant, Some(Variant::V1));
    assert_eq!(Variant::V1.latency_unit().to_string(), "milliseconds");
    assert_eq!(latency_ms(&document.rows[0]), Some(3.0));
    let fraction = r#"{"ipv4":"23.23.232.2","latency":3.5,"download":34,"upload":50}"#;
    assert_eq!(latency_ms(&row(fraction)), Some(3.5));
}

/// As in P2PRC's documents, with values instead of placeholders.
const SAMPLE: &str = r#"{
  "ip_address": [
    {
      "ipv4": "198.51.100.7",
      "latency": "12",
      "download": "34.5",
      "upload": "6"
      "port no": "8099",
    }
  ]
}"#;

#[test]
fn the_documented_sample_is_refused_with_its_place_or_read_leniently() {
    let refused = error(SAMPLE, STRICT);
    assert_eq!(refused.to_string(), "line 8, column 7: expected `,` or `}`");
    let document = read(SAMPLE.as_bytes(), LENIENT).unwrap();
    assert_eq!(document.variant, Some(Variant::D3));
    assert_eq!(places(&document), ["198.51.100.7:8099"]);
    let row = &document.rows[0];
    assert_eq!(latency_ms(row), Some(12.0));
    assert_eq!(row.download_mbps(), Some(34.5));
    assert_eq!(row.upload_mbps(), Some(6.0));
}

#[test]
fn the_documented_sample_has_two_faults() {
    let one = SAMPLE.replace("\"6\"", "\"6\",");
    let refused = error(&one, STRICT);
    assert_eq!(
        refused.to_string(),
        "line 9, column 5: key must be a string"
    );
    let none = one.replace("8099\",", "8099\"");
    let document = strict(&none);
    assert_eq!(document.variant, Some(Variant::D2));
    assert_eq!(latency_ms(&document.rows[0]), Some(12.0));
    assert_eq!(places(&document), ["198.51.100.7:8099"]);
}

#[test]
fn the_other_documented_forms_load() {
    let d1 = r#"{"ipv4":"192.0.2.1","latency":"2.5","download":"1","upload":"1"}"#;
    let document = strict(&table(&[d1]));
    assert_eq!(document.variant, Some(Variant::D1));
    assert_eq!(latency_ms(&document.rows[0]), Some(2.5));
    let d4 = r#"{"Name":"n","MachineUsername":"u","IPV4":"192.0.2.1","IPV6":"","Latency":"2.5",
        "Download":"","Upload":"","ServerPort":"1","BareMetalSSHPort":"","NAT":"True",
        "EscapeImplementation":"","ProxyServer":"False","UnSafeMode":"False","PublicKey":"",
        "CustomInformation":""}"#;
    let document = strict(&table(&[d4]));
    assert_eq!(document.variant, Some(Variant::D4));
    assert_eq!(latency_ms(&document.rows[0]), Some(2.5));
    assert!(document.rows[0].flags.nat);
}

#[test]
fn leniency_takes_the_two_documented_faults_and_no_others() {
    for fine in [
        r#"{"ip_address": [{"ipv4": "192.0.2.1" "serverport": 1}]}"#,
        "{\"ip_address\": [{\"ipv4\": \"192.0.2.1\"}\n{\"ipv4\": \"192.0.2.2\"},]}",
        r#"{"ip_address": [], }"#,
    ] {
        assert!(read(fine.as_bytes(), STRICT).is_err());
        read(fine.as_bytes(), LENIENT).unwrap();
    }
    for bad in [
        r#"{"ip_address": [{"ipv4": "192.0.2.1""serverport": 1}]}"#,
        r#"{"ip_address": [{"ipv4": "192.0.2.1",, "serverport": 1}]}"#,
        r#"{"ip_address": [{"ipv4": "192.0.2.1",,}]}"#,
        r#"{"ip_address": [,]}"#,
        r#"{"ip_address": [{,}]}"#,
        r#"{"ip_address": [{"ipv4" "192.0.2.1"}]}"#,
        r#"{"ip_address": [{"ipv4": "192.0.2.1" // me
        }]}"#,
        "{'ip_address': []}",
        "{ip_address: []}",
        r#"{"ip_address": []} {}"#,
        r#"{"ip_address": [1 -]}"#,
        r#"{"ip_address": ["a]}"#,
        r#"{"ip_address": ["a\"#,
    ] {
        assert!(read(bad.as_bytes(), LENIENT).is_err(), "{bad}");
    }
    // What stands in a text is no fault.
    let text = r#"{"ip_address":[{"ipv4":"192.0.2.1","Name":"a\" \"b ,} \\"}]}"#;
    let document = read(text.as_bytes(), LENIENT).unwrap();
    assert_eq!(document.rows[0].name, "a\" \"b ,} \\");
}

#[test]
fn places_are_those_of_the_text_that_was_given() {
    let text =
        "{\"ip_address\": [\n{\"ipv4\": \"192.0.2.1\"\n\n\n},\n{\"ipv4\": \"x.1\"\n\"Name\": 1}]}";
    let error = error(text, LENIENT);
    assert_eq!(
        error.position(),
        Some(Position {
            line: 6,
            column: 10
        })
    );
}

#[test]
fn keys_load_in_any_case_and_the_last_of_two_counts() {
    for key in ["ipv4", "IPV4", "Ipv4", "iPv4"] {
        let json = format!(r#"{{"{key}":"192.0.2.1","SERVERPORT":"9","nAt":true}}"#);
        assert_eq!(row(&json).place.to_string(), "192.0.2.1:9");
    }
    let twice = r#"{"ipv4":"192.0.2.1","Name":"a","NAME":"b","x":1,"x":2}"#;
    assert_eq!(row(twice).name, "b");
    assert_eq!(row(twice).carried.kept, [("x".to_owned(), "2".to_owned())]);
    let notes = notes(twice);
    assert_eq!(
        notes,
        [
            "line 2, column 39: row 1, NAME: it is there twice, the last one counts",
            "line 2, column 53: row 1, x: it is there twice, the last one counts",
        ]
    );
}

#[test]
fn flags_are_booleans_or_the_texts_they_once_were() {
    for (written, meant) in [
        ("true", true),
        ("\"True\"", true),
        ("\"true\"", true),
        ("false", false),
        ("\"False\"", false),
        ("\"\"", false),
        ("null", false),
    ] {
        let read = row(&format!(
            r#"{{"IPV4":"192.0.2.1","NAT":{written},"ProxyServer":{written}}}"#
        ));
        assert_eq!(
            (read.flags.nat, read.flags.proxy_server),
            (meant, meant),
            "{written}"
        );
    }
    assert!(!row(r#"{"IPV4":"192.0.2.1"}"#).flags.nat);
    for bad in ["\"yes\"", "1", "[]"] {
        let json = format!(r#"{{"IPV4":"192.0.2.1","NAT":{bad}}}"#);
        assert_eq!(problem(&json).field.as_deref(), Some("NAT"));
    }
}

#[test]
fn ports_are_text_or_numbers_and_8088_where_there_is_none() {
    for (member, port) in [
        (r#","ServerPort":"8099""#, 8099),
        (r#","ServerPort":8099"#, 8099),
        (r#","port no":"8099""#, 8099),
        (r#","serverport":8099"#, 8099),
        (r#","ServerPort":"""#, 8088),
        (r#","ServerPort":null"#, 8088),
        ("", 8088),
    ] {
        let row = row(&format!(r#"{{"IPV4":"192.0.2.1"{member}}}"#));
        assert_eq!(row.place.port().get(), port, "{member}");
    }
}

#[test]
fn a_bad_port_costs_its_row_only() {
    for bad in [
        "\"0\"",
        "\"70000\"",
        "\"-1\"",
        "\"80x\"",
        "-1",
        "80.5",
        "true",
        "[]",
    ] {
        let rows = [
            r#"{"IPV4":"192.0.2.1"}"#.to_owned(),
            format!(r#"{{"IPV4":"192.0.2.2","ServerPort":{bad}}}"#),
            r#"{"IPV4":"192.0.2.3"}"#.to_owned(),
        ];
        let text = table(&rows.each_ref().map(String::as_str));
        let IpTableError::Rows(report) = error(&text, STRICT) else {
            panic!("{bad} was not noticed");
        };
        let said = report.to_string();
        let expected = "line 3, column 34: row 2, ServerPort: ";
        assert!(said.starts_with(expected), "{said}");
        assert!(
            said.ends_with("is no port; ports are numbers from 1 to 65535"),
            "{said}"
        );
        let document = read(text.as_bytes(), SKIP_BAD).unwrap();
        assert_eq!(places(&document), ["192.0.2.1:8088", "192.0.2.3:8088"]);
        assert_eq!(document.report.problems, report.problems);
    }
}

#[test]
fn base64_is_decoded_only_in_tables_that_have_it() {
    let custom = |rest: &str, custom: &str| {
        let json =
            format!(r#"{{"IPV4":"192.0.2.1","NAT":"False","CustomInformation":{custom}{rest}}}"#);
        row(&json).carried.custom_information
    };
    assert_eq!(custom("", "\"Zm9yIHlvdQ==\""), "for you");
    assert_eq!(custom("", "null"), "");
    assert_eq!(custom("", "\"plain words\""), "plain words");
    // Valid base64 of bytes that are no text.
    assert_eq!(custom("", "\"gpugpugp\""), "gpugpugp");
    let newer = r#","BareMetalSSHPort":"""#;
    assert_eq!(custom(newer, "\"Zm9yIHlvdQ==\""), "Zm9yIHlvdQ==");
    let boolean = r#"{"IPV4":"192.0.2.1","NAT":true,"CustomInformation":"Zm9yIHlvdQ=="}"#;
    assert_eq!(row(boolean).carried.custom_information, "Zm9yIHlvdQ==");
}

#[test]
fn figures_that_are_none_are_unknown_and_said() {
    let read = |figure: &str, options| {
        let json = format!(r#"{{"ipv4":"192.0.2.1","serverport":"1","latency":{figure}}}"#);
        let document = read(table(&[&json]).as_bytes(), options).unwrap();
        (latency_ms(&document.rows[0]), document.report.note_count)
    };
    assert_eq!(read("0", STRICT), (None, 0));
    assert_eq!(read("null", STRICT), (None, 0));
    assert_eq!(read("\"5\"", STRICT), (Some(5.0), 0));
    assert_eq!(read("3.5", STRICT), (None, 1));
    assert_eq!(read("3.5", LENIENT), (Some(3.5), 0));
    assert_eq!(read("1e3", LENIENT), (Some(1000.0), 0));
    for bad in [
        "-5",
        "9223372036854775808",
        "\"NaN\"",
        "\"inf\"",
        "1e999",
        "true",
        "{}",
    ] {
        assert_eq!(read(bad, LENIENT), (None, 1), "{bad}");
    }
    let speeds = r#"{"ipv4":"192.0.2.1","download":-1,"upload":"fast"}"#;
    assert_eq!(row(speeds).download_mbps(), None);
    assert_eq!(notes(speeds).len(), 2);
    assert!(
        notes(speeds)[1].ends_with("upload: \"fast\" is no speed in Mbit/s, which is unknown then")
    );
}

#[test]
fn host_names_are_addresses_and_bad_addresses_are_not() {
    let local = r#"{"ipv4":"localhost","latency":14981051,"download":1,"upload":1}"#;
    assert_eq!(row(local).place.to_string(), "localhost:8088");
    for bad in [
        "010.0.0.1",
        "host.7",
        "<ipv4 address>",
        "1.2.3.4:80",
        "\\u001b[31m",
    ] {
        let found = problem(&format!(r#"{{"ipv4":"{bad}"}}"#));
        assert_eq!(found.field.as_deref(), Some("ipv4"));
        let said = found.to_string();
        assert!(
            said.ends_with("is neither an IP address nor a host name"),
            "{said}"
        );
        assert!(!said.chars().any(char::is_control), "{said:?}");
    }
}

#[test]
fn a_row_without_address_is_bad() {
    for json in [
        "{}",
        r#"{"ipv4":"","ipv6":""}"#,
        r#"{"IPV6":null,"Name":"n"}"#,
    ] {
        assert_eq!(problem(json).fault, Fault::NoAddress);
    }
}

#[test]
fn one_machine_is_one_row_and_the_first_one_counts() {
    let text = table(&[
        r#"{"ipv4":"192.0.2.1","serverport":"1","Name":"first"}"#,
        r#"{"ipv4":"192.0.2.9"}"#,
        r#"{"ipv4":"192.0.2.1","serverport":"2"}"#,
        r#"{"ipv6":"::ffff:192.0.2.1","serverport":1,"Name":"second","latency":14981051}"#,
        r#"{"ipv4":"192.0.2.9","ipv6":"2001:0db8:0:0:0:0:0:1"}"#,
        r#"{"ipv6":"2001:db8::1"}"#,
        r#"{"ipv6":"2001:db8::1","serverport":"2"}"#,
    ]);
    let document = strict(&text);
    assert_eq!(
        places(&document),
        [
            "192.0.2.1:1",
            "192.0.2.9:8088",
            "192.0.2.1:2",
            "[2001:db8::1]:2"
        ]
    );
    assert_eq!(document.report.merged, 3);
    assert_eq!(document.rows[0].name, "first");
    assert_eq!(latency_ms(&document.rows[0]), Some(14.981_051));
    let second = document.rows[1].other.as_ref().unwrap();
    assert_eq!(second.to_string(), "2001:db8::1");
}

#[test]
fn custom_information_stays_with_its_machine() {
    let text = table(&[
        r#"{"IPV4":"192.0.2.1","NAT":true,"CustomInformation":"x"}"#,
        r#"{"IPV4":"192.0.2.2","NAT":true,"CustomInformation":"y"}"#,
    ]);
    let rows = strict(&text).rows;
    let custom: Vec<_> = rows
        .iter()
        .map(|r| r.carried.custom_information.as_str())
        .collect();
    assert_eq!(custom, ["x", "y"]);
}
