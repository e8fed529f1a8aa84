//! A floor: how an author gets rid of its tombstones (security amendment C21).
//!
//! A removal is an entry, and it must outlive every copy of the value it removed. No rule by age
//! can tell when that is: a member may keep an old value for a year, its signature does not
//! expire, and a node that has dropped the tombstone by then takes the value for news. So only
//! the author ends the life of its tombstones, with a number: everything durable that it signed
//! under a lower version is void, for good and for whoever kept it. What it still stands by it
//! signs again above the floor first.

use serde::{Deserialize, Serialize};

use super::entry::{ItemId, NetworkId, item_id};
use super::id::{Identity, NodeId, Signature};

const FLOOR_LABEL: &[u8] = b"warren/1 floor\0";

/// An author's signed word that its durable entries below a version are void. Of one author the
/// greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Whose entries.
    pub author: NodeId,
    /// The lowest version that still counts; see [`Body::version`](super::entry::Body::version).
    pub floor: u64,
    /// The author's, over [`Floor::signed_bytes`].
    pub signature: Signature,
}

impl Floor {
    /// Signs a floor of `identity`.
    pub fn sign(network: NetworkId, identity: &Identity, floor: u64) -> Self {
        let mut signed = Floor {
            author: identity.id(),
            floor,
            signature: Signature::from([0; 64]),
        };
        signed.signature = identity.sign(&signed.signed_bytes(network));
        signed
    }

    /// Whether the author itself signed this in this network.
    pub fn verify(&self, network: NetworkId) -> bool {
        self.author
            .verify(&self.signed_bytes(network), &self.signature)
    }

    /// `"warren/1 floor\0" || network_id || author || u64 floor`, big endian.
    pub fn signed_bytes(&self, network: NetworkId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80);
        bytes.extend_from_slice(FLOOR_LABEL);
        bytes.extend_from_slice(&network.0);
        bytes.extend_from_slice(self.author.as_bytes());
        bytes.extend_from_slice(&self.floor.to_be_bytes());
        bytes
    }

    /// The floor's name in reconciliation.
    pub fn id(&self, network: NetworkId) -> ItemId {
        item_id(&self.signed_bytes(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_of_another_network_author_or_height_is_void() {
        let network = NetworkId([5; 16]);
        let author = Identity::from_seed(&[1; 32]);
        let good = Floor::sign(network, &author, 9);
        assert!(good.verify(network));
        assert!(!good.verify(NetworkId([6; 16])));
        let higher = Floor { floor: 10, ..good };
        let other = Floor {
            author: Identity::from_seed(&[2; 32]).id(),
            ..good
        };
        for forged in [higher, other] {
            assert!(!forged.verify(network));
            assert_ne!(forged.id(network), good.id(network));
        }
    }

    #[test]
    fn its_wire_form_is_that_of_the_contract() {
        let floor = Floor::sign(NetworkId([5; 16]), &Identity::from_seed(&[1; 32]), 300);
        let bytes = postcard::to_stdvec(&floor).unwrap();
        assert_eq!(bytes[..32], *floor.author.as_bytes());
        assert_eq!(bytes[32..34], [0xac, 0x02]);
        assert_eq!(bytes[34..], floor.signature.to_bytes());
        assert_eq!(postcard::from_bytes::<Floor>(&bytes).unwrap(), floor);
    }
}
