//! JSON with places: what the readers of users' documents share. Nothing here recurses, and no
//! excerpt in an error is long or acts upon a terminal.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest excerpt of a document in an error, in characters.
const MAX_SHOWN_CHARS: usize = 40;

/// A place in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Finds lines and columns. Fast for places that come in about the order of the text.
pub(super) struct Locator<'t> {
    text: &'t str,
    /// Start of a line that was found before, and its number.
    line_start: usize,
    line: usize,
}

impl<'t> Locator<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            line_start: 0,
            line: 1,
        }
    }

    /// The place of the byte at `offset`; of a byte within a character, that character's.
    pub(super) fn locate(&mut self, offset: usize) -> Position {
        if offset < self.line_start {
            (self.line_start, self.line) = (0, 1);
        }
        let bytes = self.text.as_bytes();
        let passed = bytes.get(self.line_start..offset).unwrap_or_default();
        if let Some(last) = passed.iter().rposition(|b| *b == b'\n') {
            self.line += passed.iter().filter(|b| **b == b'\n').count();
            self.line_start += last + 1;
        }
        let line = bytes.get(self.line_start..offset).unwrap_or_default();
        // Every byte that does not continue a character begins one.
        let begun = line.iter().filter(|b| (**b & 0xC0) != 0x80).count();
        Position {
            line: self.line,
            column: begun + 1,
        }
    }
}

/// A document as text, or where it stops being UTF-8.
pub(super) fn text_of(document: &[u8]) -> Result<&str, Position> {
    std::str::from_utf8(document).map_err(|error| {
        let (good, _) = document.split_at(error.valid_up_to());
        let good = std::str::from_utf8(good).unwrap_or_default();
        Locator::new(good).locate(good.len())
    })
}

/// The byte at a line and column as serde_json counts them: from 1, in bytes, and column 0 for
/// the end of the line before.
pub(super) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
    let start = match line.checked_sub(2) {
        None => 0,
        Some(nth) => ends.map(|(at, _)| at + 1).nth(nth).unwrap_or(text.len()),
    };
    (start + column.saturating_sub(1)).min(text.len())
}

/// Where `part`, a part of `text`, starts in it.
pub(super) fn offset_in(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// Longest message of serde_json that is repeated, in characters: it may hold a whole text of the
/// document, escaped.
const MAX_SAID_CHARS: usize = 160;

/// What serde_json says, without its own words for the place.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let cut = said.rfind(" at line ").unwrap_or(said.len());
    let said = said.get(..cut).unwrap_or(&said);
    said.chars().take(MAX_SAID_CHARS).collect()
}

/// An excerpt for people: one line, short, without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// A text as JSON. Quotes, backslashes and the usual white space are escaped as ever; every other
/// character, control characters too, is left to `push`.
pub(super) fn quoted(text: &str, push: impl Fn(&mut String, char)) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => push(&mut quoted, c),
        }
    }
    quoted.push('"');
    quoted
}

/// A character of the first plane, by its number.
pub(super) fn push_escape(out: &mut String, c: char) {
    // Writing to a string does not fail.
    let _ = write!(out, "\\u{:04x}", u32::from(c));
}

/// An object's members, each value with its text.
pub(super) struct Members<'r>(pub(super) Vec<(Cow<'r, str>, &'r RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(Collect)
    }
}

/// A key, borrowed unless it has escapes: a bare `Cow` would always be copied.
#[derive(serde::Deserialize)]
pub(super) struct Key<'r>(#[serde(borrow)] pub(super) Cow<'r, str>);
