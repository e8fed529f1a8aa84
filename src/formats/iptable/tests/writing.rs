//! What is written is read as what it was, by us and by P2PRC.

use proptest::prelude::*;

use super::*;
use crate::mesh::ip_table::{Carried, Figures, Flags, Latency, Measured, Method, Source, Speed};

fn text(rows: &[Row], profile: Profile) -> String {
    let mut out = Vec::new();
    write(&mut out, rows, profile).unwrap();
    String::from_utf8(out).unwrap()
}

fn full() -> Row {
    let mut row = Row::new("192.0.2.7:8078".parse().unwrap(), Source::Imported);
    row.add_host("2001:db8::7".parse().unwrap());
    row.name = "node <1> \"\u{1b}[31m\u{9b}\"".to_owned();
    row.stated = Figures {
        latency: Latency::from_ns(14_981_051),
        download: Speed::from_mbps(34.5),
        upload: Speed::from_mbps(50.0),
    };
    row.flags = Flags {
        nat: true,
        proxy_server: false,
        unsafe_mode: true,
    };
    row.carried = Carried {
        machine_username: "ann".to_owned(),
        escape_implementation: "FRP".to_owned(),
        udp_server_port: String::new(),
        bare_metal_ssh_port: "22".to_owned(),
        public_key: "ssh-rsa AAAA\n".to_owned(),
        custom_information: "for you".to_owned(),
        kept: vec![("region".to_owned(), "{\"zone\":[1,2.50]}".to_owned())],
    };
    row
}

#[test]
fn the_current_profile_has_the_sixteen_fields_in_order() {
    assert_eq!(
        text(&[full()], Profile::Current),
        r#"{
 "ip_address": [
  {
   "Name": "node <1> \"\u001b[31m\u009b\"",
   "MachineUsername": "ann",
   "IPV4": "192.0.2.7",
   "IPV6": "2001:db8::7",
   "Latency": 14981051,
   "Download": 34.5,
   "Upload": 50,
   "ServerPort": "8078",
   "UDPServerPort": "",
   "BareMetalSSHPort": "22",
   "NAT": true,
   "EscapeImplementation": "FRP",
   "ProxyServer": false,
   "UnSafeMode": true,
   "PublicKey": "ssh-rsa AAAA\n",
   "CustomInformation": "for you",
   "region": {"zone":[1,2.50]}
  }
 ]
}
"#
    );
    assert_eq!(text(&[], Profile::Current), "{\n \"ip_address\": []\n}\n");
}

#[test]
fn the_legacy_profile_has_texts_where_booleans_came_later() {
    let legacy = text(&[full()], Profile::Legacy);
    for line in [
        r#""NAT": "True","#,
        r#""ProxyServer": "False","#,
        r#""UnSafeMode": true,"#,
        r#""Latency": 14981051,"#,
    ] {
        assert!(legacy.contains(line), "{line} is not in\n{legacy}");
    }
    assert!(!legacy.contains("UDPServerPort"));
    assert_eq!(strict(&legacy).variant, Some(Variant::V12));
}

#[test]
fn the_documented_profile_is_what_the_document_says_without_its_faults() {
    let mut six = Row::new("[2001:db8::7]:1".parse().unwrap(), Source::Imported);
    six.stated.latency = Latency::from_ms(12.5);
    assert_eq!(
        text(&[six], Profile::Documented),
        r#"{
 "ip_address": [
  {
   "ipv4": "2001:db8::7",
   "latency": "12.5",
   "download": "0",
   "upload": "0",
   "port no": "1"
  }
 ]
}
"#
    );
}

#[test]
fn an_unknown_latency_is_never_a_low_number() {
    let row = Row::new("192.0.2.7:1".parse().unwrap(), Source::Imported);
    let rows = [row];
    assert!(text(&rows, Profile::Current).contains(r#""Latency": 10000000000000,"#));
    assert!(text(&rows, Profile::Documented).contains(r#""latency": "10000000","#));
    for profile in [Profile::Current, Profile::Legacy, Profile::Documented] {
        assert_eq!(strict(&text(&rows, profile)).rows, rows);
    }
}

#[test]
fn own_round_trips_leave_as_half_in_nanoseconds() {
    let mut row = full();
    row.measured = Some(Measured {
        at_ms: 1,
        method: Method::P2prc,
        least: Latency::from_ms(40.0),
        median: Latency::from_ms(41.0),
        download: None,
        upload: None,
    });
    let current = text(&[row], Profile::Current);
    assert!(current.contains(r#""Latency": 20000000,"#), "{current}");
    assert!(current.contains(r#""Download": 34.5,"#), "{current}");
}

#[test]
fn unknown_fields_come_back_in_one_form() {
    let json = "{\"ipv4\":\"192.0.2.1\",\"serverport\":\"1\",\"proxyport\":\"7000\",\n\
        \"x y\": { \"a\" : [ 1e400 , \"\u{9b}\u{85} \\\" \" ] } }";
    let rows = [row(json)];
    let kept = &rows[0].carried.kept;
    assert_eq!(kept[0], ("proxyport".to_owned(), "\"7000\"".to_owned()));
    assert_eq!(kept[1].1, r#"{"a":[1e400,"\u009b\u0085 \" "]}"#);
    for profile in [Profile::Current, Profile::Legacy] {
        assert_eq!(strict(&text(&rows, profile)).rows, rows);
    }
}

fn any_host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| std::net::IpAddr::from(ip).into()),
        any::<[u8; 16]>().prop_map(|ip| std::net::IpAddr::from(ip).into()),
        "[a-z][a-z0-9-]{0,8}[a-z](\\.[a-z]{2})?".prop_map(|name| name.parse().unwrap()),
        "fe80::[1-9](%[a-z0-9]{1,5})?".prop_map(|v6| v6.parse().unwrap()),
    ]
}

fn any_kept() -> impl Strategy<Value = Vec<(String, String)>> {
    let json = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| text::quoted(&text)),
        "[a-z]{0,3}".prop_map(|key| format!("{{\"{key}\":[null,{{}},1.50]}}")),
    ];
    prop::collection::btree_map("x\\PC{0,4}", json, 0..3)
        .prop_map(|kept| kept.into_iter().collect())
}

prop_compose! {
    fn any_row()(
        hosts in (any_host(), prop::option::of(any_host())),
        port in 1_u16..,
        texts in prop::array::uniform7(any::<String>()),
        flags in any::<[bool; 3]>(),
        latency in prop::option::of(1..Latency::UNKNOWN_NS),
        speeds in prop::array::uniform2(prop::option::of(0.001_f64..1e9)),
        kept in any_kept(),
    ) -> Row {
        let place = Place::new(hosts.0, std::num::NonZeroU16::new(port).unwrap());
        let mut row = Row::new(place, Source::Imported);
        if let Some(second) = hosts.1 {
            row.add_host(second);
        }
        let [name, user, escape, udp, ssh, key, custom] = texts;
        row.name = name;
        row.stated = Figures {
            latency: latency.and_then(Latency::from_ns),
            download: speeds[0].and_then(Speed::from_mbps),
            upload: speeds[1].and_then(Speed::from_mbps),
        };
        row.flags = Flags { nat: flags[0], proxy_server: flags[1], unsafe_mode: flags[2] };
        row.carried = Carried {
            machine_username: user,
            escape_implementation: escape,
            udp_server_port: udp,
            bare_metal_ssh_port: ssh,
            public_key: key,
            custom_information: custom,
            kept,
        };
        row
    }
}

proptest! {
    #[test]
    fn import_export_import_is_the_identity(rows in prop::collection::vec(any_row(), 0..6)) {
        let first = strict(&text(&rows, Profile::Current)).rows;
        for profile in [Profile::Current, Profile::Legacy] {
            let written = text(&first, profile);
            let again = strict(&written);
            prop_assert_eq!(&again.rows, &first);
            prop_assert_eq!(again.report.note_count, 0);
            prop_assert_eq!(text(&again.rows, profile), written);
        }
    }

    #[test]
    fn the_documented_profile_keeps_what_it_can_say(rows in prop::collection::vec(any_row(), 0..6)) {
        let once = strict(&text(&rows, Profile::Documented)).rows;
        let written = text(&once, Profile::Documented);
        prop_assert_eq!(&strict(&written).rows, &once);
    }

    #[test]
    fn no_text_ends_the_reader(text in "\\PC{0,200}", lenient: bool, skip_bad: bool) {
        let _ = read(text.as_bytes(), Options { lenient, skip_bad });
    }

    /// Leniency changes nothing of what is read strictly.
    #[test]
    fn valid_documents_need_no_repair(rows in prop::collection::vec(any_row(), 0..4)) {
        let written = text(&rows, Profile::Current);
        prop_assert_eq!(text::repair(&written).text, written.as_str());
    }
}
