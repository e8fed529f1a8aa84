//! Refusals over HTTP: a status for machines in between, the error document for everybody else.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::shapes::{ErrorDocument, NodeError};

/// Seconds after which a client that was refused may try again.
const RETRY_AFTER: &str = "5";

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) NodeError);

impl Refusal {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        NodeError::new("usage", message).into()
    }
}

/// Everything that may run at once runs; what is asked for ends by itself.
pub(super) fn busy(error: NodeError) -> Response {
    let refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, error);
    ([(header::RETRY_AFTER, RETRY_AFTER)], refusal).into_response()
}

impl From<NodeError> for Refusal {
    fn from(error: NodeError) -> Self {
        let status = match error.code.as_str() {
            "usage" => StatusCode::BAD_REQUEST,
            "denied" => StatusCode::FORBIDDEN,
            "not_found" => StatusCode::NOT_FOUND,
            "ambiguous" | "exists" | "in_use" | "refused" => StatusCode::CONFLICT,
            "full" => StatusCode::INSUFFICIENT_STORAGE,
            "unreachable" => StatusCode::BAD_GATEWAY,
            "store" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorDocument { error: self.1 })).into_response()
    }
}

/// For every path that leads nowhere.
pub(super) async fn no_such_route(uri: http::Uri) -> Refusal {
    NodeError::new("not_found", format!("there is nothing at {}", uri.path())).into()
}

/// For a path that is asked in the wrong way.
pub(super) async fn no_such_method(method: http::Method, uri: http::Uri) -> Refusal {
    let message = format!("{} does not answer {method}", uri.path());
    let error = NodeError::new("method_not_allowed", message);
    Refusal(StatusCode::METHOD_NOT_ALLOWED, error)
}
