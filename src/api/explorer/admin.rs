//! What the admin socket of an explorer without a node has besides its networks: its end.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

/// `POST /v1/stop`: whoever may ask may cancel `stop`.
pub(super) fn routes(stop: CancellationToken) -> Router {
    Router::new().route("/v1/stop", post(end)).with_state(stop)
}

async fn end(State(stop): State<CancellationToken>) -> StatusCode {
    stop.cancel();
    StatusCode::ACCEPTED
}
