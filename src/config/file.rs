//! `warren.toml`: the names of the flags, unknown keys refused by name.

use std::path::Path;

use super::{ConfigError, Layer};

/// Longest config file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a config file.
///
/// # Errors
/// Unreadable, not TOML, an unknown key, or a value that does not parse; with the file's name.
pub(crate) fn read(path: &Path) -> Result<Layer, ConfigError> {
    let unreadable = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|e| unreadable(e.to_string()))?
        .len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!(
            "it has {size} bytes, at most {MAX_FILE_BYTES} are read"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    parse(&text).map_err(unreadable)
}

fn parse(text: &str) -> Result<Layer, String> {
    // The error's own rendering quotes the line, and the line may hold the token.
    let table: toml::Table = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        format!(
            "line {line}: {}",
            e.message().lines().next().unwrap_or_default()
        )
    })?;
    let mut layer = Layer::default();
    for (key, value) in &table {
        if !Layer::KEYS.contains(&key.as_str()) {
            return Err(unknown_key(key));
        }
        let values = texts(value).ok_or_else(|| {
            format!(
                "{key} is a {}; write text, a number, true or false, or a list",
                value.type_str()
            )
        })?;
        layer
            .set(key, &values)
            .map_err(|reason| format!("{key}: {reason}"))?;
    }
    Ok(layer)
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|b| **b == b'\n').count()
}

fn unknown_key(key: &str) -> String {
    match super::nearest(key, Layer::KEYS) {
        Some(known) => format!("unknown key {key:?}; did you mean {known:?}?"),
        None => format!("unknown key {key:?}; the keys are the long flags of `warren up --help`"),
    }
}

/// A value as the texts that a flag would have been given. `{ chat = "host:1" }` is `chat=host:1`.
fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::Array(items) => items.iter().map(text).collect(),
        toml::Value::Table(pairs) => pairs
            .iter()
            .map(|(name, item)| Some(format!("{name}={}", text(item)?)))
            .collect(),
        single => Some(vec![text(single)?]),
    }
}

fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_flags() {
        let layer = parse(
            "name = 'atlas'\nlisten = [':7717', '127.0.0.1:0']\nno-mdns = true\n\
             drain-timeout = 5\nexpose = { chat = 'localhost:8000' }\n",
        )
        .unwrap();
        assert_eq!(layer.name.unwrap().as_str(), "atlas");
        assert_eq!(layer.listen.unwrap().len(), 2);
        assert_eq!(layer.no_mdns, Some(true));
        assert_eq!(layer.drain_timeout.unwrap().0.as_secs(), 5);
        assert_eq!(
            layer.expose.unwrap()[0].server.at.to_string(),
            "localhost:8000"
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        assert!(
            parse("token_file = 'x'")
                .unwrap_err()
                .contains("\"token-file\"")
        );
        assert!(parse("lisen = ':1'").unwrap_err().contains("\"listen\""));
        assert!(parse("colour = 'blue'").unwrap_err().contains("long flags"));
    }

    #[test]
    fn a_refusal_names_the_line_or_key_but_never_quotes_the_token() {
        let reason = parse("name = 'a'\ntoken = 'warren1secret\n").unwrap_err();
        assert!(
            reason.contains("line 2") && !reason.contains("secret"),
            "{reason}"
        );
        assert!(parse("name = 'a b'").unwrap_err().starts_with("name: "));
        assert!(parse("listen = [[1]]").unwrap_err().contains("list"));
    }
}
