//! What a node signs of another one that it no longer hears (security amendment C18).

use serde::{Deserialize, Serialize};

use super::alive::Alive;
use super::entry::{ItemId, NetworkId, item_id};
use super::id::{Identity, NodeId, Signature};

/// Suspicions kept of one member: enough to tell one voice from two. All nodes keep those of the
/// least accusers, so that they hold the same set.
pub const MAX_SUSPICIONS: usize = 2;

const LABEL: &[u8] = b"warren/1 suspect\0";

/// "I do not hear `subject`": signed by the accuser, void once the subject has signed anything
/// newer than the sign of life it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Who says so.
    pub accuser: NodeId,
    /// Of whom.
    pub subject: NodeId,
    /// The subject's boot, as in its [`Alive`].
    pub boot: u64,
    /// The subject's incarnation, as in its [`Alive`]; the subject refutes with a greater one.
    pub incarnation: u32,
    /// The accuser's.
    pub signature: Signature,
}

impl Suspicion {
    /// Signs a suspicion against the sign of life `alive`.
    pub fn sign(network: NetworkId, identity: &Identity, alive: &Alive) -> Self {
        let mut suspicion = Self {
            accuser: identity.id(),
            subject: alive.node,
            boot: alive.boot,
            incarnation: alive.incarnation,
            signature: Signature::from([0; 64]),
        };
        suspicion.signature = identity.sign(&suspicion.signed_bytes(network));
        suspicion
    }

    /// Whether the accuser itself signed this in this network.
    pub fn verify(&self, network: NetworkId) -> bool {
        self.accuser
            .verify(&self.signed_bytes(network), &self.signature)
    }

    /// Whether it speaks of this very sign of life. One of a greater incarnation is void: nobody
    /// can have heard it, and believing it would silence the subject for good.
    pub fn names(&self, alive: &Alive) -> bool {
        (self.subject, self.boot, self.incarnation) == (alive.node, alive.boot, alive.incarnation)
    }

    /// `"warren/1 suspect\0" || network_id || accuser || subject || boot u64 || inc u32`, big
    /// endian.
    pub fn signed_bytes(&self, network: NetworkId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(112);
        bytes.extend_from_slice(LABEL);
        bytes.extend_from_slice(&network.0);
        bytes.extend_from_slice(self.accuser.as_bytes());
        bytes.extend_from_slice(self.subject.as_bytes());
        bytes.extend_from_slice(&self.boot.to_be_bytes());
        bytes.extend_from_slice(&self.incarnation.to_be_bytes());
        bytes
    }

    /// Its name in reconciliation: SHA-256 of the signed bytes.
    pub fn id(&self, network: NetworkId) -> ItemId {
        item_id(&self.signed_bytes(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::alive::LifeState;

    const NETWORK: NetworkId = NetworkId([5; 16]);

    #[test]
    fn only_its_accuser_can_have_said_it_of_one_sign_of_life_in_one_network() {
        let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let alive = Alive::sign(NETWORK, &b, 7, 3, LifeState::Alive);
        let good = Suspicion::sign(NETWORK, &a, &alive);
        assert!(good.verify(NETWORK) && good.names(&alive));
        assert!(!good.verify(NetworkId([6; 16])));
        let changes: [fn(&mut Suspicion, NodeId); 4] = [
            |s, other| s.accuser = other,
            |s, other| s.subject = other,
            |s, _| s.boot += 1,
            |s, _| s.incarnation += 1,
        ];
        let other = Identity::from_seed(&[3; 32]).id();
        for change in changes {
            let mut forged = good;
            change(&mut forged, other);
            assert!(!forged.verify(NETWORK) && forged.id(NETWORK) != good.id(NETWORK));
        }
        let newer = Alive::sign(NETWORK, &b, 7, 4, LifeState::Alive);
        assert!(!good.names(&newer));
    }
}
