//! The little of YAML that tokens are written in: one document of nested mappings.
//!
//! Reads events, not a tree: nothing is built from what is not understood, and reading stops at
//! the first thing that is refused.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, StrInput};
use zeroize::Zeroizing;

/// Most events that are read. A token has about 40.
const MAX_EVENTS: usize = 512;
/// Deepest nesting that is read. A token has 3 levels.
const MAX_DEPTH: usize = 8;
/// What stands for the name of an element of a list: no field has it.
const ELEMENT: &str = "";

/// Why a document is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum YamlError {
    /// The grammar is broken here.
    #[error("no valid YAML at line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A list, a word, or nothing at all.
    #[error("not a YAML mapping with the fields of a token")]
    NotAMapping,
    /// One key twice in a mapping: readers disagree about which one counts.
    #[error("a key is there twice, at line {line}")]
    DuplicateKey {
        /// Line of the second one, from 1.
        line: usize,
    },
    /// A mapping or list used as a key, or `<<`.
    #[error("line {line} has a key that is no plain name")]
    Key {
        /// Line, from 1.
        line: usize,
    },
    /// `&name` or `*name`.
    #[error("line {line} has a YAML anchor or alias, which tokens never have")]
    Anchor {
        /// Line, from 1.
        line: usize,
    },
    /// `!name`.
    #[error("line {line} has a YAML tag, which tokens never have")]
    Tag {
        /// Line, from 1.
        line: usize,
    },
    /// Something behind the first document.
    #[error("something follows the document, at line {line}")]
    SecondDocument {
        /// Line, from 1.
        line: usize,
    },
    /// Nested deeper than any token.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More in it than in any token.
    #[error("more than {MAX_EVENTS} elements of YAML")]
    TooMuch,
}

/// What a field holds.
pub(super) enum Value {
    /// Unquoted, and not one of YAML's words for nothing.
    Plain(Zeroizing<String>),
    /// Quoted or a block: text, whatever it looks like.
    Quoted(Zeroizing<String>),
    /// Nothing: `~`, `null` or no value.
    Null,
    /// A mapping or a list.
    Collection,
}

impl Value {
    fn of_scalar(text: &str, style: ScalarStyle) -> Self {
        if style != ScalarStyle::Plain {
            return Self::Quoted(Zeroizing::new(text.to_owned()));
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            text => Self::Plain(Zeroizing::new(text.to_owned())),
        }
    }

    /// The text; nothing is empty text; `None` for collections.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Quoted(text) => Some(text),
            Self::Null => Some(""),
            Self::Collection => None,
        }
    }

    /// The number, if it is written in unquoted decimal digits without sign.
    pub(super) fn as_number(&self) -> Option<u32> {
        match self {
            Self::Plain(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Every value of a document under the names that lead to it.
pub(super) struct Fields(Vec<(Vec<String>, Value)>);

impl Fields {
    /// The value of a dotted name. A dot inside a key of the document separates nothing.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        let found = |path: &Vec<String>| path.iter().eq(field.split('.'));
        self.0.iter().find(|(path, _)| found(path)).map(|(_, v)| v)
    }
}

/// Reads one document.
pub(super) fn read(document: &str) -> Result<Fields, YamlError> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(document, options),
        left: MAX_EVENTS,
        line: 1,
        path: Vec::new(),
        fields: Fields(Vec::new()),
    };
    reader.document()?;
    Ok(reader.fields)
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    left: usize,
    /// Where the last event began.
    line: usize,
    path: Vec<String>,
    fields: Fields,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(), YamlError> {
        while matches!(self.next()?, Event::StreamStart) {}
        // That was the start of the document, or the end of an empty stream.
        let Some(root @ Event::MappingStart(..)) = self.next_unless_over()? else {
            return Err(YamlError::NotAMapping);
        };
        self.node(root)?;
        loop {
            match self.next_unless_over()? {
                None => return Ok(()),
                Some(Event::DocumentEnd | Event::StreamEnd) => {}
                Some(_) => return Err(YamlError::SecondDocument { line: self.line }),
            }
        }
    }

    /// Reads one value whose first event is `event`, with everything inside.
    fn node(&mut self, event: Event<'a>) -> Result<(), YamlError> {
        if self.path.len() > MAX_DEPTH {
            return Err(YamlError::TooDeep);
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some())?;
                self.record(Value::of_scalar(&text, style));
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some())?;
                self.record(Value::Collection);
                self.mapping()
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some())?;
                self.record(Value::Collection);
                self.sequence()
            }
            _ => Err(YamlError::Anchor { line: self.line }),
        }
    }

    fn mapping(&mut self) -> Result<(), YamlError> {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let (key, style) = match self.next()? {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(key, style, anchor, tag) => {
                    self.refuse_properties(anchor, tag.is_some())?;
                    (key.into_owned(), style)
                }
                Event::Alias(_) => return Err(YamlError::Anchor { line: self.line }),
                _ => return Err(YamlError::Key { line: self.line }),
            };
            // LocalAI's reader would merge what stands behind it into this mapping.
            if style == ScalarStyle::Plain && key == "<<" {
                return Err(YamlError::Key { line: self.line });
            }
            if seen.contains(&key) {
                return Err(YamlError::DuplicateKey { line: self.line });
            }
            seen.push(key.clone());
            self.path.push(key);
            let value = self.next()?;
            self.node(value)?;
            self.path.pop();
        }
    }

    fn sequence(&mut self) -> Result<(), YamlError> {
        self.path.push(ELEMENT.to_owned());
        loop {
            match self.next()? {
                Event::SequenceEnd => break,
                element => self.node(element)?,
            }
        }
        self.path.pop();
        Ok(())
    }

    fn record(&mut self, value: Value) {
        self.fields.0.push((self.path.clone(), value));
    }

    fn refuse_properties(&self, anchor: usize, tagged: bool) -> Result<(), YamlError> {
        match (anchor, tagged) {
            (0, false) => Ok(()),
            (0, true) => Err(YamlError::Tag { line: self.line }),
            _ => Err(YamlError::Anchor { line: self.line }),
        }
    }

    fn next(&mut self) -> Result<Event<'a>, YamlError> {
        self.next_unless_over()?.ok_or(YamlError::NotAMapping)
    }

    fn next_unless_over(&mut self) -> Result<Option<Event<'a>>, YamlError> {
        self.left = self.left.checked_sub(1).ok_or(YamlError::TooMuch)?;
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(Some(event))
            }
            Some(Err(error)) if *error.kind() == ErrorKind::RecursionLimitExceeded => {
                Err(YamlError::TooDeep)
            }
            // Only the place: what stands there may be part of a key.
            Some(Err(error)) => Err(YamlError::Syntax {
                line: error.marker().line(),
                column: error.marker().col() + 1,
            }),
        }
    }
}
