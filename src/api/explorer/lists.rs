//! What there is: LocalAI's list, pages of ours, one network. Answers are made once for a state of
//! the networks and repeated as long as it lasts, so that a list costs the same whoever asks.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::answers::{Tagged, busy_here};
use super::commands::join_commands;
use super::door::Guest;
use super::shapes::{Detail, Listed, Listing, LocalAiNetwork, token};
use super::{Shared, Site};
use crate::api::input::Asked;
use crate::api::refusal::Refusal;
use crate::api::shapes::NodeError;
use crate::mesh::networks::{
    ClusterKind, Network, NetworkKey, Networks, Query, Sort, State as Found,
};
use crate::service::networks::NetworkDb;

/// Most networks of one page.
const MAX_LIMIT: usize = 200;
/// How many without being asked for a number.
const LIMIT: usize = 50;
/// Longest text that is searched for, in bytes.
const MAX_SEARCH_BYTES: usize = 200;
/// Pages that are kept while nothing changes.
const KEPT_PAGES: usize = 64;

/// What stands behind the `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PageQuery {
    q: Option<String>,
    state: Option<Found>,
    #[serde(rename = "type")]
    kind: Option<ClusterKind>,
    online: bool,
    sort: Option<String>,
    offset: usize,
    limit: Option<usize>,
}

impl PageQuery {
    fn check(&self) -> Result<Query, Refusal> {
        if self.state == Some(Found::Hidden) {
            return Err(Refusal::usage(
                "in the query: state is one of new, active, stale",
            ));
        }
        if self
            .q
            .as_ref()
            .is_some_and(|text| text.len() > MAX_SEARCH_BYTES)
        {
            let message = format!("in the query: q has at most {MAX_SEARCH_BYTES} bytes");
            return Err(Refusal::usage(message));
        }
        let sort = match &self.sort {
            None => Sort::Workers,
            Some(text) => text
                .parse()
                .map_err(|error| Refusal::usage(format!("in the query: sort: {error}")))?,
        };
        Ok(Query {
            all: !self.online,
            public: true,
            text: self.q.clone().filter(|text| !text.is_empty()),
            state: self.state,
            kind: self.kind,
            sort,
            offset: self.offset,
            limit: Some(self.limit()),
        })
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT)
    }
}

/// What is said of the present state.
pub(super) struct Lists {
    publish_tokens: bool,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// Which state it is of.
    tag: String,
    counts: Option<(usize, usize)>,
    localai: Option<Bytes>,
    pages: HashMap<PageQuery, Bytes>,
}

impl Lists {
    pub(super) fn new(publish_tokens: bool) -> Self {
        Self {
            publish_tokens,
            made: Mutex::default(),
        }
    }

    /// What `make` finds in, or adds to, what was made of the present state.
    fn tagged(
        &self,
        db: &NetworkDb,
        make: impl FnOnce(&mut Made, &Networks) -> io::Result<Bytes>,
    ) -> io::Result<Tagged> {
        let networks = db.networks();
        // Nothing that runs under the lock leaves it half changed.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = format!("\"{:x}-{:x}\"", db.boot(), networks.revision());
        if made.tag != tag {
            *made = Made {
                tag: tag.clone(),
                ..Made::default()
            };
        }
        tagged(make(&mut made, &networks)?, &tag)
    }

    fn localai(&self, db: &NetworkDb) -> io::Result<Tagged> {
        self.tagged(db, |made, networks| {
            if let Some(body) = &made.localai {
                return Ok(body.clone());
            }
            let listed = networks.listed();
            let rows: Vec<_> = listed
                .map(|row| LocalAiNetwork::of(row, self.publish_tokens))
                .collect();
            let body = json(&rows)?;
            made.localai = Some(body.clone());
            Ok(body)
        })
    }

    fn page(&self, db: &NetworkDb, asked: PageQuery, query: &Query) -> io::Result<Tagged> {
        self.tagged(db, |made, networks| {
            if let Some(body) = made.pages.get(&asked) {
                return Ok(body.clone());
            }
            let (total, online) = *made.counts.get_or_insert_with(|| counts(networks));
            let page = networks.page(query);
            let rows = page.rows.iter();
            let body = json(&Listing {
                revision: networks.revision(),
                total,
                online,
                matching: page.total,
                offset: asked.offset,
                limit: asked.limit(),
                networks: rows
                    .map(|row| Listed::of(row, self.publish_tokens))
                    .collect(),
            })?;
            if made.pages.len() >= KEPT_PAGES {
                made.pages.clear();
            }
            made.pages.insert(asked, body.clone());
            Ok(body)
        })
    }

    fn detail(&self, db: &NetworkDb, network: &Network) -> io::Result<Tagged> {
        let tag = format!("\"{:x}-{:x}\"", db.boot(), db.networks().revision());
        let token = token(network, self.publish_tokens);
        let body = json(&Detail {
            network: Listed::of(network, self.publish_tokens),
            members: network.clusters.iter().flatten().map(Into::into).collect(),
            commands: match &token {
                Some(_) => join_commands(network),
                None => Vec::new(),
            },
            token,
        })?;
        tagged(body, &tag)
    }
}

/// Networks that are shown, and those of them with a worker online.
pub(super) fn counts(networks: &Networks) -> (usize, usize) {
    let shown = networks.iter().filter(|row| is_shown(row)).count();
    let online = networks.iter().filter(|row| row.is_listed()).count();
    (shown, online)
}

/// Whether a network is shown at all.
pub(super) fn is_shown(network: &Network) -> bool {
    network.state != Found::Hidden
}

fn json(document: &impl Serialize) -> io::Result<Bytes> {
    Ok(serde_json::to_vec(document)?.into())
}

fn tagged(body: Bytes, tag: &str) -> io::Result<Tagged> {
    Ok(Tagged {
        kind: HeaderValue::from_static("application/json"),
        tag: HeaderValue::from_str(tag).map_err(io::Error::other)?,
        body,
    })
}

fn failed(error: &io::Error) -> Response {
    tracing::error!(%error, "a list cannot be written");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

fn answer(made: &io::Result<Tagged>, headers: &HeaderMap) -> Response {
    match made {
        Ok(tagged) => tagged.answer(headers),
        Err(error) => failed(error),
    }
}

/// `GET /networks`.
pub(super) async fn localai(State(site): Shared, headers: HeaderMap) -> Response {
    answer(&site.lists.localai(&site.db), &headers)
}

/// `GET /api/v1/networks`.
pub(super) async fn page(
    State(site): Shared,
    Extension(guest): Extension<Arc<Guest>>,
    headers: HeaderMap,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Response> {
    let query = asked.check().map_err(Refusal::into_response)?;
    if query.text.is_some() && !site.may_search(&guest) {
        return Err(too_often());
    }
    Ok(answer(&site.lists.page(&site.db, asked, &query), &headers))
}

fn too_often() -> Response {
    let error = NodeError::new(
        "busy",
        "too many searches from this address; ask again later",
    );
    busy_here(Refusal(StatusCode::TOO_MANY_REQUESTS, error), 1)
}

/// `GET /api/v1/networks/{fingerprint}`.
pub(super) async fn one(
    State(site): Shared,
    headers: HeaderMap,
    Path(text): Path<String>,
) -> Result<Response, Refusal> {
    let network = site.find(&text)?;
    Ok(answer(&site.lists.detail(&site.db, &network), &headers))
}

impl Site {
    fn find(&self, text: &str) -> Result<Arc<Network>, Refusal> {
        let key: NetworkKey = text
            .parse()
            .map_err(|error| Refusal::usage(format!("in the path: {error}")))?;
        let found = self.db.get(&key).filter(|network| is_shown(network));
        found
            .ok_or_else(|| NodeError::new("not_found", format!("there is no network {key}")).into())
    }
}
