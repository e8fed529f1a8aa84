//! The document as text: places in it, the repair of the documented sample's faults, and JSON
//! values that are kept as they are.

use std::borrow::Cow;
use std::fmt::Write;

use super::Position;

/// Longest excerpt of a document in an error, in characters.
const MAX_SHOWN_CHARS: usize = 40;

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

/// A text with the documented sample's faults repaired, as long as before.
pub(super) struct Repaired<'t> {
    pub(super) text: Cow<'t, str>,
    /// Whether a comma before a closing bracket was one of them.
    pub(super) trailing_comma: bool,
}

impl<'t> Repaired<'t> {
    pub(super) fn none(text: &'t str) -> Self {
        Self {
            text: Cow::Borrowed(text),
            trailing_comma: false,
        }
    }
}

/// What the last thing before a byte was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// The end of a value, or of a key: something that a comma may follow.
    Value,
    /// A comma that follows such an end, at this byte.
    Comma(usize),
    Other,
}

/// Puts a comma where white space alone is between two values, and takes one away that stands
/// before a closing bracket. Both change white space and a comma into each other, so that every
/// byte keeps its place; everything else is left for the reader to refuse.
pub(super) fn repair(text: &str) -> Repaired<'_> {
    let bytes = text.as_bytes();
    let (mut inserted, mut removed) = (Vec::new(), Vec::new());
    let mut last = Last::Other;
    // The first white space since `last`.
    let mut gap = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_whitespace() {
            gap = gap.or(Some(at));
            at += 1;
            continue;
        }
        let starts_value =
            matches!(byte, b'"' | b'{' | b'[' | b'-') || byte.is_ascii_alphanumeric();
        if starts_value && last == Last::Value {
            inserted.extend(gap);
        }
        if let (b'}' | b']', Last::Comma(comma)) = (byte, last) {
            removed.push(comma);
        }
        (last, at) = match byte {
            b'"' => (Last::Value, end_of_string(bytes, at)),
            b'}' | b']' => (Last::Value, at + 1),
            b',' if last == Last::Value => (Last::Comma(at), at + 1),
            _ if starts_value && byte != b'{' && byte != b'[' => {
                (Last::Value, end_of_word(bytes, at))
            }
            _ => (Last::Other, at + 1),
        };
        gap = None;
    }
    if inserted.is_empty() && removed.is_empty() {
        return Repaired::none(text);
    }
    let trailing_comma = !removed.is_empty();
    let mut repaired = bytes.to_vec();
    let changes = inserted.into_iter().map(|at| (at, b','));
    for (at, byte) in changes.chain(removed.into_iter().map(|at| (at, b' '))) {
        if let Some(place) = repaired.get_mut(at) {
            *place = byte;
        }
    }
    match String::from_utf8(repaired) {
        Ok(text) => Repaired {
            text: Cow::Owned(text),
            trailing_comma,
        },
        // Only ASCII was changed into ASCII.
        Err(_) => Repaired::none(text),
    }
}

/// Behind the string that starts at `at`, or the end of the text.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        match bytes.get(at) {
            None | Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

fn end_of_word(bytes: &[u8], at: usize) -> usize {
    let word = bytes
        .iter()
        .skip(at)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'));
    at + word.count().max(1)
}

/// Deepest nesting of a value that is kept.
pub(super) const MAX_DEPTH: usize = 16;

/// A valid JSON value in the form that is kept: without white space between its parts, and with
/// characters that a terminal acts upon escaped. `None` if it is nested too deeply.
pub(super) fn kept(json: &str) -> Option<String> {
    let mut kept = String::with_capacity(json.len());
    let (mut in_string, mut escaped, mut depth) = (false, false, 0_usize);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            push_escaped(&mut kept, c);
            continue;
        }
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            '"' => in_string = true,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return None;
        }
        if !c.is_ascii_whitespace() {
            kept.push(c);
        }
    }
    Some(kept)
}

/// A text as JSON, with characters that a terminal acts upon escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => push_escaped(&mut quoted, c),
        }
    }
    quoted.push('"');
    quoted
}

/// Control characters of both ranges, line and paragraph ends, and what turns the direction of
/// text around.
fn push_escaped(out: &mut String, c: char) {
    let acts = c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match acts {
        // All of them are within the first plane; writing to a string does not fail.
        true => drop(write!(out, "\\u{:04x}", u32::from(c))),
        false => out.push(c),
    }
}
