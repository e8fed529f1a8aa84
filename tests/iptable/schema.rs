//! What `--json` prints keeps to `schema/iptable.schema.json` and `schema/probe.schema.json`, and has nothing beyond.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::closed::{assert_valid, validator};

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator("iptable"));
static PROBE: LazyLock<Validator> = LazyLock::new(|| validator("probe"));

pub(crate) fn assert_iptable(document: &Value) {
    assert_valid(&SCHEMA, "iptable", document);
}

/// A line of `iptable probe --json`.
pub(crate) fn assert_probe(line: &Value) {
    assert_valid(&PROBE, "probe", line);
}
