//! Why a daemon did not do what it was asked.

use std::path::PathBuf;
use std::time::Duration;

use crate::api::shapes::NodeError;

/// Why a request to a daemon failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens on the admin socket; nothing was asked.
    #[error("no daemon answers on {}: {reason}", socket.display())]
    NoDaemon {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A daemon listens but says nothing. It may still do what it was asked.
    #[error("the daemon on {} did not answer within {} s", socket.display(), after.as_secs())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// We may not talk to this daemon; nothing was asked.
    #[error("not allowed to use the daemon on {}: {reason}", socket.display())]
    Denied {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The daemon refused. The error is its own.
    #[error(transparent)]
    Refused(#[from] NodeError),
    /// The daemon went away in the middle of its answer. It may have done what it was asked.
    #[error("the daemon went away before its answer was complete")]
    Lost,
    /// What came back is not what this version understands.
    #[error("the daemon's answer makes no sense: {what}")]
    Protocol {
        /// What is wrong with it.
        what: String,
    },
}

impl ClientError {
    /// Exit code of a command that fails with this: 3 no daemon reachable, 2 wrong usage, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoDaemon { .. } | Self::Silent { .. } => 3,
            Self::Refused(error) if error.code == "usage" => 2,
            _ => 1,
        }
    }

    /// The same as the error document of `--json` has it. Codes of its own: `no_daemon`,
    /// `denied`, `lost`, `protocol`.
    pub fn to_node_error(&self) -> NodeError {
        let own = |code: &str, hint: &str| {
            let error = NodeError::new(code, self.to_string());
            error.with_hint(hint)
        };
        match self {
            Self::Refused(error) => error.clone(),
            Self::NoDaemon { .. } => own(
                "no_daemon",
                "start one with `warren up`, or point --data-dir at the one that runs",
            ),
            Self::Silent { .. } => own("no_daemon", "see whether the process is stopped or stuck"),
            Self::Denied { .. } => own("denied", "run this as the daemon's user, or as root"),
            Self::Lost => own(
                "lost",
                "see the daemon's log; `warren status` tells what holds",
            ),
            Self::Protocol { .. } => own("protocol", "daemon and command may differ in version"),
        }
    }
}
