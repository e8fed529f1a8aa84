//! `POST /network/add`. What a body means is said in [`crate::formats::network_add`]; here it is
//! bounded, and its token is read only after the client's allowance.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tokio::time::timeout;

use super::answers::{busy, refused};
use super::door::Guest;
use super::{Shared, Site};
use crate::api::clients::Allowance;
use crate::api::input::read_body;
use crate::formats::network_add::{ADDED, AddFault, CANNOT_ADD, MAX_BODY_BYTES, NetworkAdd};
use crate::mesh::networks::NewNetwork;
use crate::mesh::rate::Rate;
use crate::service::networks::NetworksError;

/// Networks that a client may post at once.
const BURST: f64 = 100.0;
/// Searches that a client may make at once, and in a second in the long run: each looks at every
/// network there is.
const SEARCHES: f64 = 50.0;
const SEARCHES_PER_S: f64 = 5.0;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client has left.
#[derive(Clone)]
pub(super) struct Spending {
    adds: Option<Adds>,
    searches: Rate,
}

#[derive(Clone)]
struct Adds {
    rate: Rate,
    /// Until one more is allowed, in seconds.
    wait: u64,
}

impl Spending {
    /// All of it; `add_rate` networks a second, `None` for any number.
    pub(super) fn new(add_rate: Option<f64>) -> Self {
        let adds = add_rate.map(|rate| Adds {
            rate: Rate::new(rate, BURST.max(rate)),
            wait: Duration::try_from_secs_f64((1.0 / rate).ceil())
                .map_or(u64::MAX, |wait| wait.as_secs().max(1)),
        });
        let searches = Rate::new(SEARCHES_PER_S, SEARCHES);
        Self { adds, searches }
    }
}

impl Allowance for Spending {
    fn is_whole(&self, now: Duration) -> bool {
        let adds = self.adds.as_ref().is_none_or(|adds| adds.rate.is_full(now));
        adds && self.searches.is_full(now)
    }
}

impl Site {
    /// Whether a client may post a network; else how long until it may, in seconds.
    fn may_add(&self, guest: &Guest) -> Result<(), u64> {
        self.spend(guest, |spending, now| match &mut spending.adds {
            Some(adds) => adds.rate.take(now, 1.0).then_some(()).ok_or(adds.wait),
            None => Ok(()),
        })
    }

    /// Whether a client may search.
    pub(super) fn may_search(&self, guest: &Guest) -> bool {
        self.spend(guest, |spending, now| spending.searches.take(now, 1.0))
    }

    fn spend<T>(&self, guest: &Guest, spend: impl FnOnce(&mut Spending, Duration) -> T) -> T {
        let now = self.clock.now().mono;
        // Nothing that runs under the lock leaves the clients half changed.
        let mut clients = self.spending.lock().unwrap_or_else(PoisonError::into_inner);
        let who = clients.who(guest.ip, now);
        spend(clients.allowance(who), now)
    }
}

pub(super) async fn add(
    State(site): Shared,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
) -> Response {
    let answer = match site.try_add(&guest, request).await {
        Ok(()) => Json(json!({ "message": ADDED })).into_response(),
        Err(refused) => refused,
    };
    site.metrics.added(answer.status());
    answer
}

impl Site {
    async fn try_add(&self, guest: &Guest, request: Request) -> Result<(), Response> {
        // Before anything else: what is refused costs an allowance, too.
        self.may_add(guest)
            .map_err(|wait| busy(StatusCode::TOO_MANY_REQUESTS, "Too many requests", wait))?;
        let (head, body) = request.into_parts();
        if is_from_another_page(&head.headers) {
            return Err(refused(
                StatusCode::FORBIDDEN,
                "Requests of other pages are not answered",
            ));
        }
        let body = whole(body).await?;
        if !is_json(&head.headers) && !body.is_empty() {
            return Err(answer_fault(AddFault::Json));
        }
        let asked = NetworkAdd::read(&body).map_err(answer_fault)?;
        let token = self
            .db
            .read_token(&asked.token)
            .await
            .map_err(|error| answer_error(&error))?;
        let new = NewNetwork {
            name: asked.name,
            description: asked.description,
            bootstrap: asked.bootstrap,
            publish_token: asked.publish_token,
            ..NewNetwork::new(token)
        };
        let added = self.db.add(new, self.clock.now().unix_ms).await;
        let added = added.map_err(|error| answer_error(&error))?;
        tracing::info!(network = %added.key, ip = %guest.ip, "a network was added");
        Ok(())
    }
}

async fn whole(body: Body) -> Result<Bytes, Response> {
    match timeout(PATIENCE, read_body(body, MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(refusal)) if refusal.0 == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(answer_fault(AddFault::BodyTooLong))
        }
        Ok(Err(_)) => Err(answer_fault(AddFault::Json)),
        Err(_) => Err(refused(
            StatusCode::REQUEST_TIMEOUT,
            "Request takes too long",
        )),
    }
}

fn answer_fault(fault: AddFault) -> Response {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_REQUEST);
    refused(status, &fault.to_string())
}

fn answer_error(error: &NetworksError) -> Response {
    match error.as_localai() {
        Some(message) => refused(StatusCode::BAD_REQUEST, message),
        None => {
            tracing::warn!(%error, "a network that was posted is not stored");
            // What is wrong with this machine is not the stranger's business.
            refused(StatusCode::INTERNAL_SERVER_ERROR, CANNOT_ADD)
        }
    }
}

/// Browsers say where a request comes from. A page of somebody else, shown inside a private
/// network, must not fill the explorer there.
fn is_from_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    matches!(site, Some(b"cross-site" | b"same-site"))
}

/// Whether the body is to be taken for JSON. Browsers let other pages send anything that is not
/// called JSON without asking, so from a browser it must be.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let by_page = ["origin", "sec-fetch-site", "sec-fetch-mode"];
    essence.eq_ignore_ascii_case("application/json")
        || !by_page.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_cannot_post() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            headers
        };
        let json = ("content-type", "application/json; charset=utf-8");
        let own = headers(&[
            json,
            ("origin", "http://x"),
            ("sec-fetch-site", "same-origin"),
        ]);
        assert!(is_json(&own) && !is_from_another_page(&own));
        assert!(is_json(&headers(&[])) && is_json(&headers(&[("content-type", "text/plain")])));
        assert!(!is_json(&headers(&[
            ("origin", "http://x"),
            ("content-type", "text/plain")
        ])));
        assert!(!is_json(&headers(&[("origin", "null")])));
        assert!(is_from_another_page(&headers(&[
            json,
            ("sec-fetch-site", "cross-site")
        ])));
    }

    #[test]
    fn what_a_client_spends_comes_back() {
        let now = Duration::from_secs(1_000);
        let mut spending = Spending::new(Some(1.0));
        assert!(spending.is_whole(now));
        let rate = &mut spending.adds.as_mut().unwrap().rate;
        assert_eq!((0..500).filter(|_| rate.take(now, 1.0)).count(), 100);
        assert!(rate.take(now + Duration::from_secs(1), 1.0));
        assert!(!spending.is_whole(now) && spending.is_whole(now + Duration::from_secs(200)));
        assert!(Spending::new(None).is_whole(now));
    }
}
