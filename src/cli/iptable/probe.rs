//! `warren iptable probe`.

mod screen;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};

use futures_util::stream::{BoxStream, StreamExt};
use warren::api::client::Lines;
use warren::api::shapes::{ProbeDone, ProbeLine, ProbeRequest, ProbeStart};

use super::table::Table;
use crate::cli::args::ProbeArgs;
use crate::cli::fail::Failure;
use crate::cli::output::Output;
use crate::cli::progress::Bar;
use crate::config::Config;
use screen::Screen;

/// Where the lines of a probe come from.
pub(super) enum Probing {
    /// A daemon.
    Daemon(Lines),
    /// This command.
    Here(BoxStream<'static, ProbeLine>),
    /// Nobody: there is no table.
    Nothing(VecDeque<ProbeLine>),
}

impl Probing {
    /// Of a table that is not there.
    pub(super) fn nothing() -> Self {
        let start = ProbeLine::Probing(ProbeStart { machines: 0 });
        Self::Nothing([start, ProbeLine::Done(ProbeDone::default())].into())
    }

    async fn next(&mut self) -> Result<ProbeLine, Failure> {
        let line = match self {
            Self::Daemon(lines) => lines.next_as().await?,
            Self::Here(lines) => lines.next().await,
            Self::Nothing(lines) => lines.pop_front(),
        };
        // A daemon that stops ends its streams.
        let hint = "what was shown is noted; probe again for the others";
        line.ok_or_else(|| Failure::failed("stopped", "the daemon stopped").hint(hint))
    }
}

/// Probes, shows what comes of each machine, and fails if nobody could be asked.
pub(super) async fn run(args: &ProbeArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let request = ProbeRequest {
        addresses: args.addresses.iter().map(ToString::to_string).collect(),
        deadline_ms: u64::try_from(args.deadline.0.as_millis()).unwrap_or(u64::MAX),
        at_once: args.at_once,
        latency_only: args.latency_only,
    };
    // Wrong usage is said before a directory is made or a daemon asked.
    request.options()?;
    let table = Table::open_to_read(config).await?;
    let probed = async {
        let mut probing = table.probe(&request).await?;
        match output.json {
            true => program(&mut probing).await,
            false => person(&mut probing, output).await,
        }
    };
    let probed = probed.await;
    table.close().await?;
    let done = probed?;
    if done.machines > 0 && done.undecided == done.machines {
        let message = "nothing is known of any machine; the table stays as it was";
        return Err(Failure::failed("unreachable", message).hint("each line says why"));
    }
    Ok(())
}

/// Each line as it comes.
async fn program(probing: &mut Probing) -> Result<ProbeDone, Failure> {
    let bar = Bar::new(
        "probing",
        io::stderr().is_terminal() && !io::stdout().is_terminal(),
    )?;
    loop {
        let line = probing.next().await?;
        match &line {
            ProbeLine::Probing(start) => bar.start(start.machines),
            ProbeLine::Machine(_) => bar.step(),
            ProbeLine::Done(_) | ProbeLine::Error(_) => bar.clear(),
        }
        if let ProbeLine::Error(error) = line {
            return Err(error.into());
        }
        let mut text = Vec::new();
        line.write(&mut text)?;
        Output { json: true }.raw(&text)?;
        if let ProbeLine::Done(done) = line {
            return Ok(done);
        }
    }
}

/// A table: on a terminal while it grows, else when it is whole.
async fn person(probing: &mut Probing, output: Output) -> Result<ProbeDone, Failure> {
    let mut screen = Screen::new(io::stdout().is_terminal())?;
    loop {
        let line = tokio::select! {
            line = probing.next() => line,
            () = tokio::time::sleep_until(screen.due()) => {
                screen.draw()?;
                continue;
            }
        };
        match line {
            Ok(ProbeLine::Probing(start)) => screen.start(start.machines),
            Ok(ProbeLine::Machine(machine)) => screen.take(machine),
            Ok(ProbeLine::Done(done)) => {
                screen.end(output, done)?;
                return Ok(done);
            }
            Ok(ProbeLine::Error(error)) => {
                screen.clear()?;
                return Err(error.into());
            }
            Err(failure) => {
                screen.clear()?;
                return Err(failure);
            }
        }
    }
}
