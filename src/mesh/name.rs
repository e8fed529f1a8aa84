//! Names given by users, and the buckets made of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest [`Name`], in bytes.
pub const MAX_NAME_BYTES: usize = 63;
/// Longest [`Bucket`]: a network id, `_`, a service name.
pub const MAX_BUCKET_BYTES: usize = 2 * MAX_NAME_BYTES + 1;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, or longer than the limit.
    #[error("a name has 1 to {max} characters, {len} were given")]
    Length {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside `[A-Za-z0-9._-]`.
    #[error("{found:?} at position {at} is not allowed; names use A-Z a-z 0-9 . _ -")]
    Character {
        /// The first offending character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() || text.len() > max {
        return Err(NameError::Length {
            len: text.len(),
            max,
        });
    }
    let bad = text
        .char_indices()
        .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
    match bad {
        Some((at, found)) => Err(NameError::Character { found, at }),
        None => Ok(()),
    }
}

macro_rules! checked_string {
    ($(#[$doc:meta])* $type:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        // Shared, because each connection takes some along.
        pub struct $type(Arc<str>);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_string! {
    /// The name of a node, a service or a network id: `[A-Za-z0-9._-]{1,63}`.
    Name, MAX_NAME_BYTES
}

checked_string! {
    /// A ledger bucket: a service name, prefixed `NETID_` where a network id is set
    /// (LocalAI `core/p2p/p2p.go`, `NetworkID`).
    Bucket, MAX_BUCKET_BYTES
}

impl Bucket {
    /// LocalAI's name for a service without a name.
    pub const DEFAULT_SERVICE: &'static str = "services";

    /// The bucket of `service` under `network_id`.
    pub fn of(network_id: Option<&Name>, service: &Name) -> Self {
        match network_id {
            Some(id) => Self(format!("{id}_{service}").into()),
            None => Self(Arc::clone(&service.0)),
        }
    }
}

impl From<Name> for Bucket {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        assert!("atlas-1.local_x".parse::<Name>().is_ok());
        assert_eq!(
            "".parse::<Name>(),
            Err(NameError::Length { len: 0, max: 63 })
        );
        assert_eq!(
            "a b".parse::<Name>(),
            Err(NameError::Character { found: ' ', at: 1 })
        );
        assert!("x".repeat(64).parse::<Name>().is_err());
        assert!("ä".parse::<Name>().is_err());
    }

    #[test]
    fn a_network_id_prefixes_the_bucket() -> Result<(), NameError> {
        let service = "federated".parse()?;
        assert_eq!(Bucket::of(None, &service).as_str(), "federated");
        let id = "gpu_lab".parse()?;
        assert_eq!(
            Bucket::of(Some(&id), &service).as_str(),
            "gpu_lab_federated"
        );
        Ok(())
    }
}
