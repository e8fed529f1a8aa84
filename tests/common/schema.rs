//! Documents against `schema/`: what they are, and that they have nothing beyond it.

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

/// What checks documents against `schema/NAME.schema.json`.
pub(crate) fn validator(name: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{name}.schema.json"));
    let mut schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    close(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

/// Fails unless `value` is what the schema `name` says.
pub(crate) fn assert_valid(validator: &Validator, name: &str, value: &Value) {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
}

/// The contract lets fields be added, but each must be in the schema by the time it is in the code.
pub(crate) fn close(schema: &mut Value) {
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
