//! Connection ids of this process: 4 random bytes and a keyed check of them (security.md §3.5).
//! Which shard a connection is on is in the random bytes, for whoever has the key: ids are drawn
//! until one names the shard.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use crate::mesh::filter::OWN_CID_BYTES;
use crate::mesh::shard::Naming;

/// Makes and recognises connection ids. Clones share the keys, so that every socket of a process
/// recognises the ids of all.
#[derive(Clone)]
pub struct OwnCids {
    key: RandomState,
    naming: Naming,
    /// The shard whose ids are made.
    shard: u32,
}

impl Default for OwnCids {
    fn default() -> Self {
        Self {
            key: RandomState::new(),
            naming: Naming::new(rand::random(), 1),
            shard: 0,
        }
    }
}

impl OwnCids {
    /// Ids that name one of so many shards.
    pub(super) fn among(mut self, shards: u32) -> Self {
        self.naming = self.naming.among(shards);
        self
    }

    /// Makes the ids of one shard, which must be one of those there are.
    pub(super) fn of(mut self, shard: u32) -> Self {
        self.shard = shard % self.naming.shards();
        self
    }

    /// How ids name shards.
    #[cfg(target_os = "linux")]
    pub(super) fn naming(&self) -> Naming {
        self.naming
    }

    fn check(&self, random: [u8; 4]) -> [u8; 4] {
        let mut hasher = self.key.build_hasher();
        hasher.write_u32(u32::from_le_bytes(random));
        let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
        [a, b, c, d]
    }

    /// The shard of a connection id that this process made; `None` for any other id. A forger
    /// without the key succeeds once in 2^32, and then meets QUIC's own authentication.
    pub fn shard(&self, cid: &[u8; OWN_CID_BYTES]) -> Option<u32> {
        let [a, b, c, d, check @ ..] = *cid;
        let random = [a, b, c, d];
        (self.check(random) == check).then(|| self.naming.shard(random))
    }
}

impl ConnectionIdGenerator for OwnCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = loop {
            let random: [u8; 4] = rand::random();
            // One in as many as there are shards.
            if self.naming.shard(random) == self.shard {
                break random;
            }
        };
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

    fn made(cids: &mut OwnCids) -> [u8; OWN_CID_BYTES] {
        cids.generate_cid()[..].try_into().unwrap()
    }

    #[test]
    fn own_ids_are_recognised_and_others_are_not() {
        let mut own = OwnCids::default();
        let other = OwnCids::default();
        let cid = made(&mut own);
        assert_eq!(own.clone().shard(&cid), Some(0));
        assert_eq!(other.shard(&cid), None);
        assert!(own.validate(&ConnectionId::new(&cid)).is_err());
    }

    #[test]
    fn an_id_names_the_shard_it_was_made_for_to_every_socket_of_the_process() {
        for shards in 1..=8 {
            let all = OwnCids::default().among(shards);
            for shard in 0..shards {
                let mut cids = all.clone().of(shard);
                assert!((0..200).all(|_| all.shard(&made(&mut cids)) == Some(shard)));
            }
        }
    }

    /// What an outsider sees of an id says nothing of the shard: under another key the ids of one
    /// shard name all.
    #[test]
    fn without_the_key_the_ids_of_a_shard_look_like_those_of_any() {
        const SHARDS: u32 = 4;
        let mut cids = OwnCids::default().among(SHARDS).of(2);
        let other = OwnCids::default().among(SHARDS).naming;
        let mut named = [0_u32; SHARDS as usize];
        for _ in 0..4_000 {
            let [a, b, c, d, ..] = made(&mut cids);
            named[other.shard([a, b, c, d]) as usize] += 1;
        }
        assert!(
            named.iter().all(|count| (800..1_200).contains(count)),
            "{named:?}"
        );
    }
}
