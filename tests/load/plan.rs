//! What one stream is to do. Both ends know it from its first bytes.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};

/// Bytes of an encoded plan.
pub(crate) const PLAN_BYTES: usize = 41;

/// One in so many sizes may be up to the greatest; were they more, they would be all there is.
const RARELY: u32 = 300;

/// Sizes from 0 to 2^`usual`, and rarely to 2^`most`; small ones are as likely as large ones.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) usual: u8,
    pub(crate) most: u8,
}

impl Size {
    pub(crate) fn up_to(bits: u8) -> Self {
        Self {
            usual: bits.min(20),
            most: bits,
        }
    }

    fn pick(self, rng: &mut impl Rng) -> u64 {
        let bits = match rng.random_ratio(1, RARELY) {
            true => self.most,
            false => self.usual,
        };
        let exponent = rng.random_range(0.0..=f64::from(bits));
        // 2^0 - 1: nothing at all is a size as well.
        (exponent.exp2() as u64) - 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Client,
    Server,
}

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    /// What its bytes and its pauses follow from.
    pub(crate) seed: u64,
    /// Bytes of the client, if nobody resets.
    pub(crate) up: u64,
    /// Bytes of the server, if nobody resets.
    pub(crate) down: u64,
    /// Who resets the connection instead of ending it, after so many bytes of its own.
    pub(crate) resets: Option<(Who, u64)>,
}

impl Plan {
    pub(crate) fn new(rng: &mut SmallRng, id: u64, size: Size) -> Self {
        let (up, down) = (size.pick(rng), size.pick(rng));
        let resets = match rng.random_range(0..4) {
            0 => Some((Who::Client, rng.random_range(0..=up))),
            1 => Some((Who::Server, rng.random_range(0..=down))),
            _ => None,
        };
        Self {
            id,
            seed: rng.random(),
            up,
            down,
            resets,
        }
    }

    pub(crate) fn encode(&self) -> [u8; PLAN_BYTES] {
        let (who, at) = match self.resets {
            None => (0, 0),
            Some((Who::Client, at)) => (1, at),
            Some((Who::Server, at)) => (2, at),
        };
        let mut bytes = [0; PLAN_BYTES];
        bytes[0] = who;
        for (part, number) in [self.id, self.seed, self.up, self.down, at]
            .iter()
            .enumerate()
        {
            bytes[1 + part * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; PLAN_BYTES]) -> Self {
        let number = |part: usize| {
            let from = &bytes[1 + part * 8..][..8];
            u64::from_be_bytes(from.try_into().unwrap())
        };
        Self {
            id: number(0),
            seed: number(1),
            up: number(2),
            down: number(3),
            resets: match bytes[0] {
                1 => Some((Who::Client, number(4))),
                2 => Some((Who::Server, number(4))),
                _ => None,
            },
        }
    }

    /// What `who` sends: how many bytes, and whether it resets behind them.
    pub(crate) fn part(&self, who: Who) -> (u64, bool) {
        match (self.resets, who) {
            (Some((resets, at)), _) if resets == who => (at, true),
            (_, Who::Client) => (self.up, false),
            (_, Who::Server) => (self.down, false),
        }
    }
}

/// Writes the bytes that a side sends from `at` on: no period that a repeated or lost block could
/// hide in.
pub(crate) fn fill(seed: u64, at: u64, into: &mut [u8]) {
    let mut word = u64::MAX;
    let mut bytes = [0; 8];
    for (offset, byte) in (at..).zip(into) {
        if word != offset / 8 {
            word = offset / 8;
            let mixed = (seed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bytes = (mixed ^ mixed >> 29).to_le_bytes();
        }
        *byte = bytes[(offset % 8) as usize];
    }
}
