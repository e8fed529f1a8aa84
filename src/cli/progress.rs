//! A bar on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::fail::Failure;

/// How far something is; nothing where that is not wanted.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar behind `doing`, where it is `shown`.
    pub(crate) fn new(doing: &str, shown: bool) -> Result<Self, Failure> {
        let template = format!("{doing} {{bar:30}} {{pos}}/{{len}}  {{elapsed}}");
        let style = ProgressStyle::with_template(&template);
        let style = style.map_err(|error| Failure::failed("internal", error.to_string()))?;
        let target = match shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Ok(Self(bar.with_style(style)))
    }

    /// There are so many.
    pub(crate) fn start(&self, count: usize) {
        self.0.set_length(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// One more is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }

    /// All are done: nothing is left of it.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
