//! LocalAI's files, files that are broken on purpose, and the way there and back.

use proptest::prelude::*;

use super::*;
use crate::mesh::keys::Secret;
use crate::mesh::networks::{
    ClusterKind, MAX_CLUSTER_BYTES, MAX_NAME_BYTES, Network, Networks, NewNetwork,
};
use crate::mesh::token::Token;

/// Written by LocalAI.
const SAMPLE: &str = include_str!("../../../tests/fixtures/explorer.json");
const STRICT: Options = Options { skip_bad: false };
const SKIP_BAD: Options = Options { skip_bad: true };

/// The token of the sample.
fn localai() -> &'static str {
    SAMPLE.split('"').nth(1).unwrap()
}

fn native(n: u8) -> String {
    let token = Token::new(Secret::new([n; 32]), 9_000, 360).unwrap();
    token.to_text().to_string()
}

fn strict(text: &str) -> Document {
    read(text.as_bytes(), STRICT).unwrap_or_else(|error| panic!("{error}\nin {text}"))
}

fn error(text: &str) -> String {
    let error = read(text.as_bytes(), STRICT).expect_err(text);
    error.to_string()
}

/// The row of an entry, without the cost of a secret.
fn row(entry: Entry) -> Network {
    let token = match entry.token {
        TokenText::Native(token) => token,
        TokenText::LocalAi(token) => Token::from_localai(token, Secret::new([7; 32])),
    };
    let new = NewNetwork {
        name: entry.name,
        description: entry.description,
        clusters: entry.clusters,
        failures: entry.failures,
        ..NewNetwork::new(token)
    };
    Network::clone(&Networks::default().add(new, 0).unwrap().1)
}

fn written(document: Document) -> String {
    let mut out = Vec::new();
    let rows: Vec<Network> = document.entries.into_iter().map(row).collect();
    write(&mut out, &rows, &document.strange).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_file_of_localai_comes_back_byte_for_byte() {
    let document = strict(SAMPLE);
    let [garage] = document.entries.as_slice() else {
        panic!("it has one network")
    };
    assert_eq!(garage.name, "garage");
    let clusters = garage.clusters.as_ref().unwrap();
    assert_eq!(clusters[0].kind, ClusterKind::Federated);
    assert_eq!(clusters[0].workers, ["atlas-AbCdEfGhIj", "rhea-KlMnOpQrSt"]);
    assert_eq!(clusters[1].network_id, "gpu");
    assert_eq!(
        document.report,
        Report {
            rows: 1,
            ..Report::default()
        }
    );
    assert_eq!(written(document), SAMPLE);
}

#[test]
fn what_go_escapes_is_escaped_and_null_stays_null() {
    let (first, second) = (native(1), native(2));
    let (first, second) = (first.clone().min(second.clone()), first.max(second));
    let text = format!(
        "{{\"{first}\":{{\"name\":\"\\u003cb\\u003e \\u0026 \\u2028\\b\\f\\n\\u0001\\\"ü\u{7f}\",\
         \"description\":\"\",\"Clusters\":null,\"Failures\":4294967295}},\
         \"{second}\":{{\"name\":\"\",\"description\":\"\",\"Clusters\":[],\"Failures\":0}}}}\n"
    );
    let document = strict(&text);
    assert_eq!(
        document.entries[0].name,
        "<b> & \u{2028}\u{8}\u{c}\n\u{1}\"ü\u{7f}"
    );
    assert_eq!(document.entries[0].clusters, None);
    assert_eq!(document.entries[1].clusters, Some(vec![]));
    assert_eq!(written(document), text);
}

#[test]
fn documents_without_networks_are_empty() {
    for text in ["{}", "null", " {\n}\n"] {
        assert_eq!(written(strict(text)), "{}\n", "{text:?}");
    }
}

#[test]
fn rows_are_written_by_token_and_fields_match_in_any_case() {
    let (a, b) = (native(1), native(2));
    let (a, b) = (a.clone().max(b.clone()), a.min(b));
    let text = format!("{{\"{a}\":{{\"NAME\":\"a\",\"clusters\":null}},\"{b}\":null}}");
    let document = strict(&text);
    assert_eq!(document.entries[0].name, "a");
    let out = written(document);
    let places = [out.find(&b).unwrap(), out.find(&a).unwrap()];
    assert!(places.is_sorted(), "{out}");
    assert_eq!(document_of(&out), out);
}

fn document_of(text: &str) -> String {
    written(strict(text))
}

#[test]
fn what_is_no_document_is_an_error_with_its_place() {
    for (text, said) in [
        ("", "line 1, column 1: EOF while parsing a value"),
        ("{}\nx", "line 2, column 1: trailing characters"),
        (
            "[]",
            "line 1, column 2: it is no object with a token for each key",
        ),
        (
            "{\"a\":\n{\"name\":",
            "line 2, column 8: EOF while parsing a value",
        ),
        ("{\"a\":NaN}", "line 1, column 6: expected value"),
    ] {
        assert_eq!(error(text), said, "{text:?}");
    }
    let said = read(b"{\"a\xff\":{}}", STRICT).unwrap_err().to_string();
    assert_eq!(said, "line 1, column 4: not UTF-8 text");
}

#[test]
fn bad_rows_are_named_by_their_place_and_never_by_their_token() {
    let token = localai();
    let name = "x".repeat(MAX_NAME_BYTES + 1);
    let workers = vec![format!("\"{}\"", "w".repeat(1000)); MAX_CLUSTER_BYTES / 1000 + 1];
    for (row, said) in [
        ("5".to_owned(), "5 is not an object with name and clusters"),
        ("{\"name\":5}".to_owned(), "name: 5 is not text"),
        (
            format!("{{\"name\":\"{name}\"}}"),
            "name: it is 257 bytes, at most 256 are kept",
        ),
        (
            "{\"name\":\"\\ud800\"}".to_owned(),
            "name: its escapes are no valid text",
        ),
        (
            "{\"Failures\":-1}".to_owned(),
            "Failures: -1 is not a number from 0 to 4294967295",
        ),
        (
            "{\"Failures\":1e3}".to_owned(),
            "Failures: 1e3 is not a number from 0 to 4294967295",
        ),
        (
            "{\"Clusters\":{}}".to_owned(),
            "Clusters: {} is not a list of clusters",
        ),
        (
            "{\"Clusters\":[{\"Type\":\"gpu\"}]}".to_owned(),
            "Type: \"gpu\" is not worker, mlx_worker or federated",
        ),
        (
            "{\"Clusters\":[{}]}".to_owned(),
            "Type: nothing is not worker, mlx_worker or federated",
        ),
        (
            "{\"Clusters\":[{\"Type\":\"worker\",\"Workers\":[5]}]}".to_owned(),
            "Workers: 5 is not text",
        ),
        (
            format!(
                "{{\"Clusters\":[{{\"Type\":\"worker\",\"Workers\":[{}]}}]}}",
                workers.join(",")
            ),
            "Clusters: its clusters take ",
        ),
    ] {
        let said_of = error(&format!("{{\"{token}\":{row}}}"));
        assert!(said_of.contains(said), "{said_of}");
        assert!(
            said_of.starts_with("line 1, column ") && said_of.contains(": row 1"),
            "{said_of}"
        );
        assert!(!said_of.contains("b3Rw"), "{said_of}");
    }
    // LocalAI's crash inputs, and what it stores without a look at it.
    for token in ["YTogYg==", "", "not base64", "b3RwOiB7fQ=="] {
        let said = error(&format!("{{\n \"{token}\":{{\"name\":\"n\"}}}}"));
        assert!(said.starts_with("line 2, column 2: row 1: "), "{said}");
    }
}

#[test]
fn bad_rows_can_be_left_out_and_are_kept_as_they_are() {
    let good = native(1);
    let text = format!("{{\"YTogYg==\": {{\"name\": 1}}, \"{good}\":{{}}, \"zzz\":[]}}");
    let error = read(text.as_bytes(), STRICT).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("2 bad rows\nline 1, column 2: row 1: "),
        "{error}"
    );
    let document = read(text.as_bytes(), SKIP_BAD).unwrap();
    assert_eq!(document.entries.len(), 1);
    assert_eq!(document.report.problem_count, 2);
    assert_eq!(document.strange.len(), 2);
    let out = written(document);
    assert!(
        out.starts_with("{\"YTogYg==\":{\"name\": 1},\"warren1"),
        "{out}"
    );
    assert!(out.ends_with(",\"zzz\":[]}\n"), "{out}");
}

#[test]
fn another_spelling_of_a_token_is_the_same_network() {
    let (token, upper) = (native(1), native(1).to_uppercase());
    let text = format!("{{\"{token}\":{{\"name\":\"a\"}},\n\"{upper}\":{{\"name\":\"b\"}}}}");
    let document = strict(&text);
    assert_eq!(document.entries.len(), 1);
    assert_eq!(document.entries[0].name, "a");
    assert_eq!(document.report.merged, 1);
    let note = document.report.notes[0].to_string();
    let said = "line 2, column 1: row 2: its network is there before, as row 1, which counts";
    assert_eq!(note, said);

    // The same YAML with a comment, in other base64.
    let yaml = data_encoding::BASE64.decode(localai().as_bytes()).unwrap();
    let other = data_encoding::BASE64.encode(&[b"# mine\n", yaml.as_slice()].concat());
    let text = format!("{{\"{}\":{{}},\"{other}\":{{}}}}", localai());
    assert_eq!(strict(&text).report.merged, 1);
}

#[test]
fn what_localai_does_not_write_is_noted() {
    let token = native(1);
    let text = format!(
        "{{\"{token}\":{{\"name\":\"a\",\"Name\":\"b\",\"x\":[[[]]],\
         \"Clusters\":[{{\"Type\":\"worker\",\"y\":1}}]}}}}"
    );
    let document = strict(&text);
    assert_eq!(document.entries[0].name, "b");
    let notes = document.report.notes.iter().map(Problem::to_string);
    let notes: Vec<String> = notes.collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0].ends_with(", Name: it is there twice, the last one counts"),
        "{notes:?}"
    );
    assert!(
        notes[1].ends_with(", x: there is no such field, and it is left out"),
        "{notes:?}"
    );
}

#[test]
fn nesting_costs_no_stack_and_length_no_memory() {
    let deep = "[".repeat(1_000_000);
    for text in [
        deep.clone(),
        format!("{{\"x\":{deep}"),
        format!("{{\"x\":{{\"name\":{deep}"),
    ] {
        assert!(read(text.as_bytes(), SKIP_BAD).is_err());
    }
    let long = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert!(matches!(
        read(&long, STRICT),
        Err(ExplorerError::TooLong { .. })
    ));
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let kind = prop::sample::select(ClusterKind::ALL.to_vec());
    let workers = prop::collection::vec(any::<String>(), 0..4);
    (kind, any::<String>(), workers).prop_map(|(kind, network_id, workers)| Cluster {
        kind,
        network_id,
        workers,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_written_reads_as_what_it_was(
        rows in prop::collection::btree_map(1u8.., (any::<String>(), any::<u32>(),
            prop::option::of(prop::collection::vec(cluster(), 0..3))), 0..4)
    ) {
        let rows: Vec<Network> = rows.into_iter().map(|(n, (name, failures, clusters))| {
            let token = Token::new(Secret::new([n; 32]), 9_000, 360).unwrap();
            let new = NewNetwork { name: name.chars().take(60).collect(), description: name.chars().take(900).collect(), failures, clusters, ..NewNetwork::new(token) };
            Network::clone(&Networks::default().add(new, 0).unwrap().1)
        }).collect();
        let mut text = Vec::new();
        write(&mut text, &rows, &[]).unwrap();
        let read = read(&text, STRICT).unwrap();
        prop_assert_eq!(read.report.note_count, 0);
        let mut again: Vec<Network> = read.entries.into_iter().map(row).collect();
        again.sort_by_key(|row| row.key);
        let mut rows = rows;
        rows.sort_by_key(|row| row.key);
        prop_assert_eq!(again, rows);
    }

    #[test]
    fn no_bytes_are_too_strange(text in "\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = read(text.as_bytes(), SKIP_BAD);
        let _ = read(&bytes, SKIP_BAD);
        let _ = read(format!("{{\"{}\":{text}}}", native(1)).as_bytes(), SKIP_BAD);
    }
}
