//! P2PRC's `config.json`, of which one thing is read: where its IP table is. Flags that were text
//! in one generation and booleans in the next are none of it, so every generation is read.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest file that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1024 * 1024;

/// Why no table is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Longer than [`MAX_CONFIG_BYTES`].
    #[error("it is {len} bytes, at most {MAX_CONFIG_BYTES} are read")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
    /// No JSON object, or `IPTable` is no text.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What was expected or found.
        what: String,
    },
    /// It does not say.
    #[error("it has no text \"IPTable\", so it names no table")]
    NoTable,
}

/// The path of the IP table that a configuration names, as it stands there. Names of fields match
/// in any case and the last of equal ones counts, as for P2PRC.
///
/// # Errors
/// [`ConfigError`].
pub fn table_path(config: &[u8]) -> Result<String, ConfigError> {
    if config.len() > MAX_CONFIG_BYTES {
        let len = config.len();
        return Err(ConfigError::TooLong { len });
    }
    let TablePath(path) = serde_json::from_slice(config).map_err(|error| {
        let text = error.to_string();
        let end = format!(" at line {} column {}", error.line(), error.column());
        ConfigError::Syntax {
            line: error.line(),
            column: error.column(),
            what: text.strip_suffix(&end).unwrap_or(&text).to_owned(),
        }
    })?;
    path.filter(|path| !path.is_empty() && !path.contains('\0'))
        .ok_or(ConfigError::NoTable)
}

struct TablePath(Option<String>);

impl<'de> Deserialize<'de> for TablePath {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = TablePath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TablePath, A::Error> {
        let mut path = None;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key.eq_ignore_ascii_case("IPTable") {
                let told = map.next_value::<Option<String>>();
                // serde would repeat what stands there, escape sequences and all.
                path = told.map_err(|_| A::Error::custom("IPTable is not a text"))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(TablePath(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Case 43.
    #[test]
    fn configurations_with_flags_as_text_and_as_booleans_both_load() {
        for config in [
            r#"{"MachineName":"a","IPTable":"/p/ip_table.json","BehindNAT":"True","FRPServerPort":"True"}"#,
            r#"{"IPTable":"/p/ip_table.json","BehindNAT":true,"CustomConfig":{"a":[1]},"Test":false}"#,
            r#"{"IPTable":"/old","iptable":"/p/ip_table.json"}"#,
        ] {
            assert_eq!(
                table_path(config.as_bytes()).as_deref(),
                Ok("/p/ip_table.json")
            );
        }
    }

    // Case 43.
    #[test]
    fn a_malformed_configuration_names_the_position() {
        let error = table_path(b"{\n \"IPTable\": \"/p\",\n}")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "line 3, column 1: trailing comma");
        let error = table_path(b"{\"IPTable\": 5}").unwrap_err().to_string();
        assert!(
            error.starts_with("line 1, column 14: IPTable is not a text"),
            "{error}"
        );
        for none in ["{}", "{\"IPTable\":null}", "{\"IPTable\":\"\"}"] {
            assert_eq!(table_path(none.as_bytes()), Err(ConfigError::NoTable));
        }
        assert!(table_path(b"[]").is_err() && table_path(b"").is_err());
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(table_path(deep.as_bytes()).is_err());
        assert!(table_path(&vec![b' '; MAX_CONFIG_BYTES + 1]).is_err());
    }
}
