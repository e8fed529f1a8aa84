//! The document as text: the repair of the documented sample's faults, and JSON values that are
//! kept as they are.

use std::borrow::Cow;

use crate::formats::json;

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
    json::quoted(text, push_escaped)
}

/// Control characters of both ranges, line and paragraph ends, and what turns the direction of
/// text around.
fn push_escaped(out: &mut String, c: char) {
    let acts = c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match acts {
        true => json::push_escape(out, c),
        false => out.push(c),
    }
}
