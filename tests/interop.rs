//! Other implementations agree: the scripts in `tests/interop/` share no code with this crate.

use std::path::Path;
use std::process::{Command, Output};

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
