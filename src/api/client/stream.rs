//! Answers that go on: one JSON object per line, empty lines in between that only show that the
//! daemon is alive.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ClientError;
use super::transport::Connection;
use crate::api::shapes::{HoldLine, RoleInfo};

/// Longest line: a ledger value in which every byte is escaped, and what surrounds it.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Lines as they come. Dropping it ends the stream at the daemon.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    _connection: Connection,
}

impl Lines {
    pub(super) fn new(body: Incoming, connection: Connection) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            _connection: connection,
        }
    }

    /// The next line, without its end; `None` once the daemon has ended the stream, which it does
    /// when it stops. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the daemon died, [`ClientError::Protocol`] for an endless line.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => return Err(ClientError::Lost),
                None => return Ok(None),
            }
        }
    }

    /// The next line, read as `T`.
    ///
    /// # Errors
    /// As [`Lines::next`], and [`ClientError::Protocol`] if the line is no `T`.
    pub async fn next_as<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        match self.next().await? {
            Some(line) => parse(line.as_bytes()).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the first line, which says that nothing will be missed from here on.
    pub(super) async fn watching(mut self) -> Result<Self, ClientError> {
        self.next().await?.ok_or(ClientError::Lost)?;
        Ok(self)
    }

    /// The first line in the buffer that says something.
    fn take_line(&mut self) -> Result<Option<String>, ClientError> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if !line.is_empty() {
                let line = String::from_utf8(line.into()).map_err(|_| ClientError::Protocol {
                    what: "a line is not text".into(),
                })?;
                return Ok(Some(line));
            }
        }
        if self.buffer.len() > MAX_LINE_BYTES {
            return Err(ClientError::Protocol {
                what: format!("a line is longer than {MAX_LINE_BYTES} bytes"),
            });
        }
        Ok(None)
    }
}

/// A long answer as it comes. Dropping it ends it at the daemon.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    _connection: Connection,
}

impl Download {
    pub(super) fn new(body: Incoming, connection: Connection) -> Self {
        Self {
            body,
            _connection: connection,
        }
    }

    /// The next bytes; `None` at the end of the whole answer.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the daemon died before that.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
                Some(Err(_)) => return Err(ClientError::Lost),
                None => return Ok(None),
            }
        }
    }
}

/// A role that lives as long as this value. Drop it to take the role away.
#[derive(Debug)]
pub struct HeldRole {
    info: RoleInfo,
    lines: Lines,
}

/// Why a held role ended before it was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// Somebody removed it, for example with `role rm`.
    Removed,
    /// The daemon stops.
    Stopping,
}

impl HeldRole {
    pub(super) async fn start(mut lines: Lines) -> Result<Self, ClientError> {
        let info = lines.next_as().await?.ok_or(ClientError::Lost)?;
        Ok(Self { info, lines })
    }

    /// The role as it was taken; an ingress says where it listens.
    pub fn info(&self) -> &RoleInfo {
        &self.info
    }

    /// Waits until the role ends without our doing.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the daemon died.
    pub async fn ended(&mut self) -> Result<HoldEnd, ClientError> {
        match self.lines.next_as().await? {
            Some(HoldLine::Removed) => Ok(HoldEnd::Removed),
            Some(HoldLine::Stopping) | None => Ok(HoldEnd::Stopping),
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(|error| ClientError::Protocol {
        what: error.to_string(),
    })
}
