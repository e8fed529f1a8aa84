//! Answers in LocalAI's shapes, and those that say that nothing changed.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::api::refusal::{self, Refusal};

/// What LocalAI says of a path that leads nowhere.
const NOT_FOUND: &str = "Resource not found";
const NOT_FOUND_PAGE: &str =
    "<!doctype html><html lang=\"en\"><title>Not found</title><h1>Resource not found</h1>\n";

/// What is asked of a client that shall come again, in seconds.
pub(super) type RetryAfter = u64;

/// Whether somebody reads who wants HTML: LocalAI's rule for `GET /`. What curl sends by itself
/// gets JSON.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let sends_json =
        text(header::CONTENT_TYPE).is_some_and(|kind| kind.contains("application/json"));
    let accepts = text(header::ACCEPT).unwrap_or_default();
    !sends_json && (accepts.is_empty() || accepts.contains("html"))
}

/// For every path that leads nowhere.
pub(super) async fn no_such_page(request: Request) -> Response {
    // Browsers say what they accept; a program that says nothing can read JSON.
    let for_people =
        request.headers().contains_key(header::ACCEPT) && wants_html(request.headers());
    let mut response = match for_people {
        true => {
            let kind = [(header::CONTENT_TYPE, page_type())];
            (StatusCode::NOT_FOUND, kind, NOT_FOUND_PAGE).into_response()
        }
        false => {
            let error = json!({"error": {"code": 404, "message": NOT_FOUND, "type": ""}});
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// For a path that is asked in the wrong way.
pub(super) async fn no_such_method(method: Method, request: Request) -> Response {
    // As LocalAI: whatever has no page is not there.
    match method {
        Method::GET | Method::HEAD => no_such_page(request).await,
        _ => refusal::no_such_method(method, request.uri().clone())
            .await
            .into_response(),
    }
}

/// A LocalAI refusal.
pub(super) fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// The same, worth trying again.
pub(super) fn busy(status: StatusCode, error: &str, retry_after: RetryAfter) -> Response {
    let retry = [(header::RETRY_AFTER, HeaderValue::from(retry_after))];
    (retry, refused(status, error)).into_response()
}

/// A refusal in our own shape, worth trying again.
pub(super) fn busy_here(refusal: Refusal, retry_after: RetryAfter) -> Response {
    let retry = [(header::RETRY_AFTER, HeaderValue::from(retry_after))];
    (retry, refusal).into_response()
}

pub(super) fn page_type() -> HeaderValue {
    HeaderValue::from_static("text/html; charset=utf-8")
}

/// A body that has a name for its present state.
pub(super) struct Tagged {
    /// Content type.
    pub(super) kind: HeaderValue,
    /// The name, quotes included.
    pub(super) tag: HeaderValue,
    pub(super) body: Bytes,
}

impl Tagged {
    /// The body, or that it is the one that the client has. It must ask again each time.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let has_it = asked
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .any(|known| names(known.as_bytes(), self.tag.as_bytes()));
        let mut response = match has_it {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => {
                let kind = [(header::CONTENT_TYPE, self.kind.clone())];
                (kind, Body::from(self.body.clone())).into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// Whether a list of tags has `tag` (RFC 9110 §13.1.2).
fn names(list: &[u8], tag: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|known| {
        let known = known.trim_ascii();
        known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_html_is_decided_as_localai_does() {
        let asked = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            wants_html(&headers)
        };
        assert!(asked(&[]));
        assert!(asked(&[(
            "accept",
            "text/html,application/xhtml+xml,*/*;q=0.8"
        )]));
        assert!(!asked(&[("accept", "*/*")]));
        assert!(!asked(&[("accept", "application/json")]));
        assert!(!asked(&[("content-type", "application/json")]));
        assert!(!asked(&[
            ("content-type", "application/json"),
            ("accept", "text/html")
        ]));
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        assert!(names(b"\"1-2\"", b"\"1-2\""));
        assert!(names(b"\"a\", W/\"1-2\"", b"\"1-2\""));
        assert!(names(b"*", b"\"1-2\""));
        assert!(!names(b"\"1-3\"", b"\"1-2\"") && !names(b"", b"\"1-2\""));
    }
}
