//! Connection ids of this process: 4 random bytes and a keyed check of them (security.md §3.5).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use crate::mesh::filter::OWN_CID_BYTES;

/// Makes and recognises connection ids. Clones share the key, so that every socket of a process
/// recognises the ids of all.
#[derive(Clone, Default)]
pub struct OwnCids {
    key: RandomState,
}

impl OwnCids {
    fn check(&self, random: [u8; 4]) -> [u8; 4] {
        let mut hasher = self.key.build_hasher();
        hasher.write_u32(u32::from_le_bytes(random));
        let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
        [a, b, c, d]
    }

    /// Whether this process made `cid`. A forger without the key succeeds once in 2^32, and then
    /// meets QUIC's own authentication.
    pub fn is_own(&self, cid: &[u8; OWN_CID_BYTES]) -> bool {
        let [a, b, c, d, check @ ..] = *cid;
        self.check([a, b, c, d]) == check
    }
}

impl ConnectionIdGenerator for OwnCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let random: [u8; 4] = rand::random();
        let mut cid = [0; OWN_CID_BYTES];
        cid[..4].copy_from_slice(&random);
        cid[4..].copy_from_slice(&self.check(random));
        ConnectionId::new(&cid)
    }

    /// Always refuses: QUIC asks only before it answers an unknown id with a stateless reset, and
    /// nothing unknown is ever answered here.
    fn validate(&self, _cid: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        OWN_CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_are_recognised_and_others_are_not() {
        let mut own = OwnCids::default();
        let other = OwnCids::default();
        let cid: [u8; 8] = own.generate_cid()[..].try_into().unwrap();
        assert!(own.clone().is_own(&cid));
        assert!(!other.is_own(&cid));
        assert!(own.validate(&ConnectionId::new(&cid)).is_err());
    }
}
