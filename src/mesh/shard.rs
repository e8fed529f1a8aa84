//! How many threads of a node carry bytes, and which of them a connection id names.
//!
//! A connection stays on one thread, its shard. The kernel spreads datagrams by addresses, which
//! may change; the connection id does not, so it names the shard.

use std::num::NonZeroU32;

/// Tasks that a thread runs between two looks at its sockets. Those of a bulk transfer carry 256
/// KiB each: with tokio's 61, a request beside it would wait for milliseconds at every node.
pub const TASKS_BETWEEN_LOOKS: u32 = 16;
/// Shards that a node has at most.
pub const MAX_SHARDS: u32 = 64;
/// Up to so many cores one thread is best: measured on two, a second one costs more for waking
/// and moving than it carries.
const CORES_OF_ONE: u32 = 3;
/// Shards that nobody has asked for. The servers and clients beside them need cores as well.
const MOST_BY_CORES: u32 = 8;

/// How many shards a node has on a machine with so many cores, unless it was told.
pub fn by_cores(cores: NonZeroU32) -> NonZeroU32 {
    let cores = cores.get();
    let shards = match cores <= CORES_OF_ONE {
        true => 1,
        false => (cores / 2).min(MOST_BY_CORES),
    };
    NonZeroU32::new(shards).unwrap_or(NonZeroU32::MIN)
}

/// How the 4 random bytes of a connection id name a shard. It is keyed, so that two ids of a
/// connection that has moved do not tell others that they belong together; and it keeps to the
/// arithmetic of packet filters, so that the kernel can do the same.
#[derive(Clone, Copy)]
pub struct Naming {
    keys: [u32; 3],
    shards: u32,
}

impl Naming {
    /// Bits by which a product is moved to stir its lower half.
    pub const FOLD: u32 = 16;

    /// A naming of 1 to [`MAX_SHARDS`] shards, keyed with `random`.
    pub fn new(random: [u32; 3], shards: u32) -> Self {
        let [start, first, second] = random;
        Self {
            // To multiply by an odd number loses nothing.
            keys: [start, first | 1, second | 1],
            shards: shards.clamp(1, MAX_SHARDS),
        }
    }

    /// The same keys, for another number of shards.
    pub fn among(self, shards: u32) -> Self {
        Self::new(self.keys, shards)
    }

    /// What the random bytes are mixed with: added bit by bit, multiplied, multiplied.
    pub fn keys(&self) -> [u32; 3] {
        self.keys
    }

    /// How many shards there are.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The shard that the random bytes of an id name.
    pub fn shard(&self, random: [u8; 4]) -> u32 {
        if self.shards == 1 {
            return 0;
        }
        let [start, first, second] = self.keys;
        let mixed = (u32::from_be_bytes(random) ^ start).wrapping_mul(first);
        let mixed = (mixed ^ (mixed >> Self::FOLD)).wrapping_mul(second);
        (mixed >> Self::FOLD) % self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_cores_have_one_shard_and_many_leave_half_for_others() {
        let by_cores = |cores| by_cores(NonZeroU32::new(cores).unwrap()).get();
        let some = [1, 2, 3, 4, 5, 6, 8, 16, 17, 128];
        assert_eq!(some.map(by_cores), [1, 1, 1, 2, 2, 3, 4, 8, 8, 8]);
    }

    /// A packet filter in the kernel does the same sum: it must not change on one side.
    #[test]
    fn golden_names() {
        let naming = |shards| Naming::new([0x0123_4567, 0x9e37_79b1, 0x85eb_ca6b], shards);
        let all = [[0; 4], [1, 2, 3, 4], [0xff; 4], [0xde, 0xad, 0xbe, 0xef]];
        assert_eq!(all.map(|random| naming(8).shard(random)), [1, 0, 6, 4]);
        assert_eq!(all.map(|random| naming(1).shard(random)), [0; 4]);
        assert_eq!(naming(1).among(8).shard(all[2]), 6);
    }

    #[test]
    fn ids_are_spread_over_all_shards_and_another_key_spreads_them_otherwise() {
        for shards in 2..=MAX_SHARDS {
            let mut named = vec![0_u32; shards as usize];
            let keyed = Naming::new([1, 0x9e37_79b1, 0x85eb_ca6b], shards);
            let other = Naming::new([2, 0x7feb_352d, 0x846c_a68b], shards);
            let mut same = 0;
            let all = 1_000 * shards;
            for random in (0..all).map(u32::to_be_bytes) {
                named[keyed.shard(random) as usize] += 1;
                same += u32::from(keyed.shard(random) == other.shard(random));
            }
            let even = |count: &u32| (800..1_200).contains(count);
            assert!(named.iter().all(even), "{named:?}");
            assert!(
                (700..1_300).contains(&same),
                "{same} of {all} with {shards}"
            );
        }
    }
}
