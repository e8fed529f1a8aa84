//! Who a node is: an Ed25519 key pair. The public half is the node id.

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Characters of a short id: 60 of the id's bits, so that a member cannot cheaply make a key
/// whose short id collides with another's.
pub const SHORT_ID_CHARS: usize = 12;
/// Characters of a full id in text: 32 bytes in base32 without padding.
pub const ID_CHARS: usize = 52;

/// A node's public key: canonical Ed25519, not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "[u8; 32]", into = "[u8; 32]")]
pub struct NodeId([u8; 32]);

/// Why bytes or text are not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a point of the curve.
    #[error("this is not an Ed25519 public key")]
    NotAKey,
    /// Another encoding of the same point exists: two ids would name one key.
    #[error("this Ed25519 public key is not in canonical form")]
    NotCanonical,
    /// One of the eight points for which anyone can forge signatures.
    #[error("this Ed25519 public key is of small order: it proves nothing")]
    SmallOrder,
    /// Not 52 base32 characters.
    #[error("a node id has {ID_CHARS} characters of a-z and 2-7, {len} were given")]
    NotText {
        /// Characters given.
        len: usize,
    },
}

impl NodeId {
    /// Checks and takes 32 bytes (security amendment A3).
    ///
    /// # Errors
    /// Refuses bytes that are no curve point, a second encoding of one, or of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, IdError> {
        let point = CompressedEdwardsY(bytes)
            .decompress()
            .ok_or(IdError::NotAKey)?;
        if point.compress().0 != bytes {
            return Err(IdError::NotCanonical);
        }
        if point.is_small_order() {
            return Err(IdError::SmallOrder);
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first [`SHORT_ID_CHARS`] characters of the text form, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_ID_CHARS);
        text
    }

    /// Whether `signature` over `message` is this node's. Strict: no malleable forms.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.to_bytes());
            key.verify_strict(message, &signature).is_ok()
        })
    }
}

impl TryFrom<[u8; 32]> for NodeId {
    type Error = IdError;
    fn try_from(bytes: [u8; 32]) -> Result<Self, IdError> {
        Self::from_bytes(bytes)
    }
}

impl From<NodeId> for [u8; 32] {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = IdError::NotText {
            len: text.chars().count(),
        };
        if text.len() != ID_CHARS {
            return Err(wrong);
        }
        let bytes = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| wrong.clone())?;
        Self::from_bytes(bytes.try_into().map_err(|_| wrong)?)
    }
}

/// An Ed25519 signature, as two halves because serde derives arrays up to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([u8; 32], [u8; 32]);

impl Signature {
    /// The 64 bytes, R then S (RFC 8032 §5.1.6).
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&self.1);
        bytes
    }
}

impl From<[u8; 64]> for Signature {
    fn from(bytes: [u8; 64]) -> Self {
        let mut halves = ([0; 32], [0; 32]);
        halves.0.copy_from_slice(&bytes[..32]);
        halves.1.copy_from_slice(&bytes[32..]);
        Self(halves.0, halves.1)
    }
}

/// A node's secret key. It has no `Debug` beyond its public id and is wiped when dropped.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// The identity of a 32-byte seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be written to `identity.key`.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::from(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, secret)", self.id().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let id = Identity::from_seed(&[7; 32]).id();
        let text = id.to_string();
        assert_eq!(text.len(), ID_CHARS);
        assert_eq!(text.parse::<NodeId>().unwrap(), id);
        assert_eq!(text.to_ascii_uppercase().parse::<NodeId>().unwrap(), id);
        assert!(text.starts_with(&id.short()));
    }

    #[test]
    fn points_that_prove_nothing_are_refused() {
        // y = 1 is the neutral element, y = 0 has order 4, y = p - 1 has order 2 (RFC 8032 §5.1).
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        for small in [one, [0; 32], minus_one] {
            assert_eq!(NodeId::from_bytes(small), Err(IdError::SmallOrder));
        }
        // y = p + 1 names the same point as y = 1.
        let mut non_canonical = [0xff; 32];
        non_canonical[0] = 0xee;
        non_canonical[31] = 0x7f;
        assert_eq!(
            NodeId::from_bytes(non_canonical),
            Err(IdError::NotCanonical)
        );
        assert_eq!(NodeId::from_bytes([2; 32]), Err(IdError::NotAKey));
    }

    #[test]
    fn a_signature_is_bound_to_key_and_message() {
        let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let signature = a.sign(b"hello");
        assert!(a.id().verify(b"hello", &signature));
        assert!(!a.id().verify(b"hellp", &signature));
        assert!(!b.id().verify(b"hello", &signature));
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        let identity = Identity::from_seed(&[9; 32]);
        let shown = format!("{identity:?}");
        assert!(shown.contains("secret") && shown.len() < 40, "{shown}");
    }
}
