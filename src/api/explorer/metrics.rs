//! `GET /metrics`, for Prometheus. Labels come from lists of ours, never from a request.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Shared;
use crate::mesh::networks::{Networks, State as Found};

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper ends of the buckets of answer times, in seconds.
const SECONDS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.25, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// What is counted.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<ByRoute, Histogram>,
    adds: Family<ByStatus, Counter>,
    networks: Family<ByState, Gauge>,
    workers: Gauge,
    followers: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("warren_explorer");
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            adds: Family::default(),
            networks: Family::default(),
            workers: Gauge::default(),
            followers: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit(
            "answer",
            "Time from a request's head to its answer's",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "adds",
            "Networks posted, by what was answered",
            metrics.adds.clone(),
        );
        registry.register(
            "networks",
            "Networks in the database",
            metrics.networks.clone(),
        );
        registry.register(
            "workers",
            "Workers online, as the networks shown claim",
            metrics.workers.clone(),
        );
        registry.register(
            "followers",
            "Clients that follow changes",
            metrics.followers.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    pub(super) fn answered(&self, route: &'static str, status: StatusCode, took: Duration) {
        let status = status.as_u16();
        self.requests
            .get_or_create(&Answered { route, status })
            .inc();
        self.seconds
            .get_or_create(&ByRoute { route })
            .observe(took.as_secs_f64());
    }

    pub(super) fn added(&self, status: StatusCode) {
        let status = status.as_u16();
        self.adds.get_or_create(&ByStatus { status }).inc();
    }

    fn look_at(&self, networks: &Networks, followers: usize) {
        for state in Found::ALL {
            let count = networks.iter().filter(|row| row.state == state).count();
            let state = state.as_str();
            self.networks
                .get_or_create(&ByState { state })
                .set(whole(count));
        }
        let listed = networks.iter().filter(|row| row.is_listed());
        self.workers
            .set(whole(listed.map(|row| row.workers()).sum()));
        self.followers.set(whole(followers));
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What a path is counted as.
pub(super) fn route(path: &str) -> &'static str {
    const KNOWN: [&str; 10] = [
        "/",
        "/favicon.svg",
        "/networks",
        "/network/add",
        "/api/v1/networks",
        "/api/v1/events",
        "/api/v1/openapi.json",
        "/livez",
        "/readyz",
        "/metrics",
    ];
    if path.starts_with("/api/v1/networks/") {
        return "/api/v1/networks/{fingerprint}";
    }
    let known = KNOWN.into_iter().find(|known| *known == path);
    known.unwrap_or(if path.starts_with("/static/") {
        "/static"
    } else {
        "other"
    })
}

pub(super) async fn show(State(site): Shared) -> Response {
    site.metrics
        .look_at(&site.db.networks(), site.changes.followers());
    let mut text = String::new();
    match encode(&mut text, &site.metrics.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, KIND)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
