//! Files that are no tables, and tables that are made to hurt.

use super::*;
use crate::mesh::ip_table::{MAX_KEPT, MAX_TEXT_BYTES};

#[test]
fn empty_tables_are_empty() {
    for text in [
        r#"{"ip_address":null}"#,
        r#"{"ip_address":[]}"#,
        "{}",
        r#"{"IP_Address":[]}"#,
    ] {
        let document = strict(text);
        assert!(document.rows.is_empty(), "{text}");
        assert_eq!(document.report, Report::default());
    }
}

#[test]
fn what_is_no_table_is_an_error_with_its_place() {
    for (text, said) in [
        ("", "line 1, column 1: EOF while parsing a value"),
        ("\u{feff}{}", "line 1, column 1: expected value"),
        (
            "{\"ip_address\":[\n{\"ipv4\":",
            "line 2, column 8: EOF while parsing a value",
        ),
        ("{}\nx", "line 2, column 1: trailing characters"),
        (
            "[]",
            "line 1, column 1: invalid type: sequence, expected an object with the list \"ip_address\"",
        ),
        (
            r#"{"ip_address":5}"#,
            "line 1, column 15: invalid type: integer `5`, expected a list of rows",
        ),
        (
            r#"{"networks":[]}"#,
            "it has no list \"ip_address\", so it is no IP table",
        ),
        (
            r#"{"ip_address":[],"ip_address":[]}"#,
            "\"ip_address\" is there twice",
        ),
        (
            "{\"ip_address\":[{\"ipv4\":NaN}]}",
            "line 1, column 24: expected value",
        ),
        (
            "{\"ip_address\":[{\"a\":\"\u{1}\"}]}",
            "line 1, column 21: control character (\\u0000-\\u001F) found while parsing a string",
        ),
    ] {
        assert_eq!(error(text, STRICT).to_string(), said, "{text:?}");
    }
    let bytes = b"{\"ip_address\":\n[{\"ipv4\":\"\xff\"}]}";
    let said = read(bytes, STRICT).unwrap_err().to_string();
    assert_eq!(said, "line 2, column 11: not UTF-8 text");
}

#[test]
fn elements_that_are_no_rows_are_left_out_and_said() {
    let text = table(&["null", "5", "-1.5", r#"{"ipv4":"192.0.2.1"}"#]);
    let document = strict(&text);
    assert_eq!(places(&document), ["192.0.2.1:8088"]);
    let notes: Vec<_> = document
        .report
        .notes
        .iter()
        .map(Problem::to_string)
        .collect();
    assert_eq!(
        notes[1],
        "line 3, column 1: row 2: 5 is no row and was left out"
    );
    assert_eq!(notes.len(), 3);
    for bad in ["\"192.0.2.1\"", "[]", "true"] {
        assert!(matches!(problem(bad).fault, Fault::Type { .. }));
    }
}

#[test]
fn columns_count_characters() {
    let text = "{\"ip_address\": [\n{\"Name\": \"ääää\", \"ipv4\": \"1.1\"}]}";
    let place = error(text, STRICT).position();
    assert_eq!(
        place,
        Some(Position {
            line: 2,
            column: 26
        })
    );
}

#[test]
fn nesting_costs_neither_stack_nor_the_table() {
    let deep = "[".repeat(1_000_000);
    for text in [
        deep.clone(),
        format!("{{\"x\":{deep}"),
        format!("{{\"ip_address\":{deep}"),
        format!("{{\"ip_address\":[{{\"x\":{deep}"),
    ] {
        for options in [STRICT, LENIENT] {
            assert!(read(text.as_bytes(), options).is_err());
        }
    }
    let nested = |depth: usize| {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"ipv4":"192.0.2.1","x":{value}}}"#)
    };
    assert_eq!(row(&nested(16)).carried.kept.len(), 1);
    assert_eq!(problem(&nested(17)).fault, Fault::Deep { max: 16 });
    let long = nested(1_000_000);
    assert!(matches!(problem(&long).fault, Fault::LongRow { .. }));
}

#[test]
fn lengths_and_counts_are_bounded() {
    let name = |len: usize| format!(r#"{{"ipv4":"192.0.2.1","Name":"{}"}}"#, "x".repeat(len));
    assert_eq!(row(&name(MAX_TEXT_BYTES)).name.len(), MAX_TEXT_BYTES);
    assert!(matches!(
        problem(&name(MAX_TEXT_BYTES + 1)).fault,
        Fault::LongText { .. }
    ));
    assert!(matches!(
        problem(&name(1_000_000)).fault,
        Fault::LongRow { .. }
    ));
    let fields = |count: usize| {
        let many: String = (0..count).map(|n| format!(r#","f{n}":{n}"#)).collect();
        format!(r#"{{"ipv4":"192.0.2.1"{many}}}"#)
    };
    assert_eq!(row(&fields(MAX_KEPT)).carried.kept.len(), MAX_KEPT);
    assert_eq!(problem(&fields(MAX_KEPT + 1)).fault, Fault::ManyFields);
    let long_key = format!(r#"{{"ipv4":"192.0.2.1","{}":1}}"#, "k".repeat(257));
    assert_eq!(problem(&long_key).fault, Fault::LongKey);
    let nulls = vec!["null"; MAX_ROWS + 1];
    assert!(matches!(
        error(&table(&nulls), STRICT),
        IpTableError::TooManyRows(_)
    ));
}

#[test]
fn reports_are_bounded_and_count_everything() {
    let bad = vec![r#"{"ipv4":"1.1","Name":null}"#; 1000];
    let IpTableError::Rows(report) = error(&table(&bad), STRICT) else {
        panic!("rows are bad");
    };
    assert_eq!(
        (report.problem_count, report.problems.len()),
        (1000, MAX_REPORTED)
    );
    assert!(report.to_string().ends_with("and 900 more"));
    let odd = vec!["null"; 1000];
    let report = strict(&table(&odd)).report;
    assert_eq!(
        (report.note_count, report.notes.len()),
        (1000, MAX_REPORTED)
    );
}

#[test]
fn a_long_text_in_the_wrong_place_is_not_repeated() {
    let text = format!(r#"{{"ip_address":"\u001b{}"}}"#, "x".repeat(1_000_000));
    let said = error(&text, STRICT).to_string();
    assert!(said.len() < 300 && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn nothing_of_the_document_that_moves_a_cursor_is_said() {
    for json in [
        "{\"ipv4\":\"\u{9b}31m\"}",
        "{\"ipv4\":\"192.0.2.1\",\"NAT\":\"\u{202e}x\"}",
        "{\"ipv4\":\"192.0.2.1\",\"x\u{7f}\\u001b\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}",
        "{\"ipv4\":\"192.0.2.1\",\"Name\":\"\\ud800\"}",
        "{\"ipv4\":\"192.0.2.1\",\"\\ud800\":1}",
    ] {
        let said = problem(json).to_string();
        let moves = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!said.chars().any(moves), "{said:?}");
    }
}
