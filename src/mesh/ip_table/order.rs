//! In which order rows are shown.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Row, Source};

/// By what rows are sorted. What is unknown comes last; equal rows are in the order of their
/// places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Name, from A.
    Name,
    /// Place: IPv4, then names, then IPv6.
    Address,
    /// Least latency first: one way, so that a measured round trip counts half of what it is.
    #[default]
    Latency,
    /// Fastest download first.
    Download,
    /// Fastest upload first.
    Upload,
    /// Measured last, first.
    Seen,
    /// This node, configured, imported, learnt, posted.
    Source,
}

impl Sort {
    const ALL: [(&'static str, Self); 7] = [
        ("name", Self::Name),
        ("address", Self::Address),
        ("latency", Self::Latency),
        ("download", Self::Download),
        ("upload", Self::Upload),
        ("seen", Self::Seen),
        ("source", Self::Source),
    ];

    /// Sorts `rows`.
    pub fn sort(self, rows: &mut [Arc<Row>]) {
        rows.sort_by(|a, b| self.compare(a, b).then_with(|| a.place.cmp(&b.place)));
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        match self {
            Self::Name => (a.name.is_empty(), &a.name).cmp(&(b.name.is_empty(), &b.name)),
            Self::Address => Ordering::Equal,
            Self::Latency => known_first(a.one_way(), b.one_way(), Ord::cmp),
            Self::Download => faster_first(a.download_mbps(), b.download_mbps()),
            Self::Upload => faster_first(a.upload_mbps(), b.upload_mbps()),
            Self::Seen => {
                let seen = |row: &Row| row.measured.as_ref().map(|own| own.at_ms);
                known_first(seen(a), seen(b), |a, b| b.cmp(a))
            }
            Self::Source => rank(a).cmp(&rank(b)),
        }
    }
}

fn known_first<T>(a: Option<T>, b: Option<T>, compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => compare(&a, &b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

fn faster_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    known_first(a, b, |a, b| b.total_cmp(a))
}

fn rank(row: &Row) -> u8 {
    match row.source {
        Source::Own => 0,
        Source::Configured => 1,
        Source::Imported => 2,
        Source::Learnt(_) => 3,
        Source::Posted => 4,
    }
}

/// Not the name of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is one of name, address, latency, download, upload, seen, source")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::ip_table::{Latency, Speed};

    #[test]
    fn what_is_unknown_comes_last_and_equal_rows_stay_in_the_order_of_places() {
        let row = |n: u8, ms: f64, mbps: f64| {
            let mut row = Row::new(format!("192.0.2.{n}").parse().unwrap(), Source::Imported);
            row.stated.latency = Latency::from_ms(ms);
            row.stated.download = Speed::from_mbps(mbps);
            Arc::new(row)
        };
        let rows = [
            row(3, 5.0, 1.0),
            row(1, 0.0, 9.0),
            row(2, 5.0, 0.0),
            row(4, 1.0, 9.0),
        ];
        for (by, expected) in [
            (Sort::Latency, [4, 2, 3, 1]),
            (Sort::Download, [1, 4, 3, 2]),
            (Sort::Address, [1, 2, 3, 4]),
        ] {
            let mut rows = rows.clone();
            by.sort(&mut rows);
            let found = rows.map(|row| row.place.host().to_string());
            assert_eq!(found, expected.map(|n| format!("192.0.2.{n}")), "{by}");
            assert_eq!(by.to_string().parse(), Ok(by));
        }
    }
}
