//! Where log lines go (stderr, always) and how they look.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

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
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
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
