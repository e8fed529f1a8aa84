//! How a command fails: what happened, what to do, and the exit code.

use std::io;

use warren::ClientError;
use warren::api::shapes::{ErrorDocument, NodeError};
use warren::mesh::token::TokenError;

use crate::config::ConfigError;

/// Exit code of a command that did not do what it was asked.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code of a command that was called wrongly.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Why a command ends without having done what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads our output any more. That is how `| head` ends, and no error.
    OutputClosed,
    /// Something to say, and how to exit.
    Error { exit: u8, error: NodeError },
}

impl Failure {
    /// A failure that is not a matter of usage.
    pub(crate) fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::Error {
            exit: EXIT_FAILED,
            error: NodeError::new(code, message),
        }
    }

    /// The command was called wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Error {
            exit: EXIT_USAGE,
            error: NodeError::new("usage", message),
        }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Error { error, .. } = &mut self {
            error.hint = Some(hint.into());
        }
        self
    }

    /// Says which file it is about.
    pub(crate) fn about(mut self, file: &str) -> Self {
        if let Self::Error { error, .. } = &mut self
            && matches!(error.code.as_str(), "usage" | "io" | "refused")
        {
            error.message = format!("{file}: {}", error.message);
        }
        self
    }

    /// Tells the user, and returns the exit code.
    pub(crate) fn report(self, json: bool) -> u8 {
        let Self::Error { exit, error } = self else {
            return 0;
        };
        // A reader that is gone cannot be told; the exit code still can.
        let _ = match json {
            true => write_json(&ErrorDocument { error }),
            false => write_text(&error),
        };
        exit
    }
}

fn write_text(error: &NodeError) -> io::Result<()> {
    use io::Write;
    let mut err = io::stderr().lock();
    writeln!(err, "error: {}", error.message)?;
    match &error.hint {
        Some(hint) => writeln!(err, "hint: {hint}"),
        None => Ok(()),
    }
}

fn write_json(document: &ErrorDocument) -> io::Result<()> {
    use io::Write;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, document)?;
    writeln!(out)?;
    out.flush()
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::failed("io", error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let exit = match error.code.as_str() {
            "usage" | "no_token" => EXIT_USAGE,
            _ => EXIT_FAILED,
        };
        Self::Error { exit, error }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Error {
            exit: error.exit_code(),
            error: error.to_node_error(),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::usage(error.to_string()).hint(match error {
            TokenError::LocalAi(_) => {
                "copy LocalAI's token as it printed it, or make one of warren's with `warren token new`"
            }
            _ => "copy the whole line that `warren token show` prints on a machine of the network",
        })
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::usage(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
