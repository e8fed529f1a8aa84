//! Where log lines go (stderr, always) and how they look.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, LogFormat, Notice};

/// Opens the log. `default` is the filter where nothing was configured.
pub(crate) fn open(config: &Config, default: &str) {
    let configured = config
        .set
        .log_level
        .as_ref()
        .map(|filter| filter.0.as_str());
    // Configured filters were checked when they were read, and the defaults are ours.
    let filter = EnvFilter::try_new(configured.unwrap_or(default)).unwrap_or_default();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(super::output::colours(io::stderr().is_terminal()));
    // A second subscriber can only be a test's; the first stays.
    let _ = match config.set.log_format.unwrap_or_default() {
        LogFormat::Text if is_journal() => lines.event_format(Journal::new()).try_init(),
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Keeps what redb prints about a damaged file out of stderr: the store catches those panics and
/// says what they mean. Every other panic is a bug, and shown.
pub(crate) fn expect_damage() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", |at| at.file());
        if place.contains("/redb-") {
            tracing::debug!("{panic}");
        } else {
            shown(panic);
        }
    }));
}

/// Says what the configuration could not do or did in an unexpected way.
pub(crate) fn tell(notices: &[Notice]) {
    for notice in notices {
        match notice {
            Notice::Info(text) => tracing::info!("{text}"),
            Notice::Warn(text) => tracing::warn!("{text}"),
        }
    }
}

/// Whether stderr is the journal's own stream (systemd.exec(5), `JOURNAL_STREAM`); the variable
/// alone is inherited by everything that the service starts.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr().as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines for the journal: it has its own clock and reads the priority from the line's start
/// (sd-daemon(3)).
struct Journal(Format<Full, ()>);

impl Journal {
    fn new() -> Self {
        Self(Format::default().without_time().with_level(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}
