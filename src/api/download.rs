//! Answers that are too large to be in memory as a whole: written by a thread as fast as they are
//! read.

use std::io::{self, BufWriter, Write};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use tokio::sync::mpsc;

use crate::api::serve::Chunk;

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for the reader.
const MAX_CHUNKS: usize = 4;

/// A JSON document that `write` writes. It hears of a reader that went away as a broken pipe.
pub(super) fn json<F>(write: F) -> Response
where
    F: FnOnce(&mut BufWriter<Chunks>) -> io::Result<()> + Send + 'static,
{
    let (chunks, waiting) = mpsc::channel(MAX_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, Chunks(chunks));
        // Without a reader there is nobody to tell.
        let _ = write(&mut out).and_then(|()| out.flush());
    });
    let body = stream::unfold(waiting, async |mut waiting| {
        let bytes: Bytes = waiting.recv().await?;
        Some((Chunk::Ok(bytes), waiting))
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, Body::from_stream(body)).into_response()
}

/// Hands on what is written.
pub(super) struct Chunks(mpsc::Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        match self.0.blocking_send(chunk) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
