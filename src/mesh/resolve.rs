//! Which node a user's words name (security amendment C24: names are self-asserted).

use super::id::{NodeId, SHORT_ID_CHARS};
use super::records::display_id;
use super::view::View;

/// Shortest prefix of an id that is looked up: 30 bits, enough for a person's own network.
pub const MIN_PREFIX_CHARS: usize = 6;

/// Why words name no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Nobody is called that.
    #[error("no node is called {text:?}")]
    Unknown {
        /// What was asked for.
        text: String,
    },
    /// Several are.
    #[error("{text:?} may be {}; give the id", list(.who))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// `<name>-<short id>` of each.
        who: Vec<String>,
    },
}

fn list(who: &[String]) -> String {
    who.join(" or ")
}

/// Finds the node that `text` names: full id, `<name>-<short id>`, short id or a longer prefix,
/// name, or an unambiguous prefix of at least [`MIN_PREFIX_CHARS`].
///
/// An exact id always wins. A name that several known nodes have, online or not, names none: a
/// newcomer cannot take over the name of a node that is away.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve(text: &str, view: &View) -> Result<NodeId, ResolveError> {
    if let Ok(id) = text.parse::<NodeId>() {
        return Ok(id);
    }
    let lower = text.to_ascii_lowercase();
    let is_prefix = |id: &NodeId| id.to_string().starts_with(&lower);
    let long = lower.len() >= SHORT_ID_CHARS;
    let exact = view.nodes.values().filter(|node| {
        node.name.as_str() == text
            || display_id(&node.name, &node.id) == text
            || (long && is_prefix(&node.id))
    });
    let mut found: Vec<_> = exact.collect();
    if found.is_empty() && lower.len() >= MIN_PREFIX_CHARS {
        found = view
            .nodes
            .values()
            .filter(|node| is_prefix(&node.id))
            .collect();
    }
    match found.as_slice() {
        [] => Err(ResolveError::Unknown {
            text: text.to_owned(),
        }),
        [one] => Ok(one.id),
        several => Err(ResolveError::Ambiguous {
            text: text.to_owned(),
            who: several
                .iter()
                .map(|node| display_id(&node.name, &node.id))
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::Identity;
    use crate::mesh::view::{NodeView, PathKind, PathView};

    fn view(nodes: &[(u8, &str, bool)]) -> View {
        let id = |seed: u8| Identity::from_seed(&[seed; 32]).id();
        let mut view = View::new(id(nodes[0].0));
        for (seed, name, online) in nodes {
            let node = NodeView {
                id: id(*seed),
                name: name.parse().unwrap(),
                is_self: false,
                online: *online,
                stale: !online,
                draining: false,
                last_seen_ms: 0,
                version: String::new(),
                addresses: vec![],
                path: PathView {
                    kind: PathKind::None,
                    rtt_ms: None,
                    via: None,
                },
            };
            view.nodes.insert(node.id, node.into());
        }
        view
    }

    #[test]
    fn every_form_finds_the_node() {
        let view = view(&[(1, "atlas", true), (2, "rhea", true)]);
        let id = Identity::from_seed(&[2; 32]).id();
        let short = id.short();
        for text in [
            id.to_string(),
            short.clone(),
            short[..6].into(),
            "rhea".into(),
            format!("rhea-{short}"),
        ] {
            assert_eq!(resolve(&text, &view), Ok(id), "{text}");
        }
        assert!(matches!(
            resolve("nobody", &view),
            Err(ResolveError::Unknown { .. })
        ));
    }

    #[test]
    fn a_newcomer_cannot_take_the_name_of_a_node_that_is_away() {
        let view = view(&[(1, "atlas", false), (2, "atlas", true)]);
        let error = resolve("atlas", &view).unwrap_err();
        let ResolveError::Ambiguous { who, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(who.len(), 2);
    }
}
