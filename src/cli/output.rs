//! What goes to stdout: text and tables for people, one JSON document for programs. Logs,
//! progress and prompts never come here.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement};
use serde::Serialize;

use super::fail::Failure;

/// How a cell is meant, shown as a colour where colours are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Faint,
    Plain,
}

/// Whether stdout shows colours: a terminal that was not asked for plain text (no-color.org).
pub(crate) fn colours(stream_is_terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream_is_terminal && !refused
}

/// Standard output of one command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether a program reads.
    pub(crate) json: bool,
}

impl Output {
    /// One line of text.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", text.as_ref())?;
        Ok(out.flush()?)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// One JSON document on one line.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, document)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }

    /// A table.
    pub(crate) fn table(&self, table: Table) -> Result<(), Failure> {
        self.line(table.render(io::stdout().is_terminal()))
    }
}

/// What a table shows.
pub(crate) struct Table {
    pub(crate) header: &'static [&'static str],
    pub(crate) rows: Vec<Vec<(String, Tone)>>,
    /// Said instead of a table without rows.
    pub(crate) empty: &'static str,
}

impl Table {
    /// As text, without a trailing line end. Columns are apart by spaces only, so that it can be
    /// cut and grepped.
    pub(crate) fn render(self, terminal: bool) -> String {
        match self.rows.is_empty() {
            true => self.empty.to_owned(),
            false => render(self.header, self.rows, terminal),
        }
    }
}

fn render(header: &[&str], rows: Vec<Vec<(String, Tone)>>, terminal: bool) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    match colours(terminal) {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    table.set_header(header.iter().map(|title| Cell::new(title.to_uppercase())));
    for row in rows {
        table.add_row(
            row.into_iter()
                .map(|(text, tone)| paint(Cell::new(clean(&text)), tone)),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn paint(cell: Cell, tone: Tone) -> Cell {
    match tone {
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Faint => cell.fg(Color::DarkGrey),
        Tone::Plain => cell,
    }
}

/// Values come from other members: escape sequences in them must not reach the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Text without meaning beyond itself.
pub(crate) fn plain<T: ToString + ?Sized>(text: &T) -> (String, Tone) {
    (text.to_string(), Tone::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_off_a_terminal_is_plain_text() {
        let rows = vec![vec![plain("atlas"), ("gone".to_owned(), Tone::Bad)]];
        let text = render(&["name", "state"], rows, false);
        assert_eq!(text, "NAME   STATE\natlas  gone");
    }

    #[test]
    fn escape_sequences_of_others_are_not_shown() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
