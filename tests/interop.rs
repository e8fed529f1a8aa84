//! Other implementations agree: the scripts in `tests/interop/` share no code with this crate.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use warren::formats::iptable::{Options, Profile, read, write};
use warren::mesh::ip_table::Row;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Says what to do where there is no interpreter: skipping would look like agreement.
fn python(script: &str, args: &[&Path]) -> Result<Output, String> {
    Command::new("python3")
        .arg(Path::new(ROOT).join("tests/interop").join(script))
        .args(args)
        .output()
        .map_err(|e| format!("python3 is needed here, install it (apt-get install python3): {e}"))
}

#[test]
fn an_independent_script_computes_the_same_keys() {
    let ran = python("keys.py", &[]).unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "keys.py disagrees:\n{said}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains(" values checked, 0 wrong"));
}

#[test]
fn the_script_notices_a_wrong_key() {
    let published = Path::new(ROOT).join("schema/vectors/keys.json");
    let vectors = std::fs::read_to_string(published).unwrap();
    let wrong = vectors.replace("5e699a139e8ac2c6", "5e699a139e8ac2c7");
    assert_ne!(
        wrong, vectors,
        "the proof to spoil is no longer in the vectors"
    );
    let spoiled = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(spoiled.path(), wrong).unwrap();
    let ran = python("keys.py", &[spoiled.path()]).unwrap();
    assert!(!ran.status.success());
    assert!(String::from_utf8_lossy(&ran.stderr).starts_with("proof: published 5e69"));
}

/// What Go's own decoder makes of a table, one line for each machine. `None` without Go, which is
/// needed here only.
fn p2prc(table: &[u8], legacy: bool) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), table).unwrap();
    let mut go = Command::new("go");
    go.args(["run", "."])
        .args(legacy.then_some("-legacy"))
        .arg(file.path())
        .current_dir(Path::new(ROOT).join("tests/interop/p2prc"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local");
    let ran = match go.output() {
        Ok(ran) => ran,
        Err(error) => {
            eprintln!("skipped: P2PRC's struct was not asked, go does not run: {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "P2PRC's struct refuses it: {said}");
    Some(String::from_utf8(ran.stdout).unwrap())
}

#[test]
fn p2prcs_own_struct_reads_what_is_written() {
    let given = br#"{"ip_address":[
        {"Name":"one","IPV4":"203.0.113.7","Latency":14981051,"Download":34.5,"ServerPort":"8088",
         "NAT":true,"PublicKey":"ssh-rsa AAAA\n","CustomInformation":"a <b>","UDPServerPort":"",
         "region":{"zone":[1,2]}},
        {"IPV6":"2001:db8::7","ServerPort":9000}]}"#;
    let rows = read(given, Options::default()).unwrap().rows;
    let mut table = Vec::new();
    for (profile, flags) in [
        (Profile::Current, ["true false", "false false"]),
        (Profile::Legacy, ["True False", "False False"]),
    ] {
        table.clear();
        write(&mut table, &rows, profile).unwrap();
        let Some(said) = p2prc(&table, profile == Profile::Legacy) else {
            return;
        };
        let expected = format!(
            "\"one\" \"203.0.113.7\" \"\" \"8088\" 14981051 34.5 0 \"ssh-rsa AAAA\\n\" {} \"a <b>\"\n\
             \"\" \"\" \"2001:db8::7\" \"9000\" 10000000000000 0 0 \"\" {} \"\"\n",
            flags[0], flags[1]
        );
        assert_eq!(said, expected, "{profile:?}");
    }
    table.clear();
    write(&mut table, [] as [Row; 0], Profile::Current).unwrap();
    assert_eq!(p2prc(&table, false).unwrap_or_default(), "");
}
