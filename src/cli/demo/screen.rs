//! What the demo shows: a table redrawn in place on a terminal, lines of what changed elsewhere.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal;
use tokio::sync::mpsc;

use crate::cli::fail::Failure;
use crate::cli::output::{Output, Table, Tone, plain};
use crate::cli::redraw::Redraw;

/// How long the thread that reads keys may take to notice the end.
const KEY_POLL: Duration = Duration::from_millis(100);

/// One node as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) node: String,
    pub(super) state: &'static str,
    pub(super) in_flight: u64,
    pub(super) served: u64,
}

/// What somebody pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Kill,
    Requests,
    Quit,
}

/// Where the demo is shown.
pub(super) enum Screen {
    /// A terminal.
    Live(Terminal),
    /// Anything else.
    Lines { output: Output, shown: Vec<Row> },
}

impl Screen {
    /// Says how to try the federated address, and takes the terminal if there is one.
    pub(super) fn open(federated: SocketAddr, output: Output) -> Result<Self, Failure> {
        let body = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
        output.line("A mesh of warren nodes runs on this machine. Try it:\n")?;
        output.line(format!(
            "  curl http://{federated}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'\n"
        ))?;
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            output.line("r sends requests, k kills a node, q ends the demo\n")?;
            return Ok(Self::Live(Terminal::take()?));
        }
        output.line("Ctrl-C or SIGTERM ends the demo and removes what it made.")?;
        Ok(Self::Lines {
            output,
            shown: Vec::new(),
        })
    }

    /// Shows the rows as they are now.
    pub(super) fn draw(&mut self, rows: &[Row], traffic: &str) -> Result<(), Failure> {
        match self {
            Self::Live(terminal) => Ok(terminal.draw(rows, traffic)?),
            Self::Lines { output, shown } => {
                for row in rows.iter().filter(|row| !shown.contains(row)) {
                    let Row {
                        node,
                        state,
                        in_flight,
                        served,
                    } = row;
                    output.line(format!(
                        "{node}: {state}, {in_flight} in flight, {served} served"
                    ))?;
                }
                *shown = rows.to_vec();
                Ok(())
            }
        }
    }

    /// The next key; never, where there is no keyboard.
    pub(super) async fn key(&mut self) -> Key {
        match self {
            Self::Live(terminal) => match terminal.keys.recv().await {
                Some(key) => key,
                None => Key::Quit,
            },
            Self::Lines { .. } => std::future::pending().await,
        }
    }
}

/// A terminal that gives us single keys. It is given back when this is dropped, also by a panic.
pub(super) struct Terminal {
    keys: mpsc::UnboundedReceiver<Key>,
    ended: Arc<AtomicBool>,
    place: Redraw,
}

impl Terminal {
    fn take() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let (tell, keys) = mpsc::unbounded_channel();
        let ended = Arc::new(AtomicBool::new(false));
        let seen_end = Arc::clone(&ended);
        std::thread::spawn(move || read_keys(&tell, &seen_end));
        Ok(Self {
            keys,
            ended,
            place: Redraw::default(),
        })
    }

    fn draw(&mut self, rows: &[Row], traffic: &str) -> io::Result<()> {
        self.place.draw(&format!("{}\n\n{traffic}", table(rows)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // A terminal that is gone needs nothing back.
        let _ = terminal::disable_raw_mode();
    }
}

fn table(rows: &[Row]) -> String {
    let tone = |row: &Row| match row.state {
        "ready" => Tone::Good,
        "starting" => Tone::Plain,
        _ => Tone::Bad,
    };
    let rows = rows.iter().map(|row| {
        vec![
            plain(&row.node),
            (row.state.to_owned(), tone(row)),
            plain(&row.in_flight),
            plain(&row.served),
        ]
    });
    let table = Table {
        header: &["node", "state", "in flight", "served"],
        rows: rows.collect(),
        empty: "",
    };
    table.render(true)
}

fn read_keys(tell: &mpsc::UnboundedSender<Key>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        match event::poll(KEY_POLL) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let Ok(Event::Key(pressed)) = event::read() else {
            continue;
        };
        let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
        let key = match pressed.code {
            KeyCode::Char('c') if control => Key::Quit,
            KeyCode::Char('q') => Key::Quit,
            KeyCode::Char('k') => Key::Kill,
            KeyCode::Char('r') => Key::Requests,
            _ => continue,
        };
        if pressed.kind == KeyEventKind::Press && tell.send(key).is_err() {
            return;
        }
    }
}
