//! Which kinds a watcher asked for.

use serde::Deserialize;

use crate::api::refusal::Refusal;
use crate::mesh::event::{Event, What};
use crate::mesh::name::Bucket;

/// The list of nodes, and each change of it.
pub(in crate::api) const NODES: &str = "nodes";
/// The list of services, and each change of it.
pub(in crate::api) const SERVICES: &str = "services";

/// What stands behind the `?` of a stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct KindQuery {
    /// Kinds, with commas between them; without it, what the stream is for.
    kind: Option<String>,
}

impl KindQuery {
    /// What is asked for, `otherwise` without a word about it.
    ///
    /// # Errors
    /// `usage` for a kind that there is not, with those that there are.
    pub(in crate::api) fn wanted(&self, otherwise: Wanted) -> Result<Wanted, Refusal> {
        match &self.kind {
            Some(list) => Wanted::parse(list),
            None => Ok(otherwise),
        }
    }
}

/// Kinds that a watcher gets. `lagged` comes unasked: it says that something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Wanted {
    kinds: Vec<&'static str>,
    /// Of the ledger only this bucket.
    bucket: Option<Bucket>,
}

impl Wanted {
    /// What is, and what happens.
    pub(in crate::api) fn everything() -> Self {
        Self::of(all().collect())
    }

    /// What happens.
    pub(in crate::api) fn every_event() -> Self {
        Self::of(What::KINDS.to_vec())
    }

    /// Changes of the ledger, of `bucket` or of all.
    pub(in crate::api) fn ledger(bucket: Option<Bucket>) -> Self {
        Self {
            bucket,
            ..Self::of(vec!["ledger"])
        }
    }

    fn of(kinds: Vec<&'static str>) -> Self {
        Self {
            kinds,
            bucket: None,
        }
    }

    fn parse(list: &str) -> Result<Self, Refusal> {
        let mut kinds = Vec::new();
        for word in list.split(',') {
            let Some(kind) = all().find(|kind| *kind == word) else {
                let valid: Vec<_> = all().collect();
                return Err(Refusal::usage(format!(
                    "in the query: there is no kind {word:?}; kinds are {}",
                    valid.join(", ")
                )));
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(Self::of(kinds))
    }

    /// Whether `kind` is asked for.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether anything that happens is asked for.
    pub(super) fn any_event(&self) -> bool {
        What::KINDS.iter().any(|kind| self.has(kind))
    }

    /// Whether this event is asked for.
    pub(super) fn event(&self, event: &Event) -> bool {
        let in_bucket = match (&self.bucket, &event.what) {
            (Some(wanted), What::Ledger { bucket, .. }) => wanted == bucket,
            _ => true,
        };
        in_bucket && self.has(event.what.kind())
    }
}

fn all() -> impl Iterator<Item = &'static str> {
    [NODES, SERVICES].into_iter().chain(What::KINDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_kinds_is_read_and_an_unknown_one_refused_with_what_there_is() {
        let wanted = Wanted::parse("node_up,nodes,node_up").unwrap();
        assert_eq!(wanted, Wanted::of(vec!["node_up", "nodes"]));
        for bad in ["", "node_up,", " node_up", "nodeup", "node", "lagged"] {
            let Refusal(_, error) = Wanted::parse(bad).unwrap_err();
            assert_eq!(error.code, "usage");
            for kind in all() {
                assert!(error.message.contains(kind), "{}", error.message);
            }
        }
    }
}
