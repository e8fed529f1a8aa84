//! What a node signs of its own life (security amendment C18).

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::entry::{ItemId, Memo, NetworkId};
use super::id::{Identity, NodeId, Signature};

const LABEL: &[u8] = b"warren/1 alive\0";

/// Whether a node says it is here or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum LifeState {
    /// Here.
    Alive = 0,
    /// Left on purpose; its live entries are void.
    Leave = 1,
}

/// A node's signed word about its own life (C18): a handle to a [`Life`] that nothing can change
/// any more. Clones share it, and with it its id and that its signature was checked. The greatest
/// (boot, incarnation, state) counts.
#[derive(Clone, Deserialize)]
#[serde(from = "Life")]
pub struct Alive(Arc<SharedLife>);

struct SharedLife {
    life: Life,
    memo: Memo,
}

/// What an [`Alive`] says, and the signature under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Who speaks.
    pub node: NodeId,
    /// `max(stored + 1, unix_ms)` at the start of the process; never repeats.
    pub boot: u64,
    /// Raised by the node to refute suspicion.
    pub incarnation: u32,
    /// Here or gone.
    pub state: LifeState,
    /// The node's own, over [`Life::signed_bytes`].
    pub signature: Signature,
}

impl Life {
    /// `"warren/1 alive\0" || network_id || node || boot u64 || inc u32 || state u8`, big endian.
    pub fn signed_bytes(&self, network: NetworkId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80);
        bytes.extend_from_slice(LABEL);
        bytes.extend_from_slice(&network.0);
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.extend_from_slice(&self.boot.to_be_bytes());
        bytes.extend_from_slice(&self.incarnation.to_be_bytes());
        bytes.push(self.state as u8);
        bytes
    }
}

impl Alive {
    /// Signs a sign of life of `identity`.
    pub fn sign(
        network: NetworkId,
        identity: &Identity,
        boot: u64,
        incarnation: u32,
        state: LifeState,
    ) -> Self {
        let mut life = Life {
            node: identity.id(),
            boot,
            incarnation,
            state,
            signature: Signature::from([0; 64]),
        };
        life.signature = identity.sign(&life.signed_bytes(network));
        life.into()
    }

    /// Whether the node itself signed this in this network. The answer "yes" is remembered.
    pub fn verify(&self, network: NetworkId) -> bool {
        if self.0.memo.is_verified(network) {
            return true;
        }
        let signed = self.signed_bytes(network);
        let good = self.node.verify(&signed, &self.signature);
        if good {
            self.0.memo.set_verified(network, &signed);
        }
        good
    }

    /// Its name in reconciliation: SHA-256 of the signed bytes.
    pub fn id(&self, network: NetworkId) -> ItemId {
        self.0.memo.id(network, || self.signed_bytes(network))
    }

    /// Order among one node's own words.
    pub fn rank(&self) -> (u64, u32, LifeState) {
        (self.boot, self.incarnation, self.state)
    }
}

impl From<Life> for Alive {
    fn from(life: Life) -> Self {
        Self(Arc::new(SharedLife {
            life,
            memo: Memo::default(),
        }))
    }
}

impl Deref for Alive {
    type Target = Life;

    fn deref(&self) -> &Life {
        &self.0.life
    }
}

impl Serialize for Alive {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.life.serialize(to)
    }
}

impl PartialEq for Alive {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.life == other.0.life
    }
}

impl Eq for Alive {}

impl fmt::Debug for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.life.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([5; 16]);

    #[test]
    fn an_alive_of_another_network_or_node_is_void() {
        let node = Identity::from_seed(&[1; 32]);
        let alive = Alive::sign(NETWORK, &node, 9, 0, LifeState::Alive);
        assert!(alive.verify(NETWORK));
        assert!(!alive.verify(NetworkId([0; 16])));
        let gone = Alive::from(Life {
            state: LifeState::Leave,
            ..*alive
        });
        assert!(!gone.verify(NETWORK));
    }
}
