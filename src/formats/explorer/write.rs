//! The document out: byte for byte what Go's `encoding/json` makes of the same rows.

use std::borrow::Borrow;
use std::io::{self, Write};

use zeroize::Zeroizing;

use super::{Entry, Strange};
use crate::formats::json;
use crate::mesh::networks::{Cluster, Network};
use crate::mesh::token::TokenText;

/// Writes `networks` and what was strange in another document, in the order of their tokens. Of a
/// token that is there twice, the network counts.
///
/// # Errors
/// Those of `out`.
pub fn write<N: Borrow<Network>>(
    out: &mut impl Write,
    networks: impl IntoIterator<Item = N>,
    strange: &[Strange],
) -> io::Result<()> {
    let networks = networks.into_iter().map(Row::Network);
    let rows = networks.chain(strange.iter().map(Row::Strange));
    let mut rows: Vec<(Zeroizing<String>, Row<'_, N>)> =
        rows.map(|row| (row.token(), row)).collect();
    // It keeps the order of equals, and networks come first.
    rows.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    rows.dedup_by(|(later, _), (first, _)| later == first);
    out.write_all(b"{")?;
    for (nth, (token, row)) in rows.iter().enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        let token = Zeroizing::new(quoted(token));
        write!(out, "{comma}{}:{}", *token, *row.json())?;
    }
    out.write_all(b"}\n")
}

enum Row<'s, N> {
    Network(N),
    Strange(&'s Strange),
}

impl<N: Borrow<Network>> Row<'_, N> {
    fn token(&self) -> Zeroizing<String> {
        match self {
            Self::Network(network) => network.borrow().token.to_text(),
            Self::Strange(strange) => strange.token.clone(),
        }
    }

    fn json(&self) -> Zeroizing<String> {
        match self {
            Self::Network(network) => {
                let Network {
                    name,
                    description,
                    clusters,
                    failures,
                    ..
                } = network.borrow();
                Zeroizing::new(row_json(name, description, clusters.as_deref(), *failures))
            }
            Self::Strange(strange) => strange.json.clone(),
        }
    }
}

impl From<&Entry> for Strange {
    /// A network that is written as it was read.
    fn from(entry: &Entry) -> Self {
        let (name, description) = (&entry.name, &entry.description);
        let row = row_json(name, description, entry.clusters.as_deref(), entry.failures);
        Self {
            token: match &entry.token {
                TokenText::Native(token) => token.to_text(),
                TokenText::LocalAi(token) => Zeroizing::new(token.text().to_owned()),
            },
            json: Zeroizing::new(row),
        }
    }
}

fn row_json(name: &str, description: &str, clusters: Option<&[Cluster]>, failures: u32) -> String {
    let clusters = clusters.map(|clusters| list(clusters.iter().map(cluster)));
    format!(
        "{{\"name\":{},\"description\":{},\"Clusters\":{},\"Failures\":{failures}}}",
        quoted(name),
        quoted(description),
        clusters.as_deref().unwrap_or("null"),
    )
}

fn cluster(cluster: &Cluster) -> String {
    format!(
        "{{\"Workers\":{},\"Type\":{},\"NetworkID\":{}}}",
        list(cluster.workers.iter().map(|id| quoted(id))),
        quoted(cluster.kind.as_str()),
        quoted(&cluster.network_id)
    )
}

fn list(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(","))
}

/// A text as Go writes it: what means something in HTML is escaped, and so are the ends of lines
/// and paragraphs.
fn quoted(text: &str) -> String {
    json::quoted(text, |quoted, c| match c {
        '\u{8}' => quoted.push_str("\\b"),
        '\u{c}' => quoted.push_str("\\f"),
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => json::push_escape(quoted, c),
        c => quoted.push(c),
    })
}
