//! Which rows are shown, and in which order.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ClusterKind, Network, Networks, State};

/// Most rows of one page.
pub const MAX_PAGE: usize = 1000;

/// By what rows are sorted; equal rows are in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Most clusters first, as `GET /networks` lists them.
    #[default]
    Clusters,
    /// Most workers first.
    Workers,
    /// Name, from A; without one last.
    Name,
    /// Answered last, first.
    Seen,
    /// Came in last, first.
    Added,
}

impl Sort {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("clusters", Self::Clusters),
        ("workers", Self::Workers),
        ("name", Self::Name),
        ("seen", Self::Seen),
        ("added", Self::Added),
    ];

    /// Sorts rows that are in the order of their keys.
    pub fn sort(self, rows: &mut [Arc<Network>]) {
        match self {
            Self::Clusters => rows.sort_by_key(|row| Reverse(row.cluster_count())),
            Self::Workers => rows.sort_by_cached_key(|row| Reverse(row.workers())),
            Self::Name => {
                rows.sort_by_cached_key(|row| (row.name.is_empty(), row.name.to_lowercase()));
            }
            Self::Seen => rows.sort_by_key(|row| Reverse(row.last_seen_ms)),
            Self::Added => rows.sort_by_key(|row| Reverse(row.added_ms)),
        }
    }
}

/// Not the name of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is one of clusters, workers, name, seen, added")]
pub struct SortError;

impl FromStr for Sort {
    type Err = SortError;
    fn from_str(text: &str) -> Result<Self, SortError> {
        let named = Self::ALL.iter().find(|(name, _)| *name == text);
        named.map(|(_, sort)| *sort).ok_or(SortError)
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, sort)| sort == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Also those that are not for the public list: without workers, or hidden.
    pub all: bool,
    /// Only those that are not hidden, whatever else is wanted.
    pub public: bool,
    /// Only with this text, in any case, in name, description, network id or fingerprint.
    pub text: Option<String>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only with a cluster of this kind.
    pub kind: Option<ClusterKind>,
    /// In which order.
    pub sort: Sort,
    /// How many are passed over.
    pub offset: usize,
    /// At most so many, and never more than [`MAX_PAGE`]; `None` for as many as that.
    pub limit: Option<usize>,
}

impl Query {
    fn takes(&self, row: &Network, text: Option<&str>) -> bool {
        let clusters = || row.clusters.iter().flatten();
        let finds = |text: &str| {
            let has = |of: &str| of.to_lowercase().contains(text);
            has(&row.name)
                || has(&row.description)
                || clusters().any(|cluster| has(&cluster.network_id))
                || row.key.to_string().contains(text)
        };
        (self.all || row.is_listed())
            && !(self.public && row.state == State::Hidden)
            && self.state.is_none_or(|state| row.state == state)
            && self
                .kind
                .is_none_or(|kind| clusters().any(|it| it.kind == kind))
            && text.is_none_or(finds)
    }
}

/// Some of the rows that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Arc<Network>>,
    /// How many there are on all pages.
    pub total: usize,
}

impl Networks {
    /// The rows that `query` wants.
    pub fn page(&self, query: &Query) -> Page {
        let text = query.text.as_ref().map(|text| text.to_lowercase());
        let limit = query.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let mut page = Page {
            rows: Vec::new(),
            total: 0,
        };
        for row in self.sorted(query.sort) {
            if !query.takes(row, text.as_deref()) {
                continue;
            }
            if page.total >= query.offset && page.rows.len() < limit {
                page.rows.push(Arc::clone(row));
            }
            page.total += 1;
        }
        page
    }
}
