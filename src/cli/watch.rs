//! Commands that go on until somebody ends them, or the daemon stops. Each line of the daemon's
//! stream is shown when it comes; nothing here looks again by itself.

use std::io::{self, IsTerminal};

use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use warren::api::client::Lines;
use warren::api::shapes::{State, Update};

use super::fail::Failure;
use super::output::{Output, Table};
use super::redraw::Redraw;
use super::signals::Signals;

/// Changes that are taken in before the table is drawn again.
const MAX_AT_ONCE: usize = 1_000;

/// What a table shows of the state, kept up to date.
pub(crate) trait Watched {
    /// Takes in what holds now.
    fn take(&mut self, state: State);
    /// As it is now.
    fn table(&self) -> Table;
}

/// Prints each line: as it is for a program, else as `describe` has it.
pub(crate) async fn lines(
    mut lines: Lines,
    describe: impl Fn(&str) -> String,
    output: Output,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    loop {
        let line = tokio::select! {
            _ = signals.next() => return Ok(()),
            line = lines.next() => line?.ok_or_else(daemon_stopped)?,
        };
        match output.json {
            true => output.line(line)?,
            false => output.line(describe(&line))?,
        }
    }
}

/// Shows the state: on a terminal as a table that is drawn again when something has changed, else
/// as the lines of the stream.
pub(crate) async fn state(
    stream: Lines,
    mut watched: impl Watched,
    output: Output,
) -> Result<(), Failure> {
    if output.json || !io::stdout().is_terminal() {
        return lines(stream, str::to_owned, output).await;
    }
    let mut stream = stream;
    let mut signals = Signals::new()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut place = Redraw::default();
    take(&mut watched, stream.next_as().await?)?;
    loop {
        // What came together is drawn together.
        for _ in 0..MAX_AT_ONCE {
            let Some(update) = stream.next_as().now_or_never() else {
                break;
            };
            take(&mut watched, update?)?;
        }
        place.draw(&watched.table().render(true))?;
        tokio::select! {
            _ = signals.next() => return Ok(()),
            _ = resized.recv() => {}
            update = stream.next_as() => take(&mut watched, update?)?,
        }
    }
}

fn take(watched: &mut impl Watched, update: Option<Update>) -> Result<(), Failure> {
    watched.take(update.ok_or_else(daemon_stopped)?.state);
    Ok(())
}

/// A stream has no end of its own.
pub(crate) fn daemon_stopped() -> Failure {
    Failure::failed("stopped", "the daemon stopped")
}
