//! Text on a terminal that is drawn anew in its place.

use std::borrow::Cow;
use std::io::{self, Write};

use crossterm::cursor::MoveToPreviousLine;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType, DisableLineWrap, EnableLineWrap, size};

/// The place where something was drawn.
#[derive(Default)]
pub(crate) struct Redraw {
    rows: u16,
}

impl Redraw {
    /// Draws `text` over what was drawn before. What the terminal has no room for is left out: the
    /// cursor could not return to its beginning.
    pub(crate) fn draw(&mut self, text: &str) -> io::Result<()> {
        let room = match size() {
            // Some terminals do not know how large they are.
            Err(_) | Ok((_, 0)) => usize::MAX,
            // The last row is for the cursor.
            Ok((_, rows)) => usize::from(rows.max(3) - 1),
        };
        let mut out = io::stdout().lock();
        if self.rows > 0 {
            queue!(out, MoveToPreviousLine(self.rows))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), DisableLineWrap)?;
        self.rows = 0;
        for line in fit(text, room) {
            // In raw mode a line feed does not return the carriage.
            write!(out, "{line}\r\n")?;
            self.rows = self.rows.saturating_add(1);
        }
        queue!(out, EnableLineWrap)?;
        out.flush()
    }
}

/// At most `room` lines; the last says how many more there are.
fn fit(text: &str, room: usize) -> Vec<Cow<'_, str>> {
    let all = text.lines().count();
    let shown = if all > room {
        room.saturating_sub(1)
    } else {
        all
    };
    let mut lines: Vec<Cow<'_, str>> = text.lines().take(shown).map(Cow::from).collect();
    if all > shown {
        lines.push(format!("… {} more", all - shown).into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted() {
        assert_eq!(fit("a\nb\nc", 3), ["a", "b", "c"]);
        assert_eq!(fit("a\nb\nc\nd", 3), ["a", "b", "… 2 more"]);
    }
}
