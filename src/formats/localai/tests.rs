use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

const FIXTURE: &str = include_str!("../../../tests/fixtures/localai-token.txt");

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

fn read(document: &str) -> Result<LocalAiToken, LocalAiError> {
    LocalAiToken::parse(&BASE64.encode(document.as_bytes()))
}

fn refusal(document: &str) -> LocalAiError {
    read(document).expect_err("accepted")
}

fn with(old: &str, new: &str) -> Result<LocalAiToken, LocalAiError> {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    read(&GOOD.replace(old, new))
}

fn yaml_refusal(old: &str, new: &str) -> YamlError {
    match with(old, new) {
        Err(LocalAiError::Yaml(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_that_edgevpn_made_is_read() {
    let token = LocalAiToken::parse(FIXTURE).unwrap();
    assert_eq!(token.text(), FIXTURE.trim());
    assert_eq!(token.crypto_interval().seconds(), 360);
    assert_eq!(token.discovery_interval().seconds(), 360);
    assert_eq!(&**token.room, "NpsAgbHjUDp12JUy8QdRX6VFyXV44L04yFpkVz9i37R");
    assert_eq!(&**token.mdns, "BYRE1q4qYitxe8HcPmyCvUsdcsPMPDK2leecZPBVPuT");
}

#[test]
fn what_localai_reads_is_read() {
    let material = read(GOOD).unwrap().key_material();
    for (old, new) in [
        (
            "room: rrrrrrrrrrrrrrrrrrrr",
            "room: \"rrrrrrrrrrrrrrrrrrrr\"",
        ),
        ("room: ", "unknown: [1, {a: ~}]\nroom: "),
        ("max_message_size: 20971520\n", ""),
        ("otp:\n", "---\n# a comment\notp:\n"),
        (
            "max_message_size: 20971520",
            "max_message_size: 1 # small\n...\n",
        ),
        // A dotted key of the document is an unknown key, not a way into the tree.
        ("otp:\n", "otp.crypto.key: short\notp:\n"),
    ] {
        let same = with(old, new).unwrap();
        assert_eq!(same.key_material(), material, "{new}");
    }
    let flow = "{otp: {dht: {interval: 1, key: '', length: 1}, crypto: {interval: 2592000, \
                key: 'ää 34567890123456', length: 44}}, room: 1234567890123456}";
    let token = read(flow).unwrap();
    assert_eq!(token.crypto_interval().seconds(), 2_592_000);
    assert_eq!(&**token.room, "1234567890123456");
    assert_eq!(&**token.mdns, "");
}

#[test]
fn numbers_out_of_bounds_name_their_field_and_bounds() {
    for (field, line, values) in [
        ("otp.dht.interval", "interval: 360", ["0", "2592001", "-1"]),
        (
            "otp.crypto.interval",
            "interval: 9000",
            ["0", "99999999999999999999", "1.5"],
        ),
        (
            "otp.crypto.interval",
            "interval: 9000",
            ["\"9000\"", "0x10", "[1]"],
        ),
        ("otp.crypto.interval", "interval: 9000", ["", "~", "1_000"]),
    ] {
        for value in values {
            let error = with(line, &format!("interval: {value}")).unwrap_err();
            let (min, max) = (1, 2_592_000);
            assert_eq!(error, LocalAiError::Number { field, min, max }, "{value}");
        }
    }
    for value in ["0", "45", "400"] {
        let document = GOOD.replace("length: 43\nroom", &format!("length: {value}\nroom"));
        assert_eq!(
            refusal(&document).to_string(),
            "otp.crypto.length must be a number from 1 to 44"
        );
    }
    assert!(with("20971520", "lots").is_err());
}

#[test]
fn secrets_that_can_be_guessed_are_refused() {
    for (old, field) in [
        ("cccccccccccccccccccc", "otp.crypto.key"),
        ("rrrrrrrrrrrrrrrrrrrr", "room"),
    ] {
        assert!(with(old, &"k".repeat(16)).is_ok());
        let error = with(old, &"k".repeat(15)).unwrap_err();
        assert_eq!(error, LocalAiError::Weak { field, len: 15 });
        let error = with(old, "~").unwrap_err();
        assert_eq!(error, LocalAiError::Weak { field, len: 0 });
    }
    let field = "rendezvous";
    let long = "v".repeat(MAX_TEXT_BYTES + 1);
    let error = with("vvvvvvvvvvvvvvvvvvvv", &long).unwrap_err();
    assert_eq!(error, LocalAiError::TooLong { field, len: 1_025 });
    let error = with("vvvvvvvvvvvvvvvvvvvv", "{a: b}").unwrap_err();
    assert_eq!(error, LocalAiError::NotText { field });
}

#[test]
fn ways_to_say_a_thing_twice_are_refused_by_name() {
    use YamlError as E;
    assert_eq!(
        yaml_refusal("room: ", "room: a\nroom: "),
        E::DuplicateKey { line: 11 }
    );
    assert_eq!(
        yaml_refusal("mdns: ", "u: {a: 1, a: 2}\nmdns: "),
        E::DuplicateKey { line: 12 }
    );
    assert_eq!(yaml_refusal("room: ", "room: &a "), E::Anchor { line: 10 });
    assert_eq!(
        yaml_refusal("mdns: ", "u: &a [x]\nmdns: "),
        E::Anchor { line: 12 }
    );
    assert_eq!(yaml_refusal("room: ", "room: !!str "), E::Tag { line: 10 });
    assert_eq!(
        yaml_refusal("mdns: ", "u: !x {}\nmdns: "),
        E::Tag { line: 12 }
    );
    assert_eq!(yaml_refusal("mdns: ", "!!str mdns: "), E::Tag { line: 12 });
    assert_eq!(
        yaml_refusal("mdns: ", "<<: {room: x}\nmdns: "),
        E::Key { line: 12 }
    );
    assert_eq!(
        yaml_refusal("mdns: ", "? [a]\n: b\nmdns: "),
        E::Key { line: 12 }
    );
    let last = "max_message_size: 20971520\n";
    assert_eq!(
        yaml_refusal(last, "---\na: b\n"),
        E::SecondDocument { line: 13 }
    );
    assert!(matches!(
        yaml_refusal(last, "...\ngarbage"),
        E::SecondDocument { .. }
    ));
    for garbage in [
        "]\n",
        "garbage\n",
        "...\n]",
        "\t- x: *\n",
        "u: *nobody\n",
        "%TAG ! x\n",
        "u: \"\\",
    ] {
        with(last, garbage).unwrap_err();
    }
    assert!(matches!(
        yaml_refusal("otp:\n", "%YAML 1.2\n---\notp:\n"),
        E::Syntax { .. }
    ));
}

#[test]
fn what_is_no_mapping_is_no_token() {
    for document in [
        "",
        "   ",
        "# only a comment",
        "word",
        "[a, b]",
        "- otp\n",
        "\"x\"",
        "~",
        "---\n",
    ] {
        assert_eq!(
            refusal(document),
            LocalAiError::Yaml(YamlError::NotAMapping),
            "{document:?}"
        );
    }
    assert!(matches!(
        refusal("{}"),
        LocalAiError::Weak { .. } | LocalAiError::Number { .. }
    ));
    assert!(matches!(refusal("{"), LocalAiError::Yaml(_)));
}

#[test]
fn bombs_are_cut_short() {
    let deep = format!("u: {}{}", "[".repeat(4_000), "]".repeat(4_000));
    assert_eq!(refusal(&deep), LocalAiError::Yaml(YamlError::TooDeep));
    let deep: String = (0..100).map(|i| format!("{}u:\n", " ".repeat(i))).collect();
    assert_eq!(refusal(&deep), LocalAiError::Yaml(YamlError::TooDeep));
    let wide = format!("u: [{}]", "a,".repeat(4_000));
    assert_eq!(refusal(&wide), LocalAiError::Yaml(YamlError::TooMuch));
    let laughs = "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n";
    assert_eq!(
        refusal(laughs),
        LocalAiError::Yaml(YamlError::Anchor { line: 1 })
    );
    let comments = "#\n".repeat(6_000);
    assert_eq!(
        refusal(&comments),
        LocalAiError::Yaml(YamlError::NotAMapping)
    );
}

#[test]
fn base64_is_strict() {
    let good = BASE64.encode(GOOD.as_bytes());
    assert!(LocalAiToken::parse(&format!("\n{good} ")).is_ok());
    let unpadded = BASE64.encode(&GOOD.as_bytes()[..GOOD.len() - 1]);
    let cut = unpadded.trim_end_matches('=');
    assert_ne!(cut, unpadded);
    for wrong in [
        cut,
        &good[1..],
        "b3Rw\nOgo=",
        "b3Rw-_==",
        "b3R=",
        "b3RwOgr=",
    ] {
        assert!(LocalAiToken::parse(wrong).is_err(), "{wrong}");
    }
    let bytes = BASE64.encode(b"otp: \xff\xfe");
    assert_eq!(LocalAiToken::parse(&bytes).unwrap_err(), LocalAiError::Utf8);
}

#[test]
fn where_a_field_ends_matters() {
    let rendezvous_and_mdns = |a: &str, b: &str| {
        let document = GOOD
            .replace("vvvvvvvvvvvvvvvvvvvv", a)
            .replace("mmmmmmmmmmmmmmmmmmmm", b);
        read(&document).unwrap().key_material()
    };
    assert_ne!(
        rendezvous_and_mdns("ab", "c"),
        rendezvous_and_mdns("a", "bc")
    );
    assert_ne!(
        rendezvous_and_mdns("ab", "''"),
        rendezvous_and_mdns("''", "ab")
    );
}

#[test]
fn every_field_is_in_the_key_material() {
    let good = read(GOOD).unwrap().key_material();
    for (old, new) in [
        ("interval: 360", "interval: 361"),
        ("interval: 9000", "interval: 9001"),
        ("length: 43\n  crypto", "length: 42\n  crypto"),
        ("length: 43\nroom", "length: 42\nroom"),
        ("dddddddddddddddddddd", "e"),
        ("cccccccccccccccccccc", "eeeeeeeeeeeeeeeee"),
        ("rrrrrrrrrrrrrrrrrrrr", "eeeeeeeeeeeeeeeee"),
        ("vvvvvvvvvvvvvvvvvvvv", "e"),
        ("mmmmmmmmmmmmmmmmmmmm", "e"),
    ] {
        assert_ne!(with(old, new).unwrap().key_material(), good, "{old}");
    }
}

/// What LocalAI makes of a code is its MD5 in hex; `tests/interop/keys.py` checks that far.
#[test]
fn codes_are_localais() {
    let key = "a".repeat(43);
    let code =
        |interval, length, unix_s| code(&key, Interval::new(interval).unwrap(), length, unix_s);
    let first = "RSZ4KhdqlQNfK5EkmhZrgoJyKsHhdoumTt/kPA//FHE";
    assert_eq!(code(360, 43, 0).unwrap().as_str(), first);
    assert_eq!(code(360, 43, 359).unwrap().as_str(), first);
    assert_eq!(code(360, 44, 0).unwrap().as_str(), format!("{first}="));
    assert_eq!(code(360, 5, 0).unwrap().as_str(), "RSZ4K");
    for length in [0, 45, 400, u32::MAX] {
        assert!(matches!(
            code(360, length, 0),
            Err(LocalAiError::Number { .. })
        ));
    }
}

#[test]
fn errors_and_debug_show_no_secret() {
    assert_eq!(format!("{:?}", read(GOOD).unwrap()), "LocalAiToken(secret)");
    let secret = HEXLOWER.encode(&[0xab; 10]);
    for document in [
        secret.clone(),
        format!("{secret}: *{secret}"),
        format!("room: &{secret} x"),
        format!("room: !{secret} x"),
        format!("{secret}: a\n{secret}: b"),
        format!("otp: {{dht: {{interval: {secret}}}}}"),
        format!("\"\\{secret}"),
    ] {
        let error = refusal(&document);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&secret), "{shown}");
    }
}

proptest! {
    #[test]
    fn no_document_panics(document in ".*") {
        let _ = read(&document);
    }

    #[test]
    fn no_changed_document_panics(at: usize, new in "[\\PC\n\t]{0,6}") {
        let at = at % GOOD.len();
        let mut document = GOOD.to_owned();
        document.replace_range(at..=at, &new);
        let _ = read(&document);
    }

    #[test]
    fn no_yaml_like_text_panics(document in "[-a:{}\\[\\]&*!|>'\"%@`#,? \n\t]{0,200}") {
        let _ = read(&document);
    }
}
