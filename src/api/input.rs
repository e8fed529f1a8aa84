//! What comes with a request, bounded before it is read, and refused in our own words.

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::api::refusal::Refusal;
use crate::api::shapes::NodeError;

/// Largest body of most requests, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Largest ledger export that is taken in, in bytes: that of a full ledger, whose values stand
/// there in base64 or as JSON text, with a signature each.
pub(super) const MAX_IMPORT_BYTES: usize = 256 * 1024 * 1024;
/// How much more than its limit is read and thrown away, so that the sender, who reads only after
/// writing, gets to see the refusal instead of a broken pipe.
const MAX_DISCARD_BYTES: usize = 256 * 1024 * 1024;

/// A JSON body. An empty one is `{}`.
pub(super) struct Input<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let body = read_body(request.into_body(), MAX_BODY_BYTES).await?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        parse(text).map(Self)
    }
}

/// A body of bytes, at most [`MAX_BODY_BYTES`].
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        read_body(request.into_body(), MAX_BODY_BYTES)
            .await
            .map(Self)
    }
}

/// What stands behind the `?`.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => Err(Refusal::usage(format!(
                "in the query: {}",
                error.body_text()
            ))),
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(text).map_err(|error| Refusal::usage(format!("in the body: {error}")))
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    // In one piece where its length is said: growing, a large one would be there twice.
    let said = body.size_hint().exact().unwrap_or(0);
    let said = usize::try_from(said).unwrap_or(usize::MAX);
    let mut kept = BytesMut::with_capacity(said.min(limit));
    let mut discarded = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Refusal::usage(format!("the body broke off: {error}")))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if discarded == 0 && kept.len() + data.len() <= limit {
            kept.extend_from_slice(data);
            continue;
        }
        kept.clear();
        discarded += data.len();
        if discarded > MAX_DISCARD_BYTES {
            break;
        }
    }
    if discarded > 0 {
        let error = NodeError::new("too_large", format!("the body is over {limit} bytes"));
        return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, error));
    }
    Ok(kept.freeze())
}
