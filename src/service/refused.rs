//! Why a service was not exposed, or a stream not served.

use std::io;
use std::time::Duration;

use crate::mesh::addr::HostPort;
use crate::mesh::name::Bucket;
use crate::mesh::stream::{HeaderError, Refusal};

/// How long a stream's header may take.
pub const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// Why a service was not exposed. Nothing was registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExposeError {
    /// The server did not accept a connection.
    #[error("{target} does not accept connections: {cause}")]
    Unreachable {
        /// The server.
        target: HostPort,
        /// What the system said.
        cause: io::Error,
    },
    /// A UDP server shall be told of its clients, which the protocol has no way for.
    #[error("the PROXY protocol is for TCP: a datagram has no place for its header")]
    NoHeader,
    /// The service is exposed already.
    #[error("{bucket} is already exposed here, to {target}")]
    Taken {
        /// The service.
        bucket: Bucket,
        /// Its server.
        target: HostPort,
    },
}

/// Why a stream was not served.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Its header was not understood; the stream was reset.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its header did not come, or not in time; the stream was reset.
    #[error("no header came within {HEADER_LIMIT:?}")]
    NoHeader,
    /// It was refused, and the peer was told.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// [`Exposes::abort`](super::expose::Exposes::abort) ended it.
    #[error("the node stops")]
    Aborted,
}
