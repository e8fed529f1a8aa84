//! Hello: the first message on a link, both ways (security.md §3.7, amendments A11, C18).
//!
//! ```text
//! u16 length | version_min u16 | version_max u16 | boot u64 | incarnation u32 | alive_sig[64] |
//! unix_s u64 | observed family u8 (4|6) ip[4|16] port u16 | generation u32 | features u64 |
//! chain_len u16 | chain | proof[32]
//! ```
//! Big endian. `length` counts what follows it and is at most [`MAX_HELLO_BYTES`].

use std::net::{IpAddr, SocketAddr};

use super::alive::{Alive, Life, LifeState};
use super::id::{NodeId, Signature};

/// Longest Hello without its length.
pub const MAX_HELLO_BYTES: usize = 8 * 1024;
/// Protocol version this build speaks.
pub const VERSION: u16 = 1;
/// Feature bit of a dialler that wants to see who is here and is no member
/// ([`crate::mesh::observer`]). What it signs says that it left, so that nobody who got its Hello
/// can make others believe that it is here.
pub const OBSERVES: u64 = 1;

/// What a node says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest protocol version spoken.
    pub versions: (u16, u16),
    /// The sender's sign of life: boot, incarnation and its signature.
    pub alive: Alive,
    /// The sender's wall clock, seconds since the Unix epoch.
    pub unix_s: u64,
    /// Where the sender sees the receiver.
    pub observed: SocketAddr,
    /// Generation of the network's secret.
    pub generation: u32,
    /// Feature bits; unknown ones are ignored.
    pub features: u64,
    /// Capability chain; empty without roles.
    pub chain: Vec<u8>,
    /// Second proof of membership, over the TLS exporter (A11).
    pub proof: [u8; 32],
}

/// Why a Hello was refused. The link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Longer than allowed; known from the length alone.
    #[error("a Hello of {len} bytes was announced, at most {MAX_HELLO_BYTES} are read")]
    TooLong {
        /// Announced length.
        len: usize,
    },
    /// Ends early, has bytes left, or an unknown address family.
    #[error("a Hello does not decode")]
    Malformed,
    /// No common protocol version.
    #[error("the peer speaks protocol versions {min} to {max}, this program speaks {VERSION}")]
    Version {
        /// Lowest of the peer.
        min: u16,
        /// Highest of the peer.
        max: u16,
    },
}

impl Hello {
    /// Length and body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(192 + self.chain.len());
        body.extend_from_slice(&self.versions.0.to_be_bytes());
        body.extend_from_slice(&self.versions.1.to_be_bytes());
        body.extend_from_slice(&self.alive.boot.to_be_bytes());
        body.extend_from_slice(&self.alive.incarnation.to_be_bytes());
        body.extend_from_slice(&self.alive.signature.to_bytes());
        body.extend_from_slice(&self.unix_s.to_be_bytes());
        match self.observed.ip().to_canonical() {
            IpAddr::V4(ip) => {
                body.push(4);
                body.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                body.push(6);
                body.extend_from_slice(&ip.octets());
            }
        }
        body.extend_from_slice(&self.observed.port().to_be_bytes());
        body.extend_from_slice(&self.generation.to_be_bytes());
        body.extend_from_slice(&self.features.to_be_bytes());
        body.extend_from_slice(
            &u16::try_from(self.chain.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes(),
        );
        body.extend_from_slice(&self.chain);
        body.extend_from_slice(&self.proof);
        let mut bytes = u16::try_from(body.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes()
            .to_vec();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads the body of a Hello of `sender`, whose id TLS has proven.
    ///
    /// # Errors
    /// See [`HelloError`]. Proof and signature are checked by the caller, who has the keys.
    pub fn decode(sender: NodeId, body: &[u8]) -> Result<Self, HelloError> {
        if body.len() > MAX_HELLO_BYTES {
            return Err(HelloError::TooLong { len: body.len() });
        }
        let mut from = Reader(body);
        let versions = (from.u16()?, from.u16()?);
        let mut life = Life {
            node: sender,
            boot: from.u64()?,
            incarnation: from.u32()?,
            state: LifeState::Alive,
            signature: Signature::from(from.array::<64>()?),
        };
        let (unix_s, observed) = (from.u64()?, from.address()?);
        let (generation, features) = (from.u32()?, from.u64()?);
        if features & OBSERVES != 0 {
            life.state = LifeState::Leave;
        }
        let hello = Self {
            versions,
            alive: Alive::from(life),
            unix_s,
            observed,
            generation,
            features,
            chain: {
                let len = from.u16()?;
                from.take(usize::from(len))?.to_vec()
            },
            proof: from.array()?,
        };
        if !from.0.is_empty() {
            return Err(HelloError::Malformed);
        }
        if !(versions.0..=versions.1).contains(&VERSION) {
            return Err(HelloError::Version {
                min: versions.0,
                max: versions.1,
            });
        }
        Ok(hello)
    }

    /// Whether the sender only looks on.
    pub fn observes(&self) -> bool {
        self.features & OBSERVES != 0
    }
}

/// Takes fields off the front; running out is [`HelloError::Malformed`].
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], HelloError> {
        let (field, rest) = self.0.split_at_checked(len).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HelloError> {
        self.take(N)?.try_into().map_err(|_| HelloError::Malformed)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, HelloError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, HelloError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn address(&mut self) -> Result<SocketAddr, HelloError> {
        let ip = match self.array::<1>()? {
            [4] => IpAddr::from(self.array::<4>()?),
            [6] => IpAddr::from(self.array::<16>()?),
            _ => return Err(HelloError::Malformed),
        };
        // `::ffff:a.b.c.d` is family 4 on both sides (A1).
        Ok(SocketAddr::new(ip.to_canonical(), self.u16()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::entry::NetworkId;
    use crate::mesh::id::Identity;

    fn sample(observed: &str) -> Hello {
        let identity = Identity::from_seed(&[1; 32]);
        Hello {
            versions: (1, 1),
            alive: Alive::sign(NetworkId([5; 16]), &identity, 9, 2, LifeState::Alive),
            unix_s: 1_700_000_000,
            observed: observed.parse().unwrap(),
            generation: 0,
            features: 0,
            chain: vec![],
            proof: [7; 32],
        }
    }

    #[test]
    fn a_hello_reads_as_it_was_written() {
        for observed in ["192.0.2.1:7717", "[2001:db8::1]:1"] {
            let hello = sample(observed);
            let bytes = hello.encode();
            assert_eq!(Hello::decode(hello.alive.node, &bytes[2..]), Ok(hello));
        }
    }

    #[test]
    fn a_hello_cut_anywhere_or_followed_by_bytes_is_refused() {
        let hello = sample("192.0.2.1:7717");
        let bytes = hello.encode();
        for cut in 2..bytes.len() {
            assert_eq!(
                Hello::decode(hello.alive.node, &bytes[2..cut]),
                Err(HelloError::Malformed)
            );
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(
            Hello::decode(hello.alive.node, &longer[2..]),
            Err(HelloError::Malformed)
        );
    }

    #[test]
    fn who_looks_on_signs_that_it_is_gone() {
        let mut hello = sample("192.0.2.1:7717");
        hello.features = OBSERVES;
        let read = Hello::decode(hello.alive.node, &hello.encode()[2..]).unwrap();
        assert!(read.observes() && read.alive.state == LifeState::Leave);
        assert!(
            !read.alive.verify(NetworkId([5; 16])),
            "a sign of life passes for an observer's word"
        );
    }

    #[test]
    fn another_protocol_is_named() {
        let mut hello = sample("192.0.2.1:7717");
        hello.versions = (2, 3);
        let bytes = hello.encode();
        assert_eq!(
            Hello::decode(hello.alive.node, &bytes[2..]),
            Err(HelloError::Version { min: 2, max: 3 })
        );
    }
}
