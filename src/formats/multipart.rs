//! Forms as a stream of bytes (`multipart/form-data`, RFC 7578): fed as they come, in pieces of
//! any size, they are told as they are understood. Holds a part's head and the length of a
//! delimiter, never a file: an upload of any length is read in the same memory.
//!
//! Order of calls: [`Form::new`], then [`Form::feed`] for each piece, and [`Form::end`] at the end
//! of the body. After an error nothing more is read.

use std::fmt;

/// Longest boundary, in bytes (RFC 2046 §5.1.1).
pub const MAX_BOUNDARY_BYTES: usize = 70;
/// Longest head of one part, in bytes.
pub const MAX_PART_HEAD_BYTES: usize = 8 * 1024;
/// Most parts of a form.
pub const MAX_PARTS: usize = 16;
/// Most bytes before the first delimiter.
const MAX_PREAMBLE_BYTES: usize = 4 * 1024;

/// Why a body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The content type is another one.
    #[error("request Content-Type isn't multipart/form-data")]
    NotAForm,
    /// The content type names no boundary, or one that cannot be.
    #[error("the Content-Type names no boundary of 1 to {MAX_BOUNDARY_BYTES} characters")]
    Boundary,
    /// The first delimiter does not come.
    #[error("the body does not begin with the boundary that its Content-Type names")]
    Preamble,
    /// After a delimiter comes neither a line's end nor the end.
    #[error("a boundary is not followed by the end of its line")]
    Delimiter,
    /// A part's head does not end, or cannot be read.
    #[error("a part has no readable head of at most {MAX_PART_HEAD_BYTES} bytes")]
    Head,
    /// A part has no name.
    #[error("a part's Content-Disposition is not form-data with a name")]
    Nameless,
    /// Too many parts.
    #[error("there are more than {MAX_PARTS} parts")]
    Parts,
    /// The body ended before the form did.
    #[error("the form is cut off: its last boundary is missing")]
    CutOff,
}

/// What the bytes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part begins.
    Part(Part),
    /// Bytes of that part; never empty.
    Data(&'a [u8]),
}

/// What a part's head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the field.
    pub name: String,
    /// Name of the file without its directories; `None` if the part is no file.
    pub file: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Right behind a delimiter.
    Delimiter,
    Head,
    Data,
    Epilogue,
}

/// A form that is being read.
#[derive(Clone)]
pub struct Form {
    /// Line end, two dashes, boundary.
    delimiter: Vec<u8>,
    state: State,
    /// What was fed and is not understood yet.
    held: Vec<u8>,
    parts: usize,
    /// Bytes before the first delimiter.
    skipped: usize,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.len();
        let state = self.state;
        f.debug_struct("Form")
            .field("state", &state)
            .field("held", &held)
            .finish_non_exhaustive()
    }
}

impl Form {
    /// A form with the boundary that a `Content-Type` names.
    ///
    /// # Errors
    /// [`FormError::NotAForm`], [`FormError::Boundary`].
    pub fn new(content_type: Option<&str>) -> Result<Self, FormError> {
        let content_type = content_type.ok_or(FormError::NotAForm)?;
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(FormError::NotAForm);
        }
        let boundary = parameter(parameters, "boundary").ok_or(FormError::Boundary)?;
        let fits = (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len());
        let printable = boundary.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !fits || !printable || boundary.ends_with(' ') {
            return Err(FormError::Boundary);
        }
        Ok(Self {
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            state: State::Preamble,
            // The first delimiter may stand at the very beginning, without a line end before it.
            held: b"\r\n".to_vec(),
            parts: 0,
            skipped: 0,
        })
    }

    /// Reads on, and tells what it finds.
    ///
    /// # Errors
    /// [`FormError`]; what was told before holds.
    pub fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Piece<'_>)) -> Result<(), FormError> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut rest = held.as_slice();
        while let Some(after) = self.step(rest, &mut tell)? {
            rest = after;
        }
        self.held = rest.to_vec();
        Ok(())
    }

    /// The body is over.
    ///
    /// # Errors
    /// [`FormError::CutOff`].
    pub fn end(&self) -> Result<(), FormError> {
        match self.state {
            State::Epilogue => Ok(()),
            _ => Err(FormError::CutOff),
        }
    }

    /// Understands the beginning of `bytes`; returns what comes after it, or `None` if more is
    /// needed.
    fn step<'a>(
        &mut self,
        bytes: &'a [u8],
        tell: &mut impl FnMut(Piece<'_>),
    ) -> Result<Option<&'a [u8]>, FormError> {
        match self.state {
            State::Preamble => {
                let (before, after) = self.until_delimiter(bytes);
                self.skipped = self.skipped.saturating_add(before.len());
                if self.skipped > MAX_PREAMBLE_BYTES {
                    return Err(FormError::Preamble);
                }
                Ok(self.passed(before, after, bytes))
            }
            State::Data => {
                let (before, after) = self.until_delimiter(bytes);
                if !before.is_empty() {
                    tell(Piece::Data(before));
                }
                Ok(self.passed(before, after, bytes))
            }
            State::Delimiter => self.delimiter_end(bytes),
            State::Head => self.head(bytes, tell),
            // What comes after a form means nothing, and is not kept.
            State::Epilogue => Ok((!bytes.is_empty()).then_some(&[])),
        }
    }

    /// What certainly stands before the next delimiter, and what comes behind it if it is there.
    fn until_delimiter<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        match memchr::memmem::find(bytes, &self.delimiter) {
            Some(at) => {
                let (before, from) = bytes.split_at(at);
                (before, from.get(self.delimiter.len()..))
            }
            None => {
                let begun = (1..self.delimiter.len())
                    .rev()
                    .find(|len| bytes.ends_with(self.delimiter.get(..*len).unwrap_or_default()));
                let (before, _) = bytes.split_at(bytes.len() - begun.unwrap_or(0));
                (before, None)
            }
        }
    }

    fn passed<'a>(
        &mut self,
        before: &[u8],
        after: Option<&'a [u8]>,
        bytes: &'a [u8],
    ) -> Option<&'a [u8]> {
        if after.is_some() {
            self.state = State::Delimiter;
            return after;
        }
        // The same again without what was told, unless nothing was: then more is needed.
        (!before.is_empty())
            .then(|| bytes.get(before.len()..))
            .flatten()
    }

    fn delimiter_end<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, FormError> {
        match bytes {
            [b'-', b'-', rest @ ..] => {
                self.state = State::Epilogue;
                Ok(Some(rest))
            }
            [b'\r', b'\n', ..] => {
                self.parts += 1;
                if self.parts > MAX_PARTS {
                    return Err(FormError::Parts);
                }
                self.state = State::Head;
                // The line end stays: a head without fields is only another one behind it.
                Ok(Some(bytes))
            }
            [] | [b'-' | b'\r'] => Ok(None),
            _ => Err(FormError::Delimiter),
        }
    }

    fn head<'a>(
        &mut self,
        bytes: &'a [u8],
        tell: &mut impl FnMut(Piece<'_>),
    ) -> Result<Option<&'a [u8]>, FormError> {
        let within = bytes.get(..MAX_PART_HEAD_BYTES).unwrap_or(bytes);
        let Some(end) = memchr::memmem::find(within, b"\r\n\r\n") else {
            return match within.len() < bytes.len() {
                true => Err(FormError::Head),
                false => Ok(None),
            };
        };
        let (head, rest) = bytes.split_at(end + 4);
        tell(Piece::Part(part(head)?));
        // A part without bytes ends with the line end of its head.
        self.state = State::Data;
        Ok(Some(rest))
    }
}

/// Reads a part's head.
fn part(head: &[u8]) -> Result<Part, FormError> {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition = fields
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        .map(|(_, value)| value.trim());
    let (kind, parameters) = disposition
        .and_then(|value| value.split_once(';'))
        .ok_or(FormError::Nameless)?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(FormError::Nameless);
    }
    let name = parameter(parameters, "name").ok_or(FormError::Nameless)?;
    let file = parameter(parameters, "filename").map(|path| base_name(&path));
    Ok(Part { name, file })
}

/// The last component of a path: P2PRC's clients send the whole one. Without what a terminal
/// would act on.
fn base_name(path: &str) -> String {
    let path = path.trim_end_matches(['/', '\\']);
    let base = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let printable = base.chars().filter(|c| !c.is_control());
    printable.collect()
}

/// One of `; key=value; key="value"`, where a backslash hides the meaning of what follows it.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_start_matches([';', ' ', '\t']).trim();
        let (value, tail) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, tail) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), tail)
            }
        };
        if key.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail;
    }
}

/// The text up to the closing quote, and what comes behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()? {
                (_, c @ ('"' | '\\')) => value.push(c),
                // Browsers of old sent a path of Windows as it is.
                (_, c) => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: &str = "multipart/form-data; boundary=X";

    /// Parts with their bytes, however the body is cut.
    fn read(kind: &str, body: &[u8], cut: usize) -> Result<Vec<(Part, Vec<u8>)>, FormError> {
        let mut form = Form::new(Some(kind))?;
        let mut parts: Vec<(Part, Vec<u8>)> = Vec::new();
        for bytes in body.chunks(cut.max(1)) {
            form.feed(bytes, |piece| match piece {
                Piece::Part(part) => parts.push((part, Vec::new())),
                Piece::Data(data) => parts.last_mut().unwrap().1.extend_from_slice(data),
            })?;
            assert!(form.held.len() <= MAX_PART_HEAD_BYTES + bytes.len());
        }
        form.end()?;
        Ok(parts)
    }

    fn file(name: &str, disposition: &str, body: &str) -> Vec<u8> {
        format!(
            "--X\r\nContent-Disposition: form-data; name=\"{name}\"{disposition}\r\n\
             Content-Type: application/octet-stream\r\n\r\n{body}\r\n--X--\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_form_is_read_the_same_however_it_is_cut() {
        let body = file(
            "json",
            "; filename=\"/home/ann/p2p/ip_table.json\"",
            "\r\n--\r\n-{}\r\n--Y",
        );
        for cut in 1..body.len() {
            let parts = read(KIND, &body, cut).unwrap();
            assert_eq!(parts.len(), 1);
            assert_eq!(parts[0].0.name, "json");
            assert_eq!(parts[0].0.file.as_deref(), Some("ip_table.json"));
            assert_eq!(parts[0].1, b"\r\n--\r\n-{}\r\n--Y", "cut {cut}");
        }
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        for (disposition, name) in [
            ("", None),
            ("; filename=\"a b.bin\"", Some("a b.bin")),
            ("; filename=a.bin", Some("a.bin")),
            ("; filename=\"C:\\dir\\a.bin\"", Some("a.bin")),
            ("; filename=\"q\\\"uote\"", Some("q\"uote")),
            ("; filename=\"../../etc/passwd\"", Some("passwd")),
            ("; filename=\"\u{1b}[31mred\"", Some("[31mred")),
            ("; filename=\"/\"", Some("")),
        ] {
            let parts = read(KIND, &file("file", disposition, "x"), 7).unwrap();
            assert_eq!(parts[0].0.file.as_deref(), name, "{disposition}");
        }
        let quoted = "Multipart/Form-Data; charset=utf-8; boundary=\"X\"";
        assert!(read(quoted, &file("file", "", ""), 7).is_ok());
        assert_eq!(read(KIND, b"pre\r\n--X--", 3), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for kind in [
            None,
            Some("text/plain; boundary=X"),
            Some("multipart/form-dat"),
        ] {
            assert_eq!(Form::new(kind).err(), Some(FormError::NotAForm));
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            &long,
        ] {
            assert_eq!(Form::new(Some(kind)).err(), Some(FormError::Boundary));
        }
        let head = "x".repeat(MAX_PART_HEAD_BYTES + 1);
        let many = "--X\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(17);
        for (body, error) in [
            ("", FormError::CutOff),
            ("--X", FormError::CutOff),
            (
                "--X\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--",
                FormError::CutOff,
            ),
            ("--XY\r\n", FormError::Delimiter),
            ("--X\r\nA: b\r\n\r\n", FormError::Nameless),
            ("--X\r\n\r\n", FormError::Nameless),
            ("--X\r\n\r\n\r\n", FormError::Nameless),
            (
                "--X\r\nContent-Disposition: attachment; name=a\r\n\r\n",
                FormError::Nameless,
            ),
            (&format!("--X\r\n{head}"), FormError::Head),
            (&many, FormError::Parts),
            (&"y".repeat(5_000), FormError::Preamble),
        ] {
            for cut in [1, 5, usize::MAX] {
                let shown: String = body.chars().take(60).collect();
                assert_eq!(read(KIND, body.as_bytes(), cut), Err(error), "{shown}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_mean_the_same_in_any_pieces(
            body in prop::collection::vec(prop_oneof![
                Just(b"\r\n--X".to_vec()),
                Just(b"--X\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"Content-Disposition: form-data; name=a".to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ], 0..24).prop_map(|parts| parts.concat()),
            cut in 1..40_usize,
        ) {
            prop_assert_eq!(read(KIND, &body, cut), read(KIND, &body, usize::MAX));
        }
    }
}
