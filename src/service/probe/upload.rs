//! The file of an upload: a multipart form that ends after a number of bytes or a time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::time::Instant;

use super::http::Body;
use crate::clock;
use crate::mesh::measure::Limits;

/// What stands around the one file of a form.
pub(super) struct Form {
    boundary: String,
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
}

impl Form {
    pub(super) fn new() -> Self {
        let boundary = format!("warren-{:032x}", rand::random::<u128>());
        // A name of ours and no path: P2PRC tells its servers the whole path of its file.
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"warren.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        Self {
            boundary,
            head: head.into_bytes(),
            tail: tail.into_bytes(),
        }
    }

    pub(super) fn describe(&self, request: http::request::Builder) -> http::request::Builder {
        let kind = format!("multipart/form-data; boundary={}", self.boundary);
        request.header(header::CONTENT_TYPE, kind)
    }
}

/// How far an upload is.
#[derive(Clone, Default)]
pub(super) struct Uploading {
    began: Arc<OnceLock<Instant>>,
    sent: Arc<AtomicU64>,
}

enum Next {
    Head,
    File,
    Tail,
    End,
}

impl Uploading {
    /// The body of an upload of `noise`, again and again.
    pub(super) fn new(form: Form, limits: Limits, noise: Bytes) -> (Self, Body) {
        let uploading = Self::default();
        let own = uploading.clone();
        let parts = stream::unfold(Next::Head, move |next| {
            let (bytes, next) = match next {
                Next::Head => (Some(form.head.clone().into()), Next::File),
                Next::File => match own.piece(limits, &noise) {
                    Some(piece) => (Some(piece), Next::File),
                    None => (Some(form.tail.clone().into()), Next::Tail),
                },
                Next::Tail | Next::End => (None, Next::End),
            };
            std::future::ready(
                bytes.map(|bytes: Bytes| (Ok::<_, io::Error>(Frame::data(bytes)), next)),
            )
        });
        (uploading, StreamBody::new(parts).boxed_unsync())
    }

    /// The next piece of the file; `None` at its end.
    fn piece(&self, limits: Limits, noise: &Bytes) -> Option<Bytes> {
        let began = *self.began.get_or_init(clock::instant);
        let sent = self.sent.load(Ordering::Relaxed);
        if sent >= limits.bytes || began.elapsed() >= limits.time {
            return None;
        }
        let left = usize::try_from(limits.bytes - sent).unwrap_or(usize::MAX);
        let piece = noise.slice(..left.min(noise.len()));
        let more = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.sent.fetch_add(more, Ordering::Relaxed);
        Some(piece)
    }

    /// Bytes of the file handed out, and the time since the first.
    pub(super) fn so_far(&self) -> (u64, Duration) {
        let began = self.began.get().map(Instant::elapsed);
        (self.sent.load(Ordering::Relaxed), began.unwrap_or_default())
    }
}
