//! What `--json` prints keeps to `schema/iptable.schema.json` and `schema/probe.schema.json`, and has nothing beyond.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| load("iptable.schema.json"));
static PROBE: LazyLock<Validator> = LazyLock::new(|| load("probe.schema.json"));

fn load(name: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schema")
        .join(name);
    let mut schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    close(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

pub(crate) fn assert_iptable(document: &Value) {
    assert_valid(&SCHEMA, document);
}

/// A line of `iptable probe --json`.
pub(crate) fn assert_probe(line: &Value) {
    assert_valid(&PROBE, line);
}

fn assert_valid(schema: &Validator, document: &Value) {
    let errors: Vec<_> = schema.iter_errors(document).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

/// Fields may be added, but each must be in the schema by the time it is in the code.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            let is_object = object.get("type") == Some(&json!("object"));
            if is_object && object.get("properties").is_some_and(Value::is_object) {
                object.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
