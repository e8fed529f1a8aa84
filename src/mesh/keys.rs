//! The key schedule: which keys follow from a network's secret, and what they prove.
//!
//! Pure arithmetic over HMAC-SHA256: no clock, no randomness, no I/O. `schema/wire.md` has the
//! layouts, `schema/vectors/keys.json` has examples, `tests/interop/keys.py` computes the same
//! from the layouts alone. This module refuses to hand out a key without the epoch it belongs to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use data_encoding::BASE32_NOPAD;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::entry::NetworkId;
use super::id::{Identity, NodeId};
use super::token::Token;

/// Bytes of the connection id a dial starts with: QUIC's longest.
pub const DCID_BYTES: usize = 20;
/// Random bytes at the start of a knock.
pub const NONCE_BYTES: usize = 12;
/// Bytes of MAC behind the nonce. Enough, because the Initial behind it is keyed as well.
pub const TAG_BYTES: usize = DCID_BYTES - NONCE_BYTES;
/// Bytes of the public name of a network, before base32.
pub const FINGERPRINT_BYTES: usize = 10;
/// Clocks may differ by one interval, but by no more than this, however long the interval (A6).
const MAX_SKEW_S: u32 = 9_000;

const NETWORK_SALT: &[u8] = b"warren/1 network";
const ID_LABEL: &[u8] = b"warren/1 id\0";
const FINGERPRINT_LABEL: &[u8] = b"warren/1 fingerprint\0";
const EPOCH_LABEL: &[u8] = b"warren/1 epoch\0";
const KNOCK_LABEL: &[u8] = b"warren/1 knock\0";
const INITIAL_LABEL: &[u8] = b"warren/1 initial\0";
const PROOF_LABEL: &[u8] = b"warren/1 proof\0";
const LAN_LABEL: &[u8] = b"warren/1 lan epoch\0";
const OBSERVER_SALT: &[u8] = b"warren/1 observer keys";
const OBSERVER_LABEL: &[u8] = b"warren/1 observer\0";

/// 32 secret bytes: compared in constant time, never printed, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever stores or uses them; never for a log.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same_bytes(&self.0, &other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// How long an epoch lasts: 1 second to 30 days. A value of this type is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u32);

/// Seconds that cannot be an [`Interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interval is 1 to {max} seconds (30 days), {seconds} were given", max = Interval::MAX_S)]
pub struct IntervalError {
    /// Seconds given.
    pub seconds: u32,
}

impl Interval {
    /// Longest interval in seconds: 30 days.
    pub const MAX_S: u32 = 2_592_000;
    /// Crypto interval of a new network, LocalAI's `--p2p-otp-interval`.
    pub const DEFAULT_CRYPTO: Self = Self(9_000);
    /// Discovery interval of a new network, LocalAI's `--p2p-dht-interval`.
    pub const DEFAULT_DISCOVERY: Self = Self(360);

    /// Checks and takes a number of seconds.
    ///
    /// # Errors
    /// Refuses 0 and anything above [`Interval::MAX_S`].
    pub fn new(seconds: u32) -> Result<Self, IntervalError> {
        if (1..=Self::MAX_S).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(IntervalError { seconds })
        }
    }

    /// Length in seconds, 1 to [`Interval::MAX_S`].
    pub fn seconds(self) -> u32 {
        self.0
    }
}

/// The epoch that `unix_s` (seconds since the Unix epoch) falls into.
pub fn epoch_of(unix_s: u64, interval: Interval) -> u64 {
    unix_s / u64::from(interval.0)
}

/// The epochs whose keys are accepted at `unix_s`: the current one first, then those of a clock
/// that is slow or fast by one interval or 2.5 hours, whichever is less (A6). At most three,
/// each once.
pub fn accepted_epochs(unix_s: u64, interval: Interval) -> impl Iterator<Item = u64> {
    let skew = u64::from(interval.0.min(MAX_SKEW_S));
    let now = epoch_of(unix_s, interval);
    let past = epoch_of(unix_s.saturating_sub(skew), interval);
    let future = epoch_of(unix_s.saturating_add(skew), interval);
    [
        Some(now),
        (past != now).then_some(past),
        (future != now).then_some(future),
    ]
    .into_iter()
    .flatten()
}

/// What a dial is bound to, so that a captured one opens nothing elsewhere (A1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The node that must answer. The normal case.
    Node(NodeId),
    /// The address that is dialled, where no id is known yet.
    Address(SocketAddr),
}

impl Target {
    /// Feeds a MAC with `id[32]`, or `0x02 || family u8 || ip || port u16`.
    ///
    /// There is no kind byte in front of ids: together with a nonce they make 44 bytes, addresses
    /// 20 or 32. A new kind must not make 44 bytes either.
    fn feed(&self, mac: &mut hmac::Context) {
        match self {
            Self::Node(id) => mac.update(id.as_bytes()),
            Self::Address(addr) => {
                // `::ffff:a.b.c.d` is the same place as a.b.c.d, and a scope id means something
                // on one machine only.
                match addr.ip().to_canonical() {
                    IpAddr::V4(ip) => {
                        mac.update(&[2, 4]);
                        mac.update(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        mac.update(&[2, 6]);
                        mac.update(&ip.octets());
                    }
                }
                mac.update(&addr.port().to_be_bytes());
            }
        }
    }
}

/// Who speaks in a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// The side that opened the connection.
    Dialler = 0,
    /// The side that was dialled.
    Answerer = 1,
}

/// Everything a Hello proof binds (A11).
#[derive(Clone, Copy)]
pub struct ProofInput {
    /// TLS exporter with the label `EXPORTER-warren/1 proof`, empty context.
    pub ekm: [u8; 32],
    /// Who makes the proof.
    pub role: Role,
    /// Identity of the side that dialled, as TLS authenticated it.
    pub dialler: NodeId,
    /// Identity of the side that was dialled, as TLS authenticated it.
    pub answerer: NodeId,
    /// The knock: the first destination connection id of the connection.
    pub dcid: [u8; DCID_BYTES],
    /// The network both sides believe to be in.
    pub network_id: NetworkId,
}

/// The keys of one network, from which those of each epoch follow.
#[derive(Clone)]
pub struct NetworkKeys {
    network_id: NetworkId,
    prk: hmac::Key,
    crypto: Interval,
    discovery: Interval,
}

impl NetworkKeys {
    /// Derives the keys of the token's generation.
    ///
    /// The network id follows from the first generation's secret and is constant for life; later
    /// generations carry it in the token (B12).
    pub fn new(token: &Token) -> Self {
        let prk = extract(NETWORK_SALT, token.secret());
        let (crypto, discovery) = (token.crypto_interval(), token.discovery_interval());
        let network_id = token.carried_network_id().unwrap_or_else(|| {
            let root = token.root().map_or([0; 32], |root| *root.as_bytes());
            let okm = expand(
                &prk,
                &[
                    ID_LABEL,
                    &root,
                    &crypto.seconds().to_be_bytes(),
                    &discovery.seconds().to_be_bytes(),
                ],
            );
            NetworkId(prefix(okm.expose()))
        });
        Self {
            network_id,
            prk,
            crypto,
            discovery,
        }
    }

    /// The network's name under signatures. Known to members only; never sent in clear.
    pub fn network_id(&self) -> NetworkId {
        self.network_id
    }

    /// The network's public name: 16 base32 characters that say nothing about the secret.
    pub fn fingerprint(&self) -> String {
        let digest = self.fingerprint_bytes();
        BASE32_NOPAD.encode(&digest).to_ascii_lowercase()
    }

    /// The public name before it is made text.
    pub fn fingerprint_bytes(&self) -> [u8; FINGERPRINT_BYTES] {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(FINGERPRINT_LABEL);
        hash.update(&self.network_id.0);
        prefix(hash.finish().as_ref())
    }

    /// The keys of a crypto epoch.
    pub fn epoch(&self, epoch: u64) -> EpochKeys {
        EpochKeys::new(epoch, &self.epoch_secret(epoch))
    }

    /// K_epoch, from which the three keys of an epoch follow.
    fn epoch_secret(&self, epoch: u64) -> Secret {
        expand(&self.prk, &[EPOCH_LABEL, &epoch.to_be_bytes()])
    }

    /// The AEAD key of LAN beacons in a discovery epoch (B16).
    pub fn lan_key(&self, discovery_epoch: u64) -> Secret {
        expand(&self.prk, &[LAN_LABEL, &discovery_epoch.to_be_bytes()])
    }

    /// How often the keys of dials change.
    pub fn crypto_interval(&self) -> Interval {
        self.crypto
    }

    /// How often the keys of discovery change.
    pub fn discovery_interval(&self) -> Interval {
        self.discovery
    }
}

impl fmt::Debug for NetworkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKeys({})", self.fingerprint())
    }
}

/// The keys of one crypto epoch.
#[derive(Clone)]
pub struct EpochKeys {
    epoch: u64,
    knock: hmac::Key,
    initial: hmac::Key,
    proof: hmac::Key,
}

impl EpochKeys {
    fn new(epoch: u64, secret: &Secret) -> Self {
        let prk = hmac_key(secret.expose());
        let derived = |label| hmac_key(expand(&prk, &[label]).expose());
        Self {
            epoch,
            knock: derived(KNOCK_LABEL),
            initial: derived(INITIAL_LABEL),
            proof: derived(PROOF_LABEL),
        }
    }

    /// The epoch these keys belong to.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The MAC behind the nonce of a knock at `target`.
    pub fn knock_tag(&self, nonce: &[u8; NONCE_BYTES], target: &Target) -> [u8; TAG_BYTES] {
        prefix(mac(&self.knock, nonce, target).as_ref())
    }

    /// The whole knock: `nonce || tag`, the first destination connection id of a dial.
    pub fn knock(&self, nonce: &[u8; NONCE_BYTES], target: &Target) -> [u8; DCID_BYTES] {
        let mut dcid = [0; DCID_BYTES];
        dcid[..NONCE_BYTES].copy_from_slice(nonce);
        dcid[NONCE_BYTES..].copy_from_slice(&self.knock_tag(nonce, target));
        dcid
    }

    /// Whether `dcid` is a knock at `target` made with these keys. Constant time.
    pub fn is_knock(&self, dcid: &[u8; DCID_BYTES], target: &Target) -> bool {
        let (nonce, tag) = dcid.split_at(NONCE_BYTES);
        let right = mac(&self.knock, nonce, target);
        same_bytes(&right.as_ref()[..TAG_BYTES], tag)
    }

    /// What stands in for the connection id where the keys of Initial packets are derived.
    pub fn initial_input(&self, dcid: &[u8; DCID_BYTES], target: &Target) -> [u8; DCID_BYTES] {
        prefix(mac(&self.initial, dcid, target).as_ref())
    }

    /// The proof of membership in Hello, made with the keys of the knock's epoch (A10, A11).
    pub fn proof(&self, input: &ProofInput) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.proof);
        mac.update(&input.ekm);
        mac.update(&[input.role as u8]);
        mac.update(input.dialler.as_bytes());
        mac.update(input.answerer.as_bytes());
        mac.update(&input.dcid);
        mac.update(&input.network_id.0);
        prefix(mac.sign().as_ref())
    }

    /// Whether `proof` is the one over `input`. Constant time.
    pub fn is_proof(&self, input: &ProofInput, proof: &[u8; 32]) -> bool {
        same_bytes(&self.proof(input), proof)
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKeys({})", self.epoch)
    }
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

fn mac(key: &hmac::Key, first: &[u8], target: &Target) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    mac.update(first);
    target.feed(&mut mac);
    mac.sign()
}

/// The key with which `explorer` looks at one network: the same each time, so that its members
/// see one observer; different for each network, so that two cannot tell that they see the same.
pub fn observer_identity(explorer: &Identity, network: NetworkId) -> Identity {
    let prk = extract(OBSERVER_SALT, &Secret::new(*explorer.seed()));
    let seed = expand(&prk, &[OBSERVER_LABEL, &network.0]);
    Identity::from_seed(seed.expose())
}

/// HKDF-Extract (RFC 5869 §2.2), ready to be the key of [`expand`].
fn extract(salt: &[u8], secret: &Secret) -> hmac::Key {
    let mut prk = prefix::<32>(hmac::sign(&hmac_key(salt), secret.expose()).as_ref());
    let key = hmac_key(&prk);
    prk.zeroize();
    key
}

/// The first block of HKDF-Expand (RFC 5869 §2.3): all that up to 32 bytes need, and unlike the
/// general function it cannot fail.
fn expand(prk: &hmac::Key, info: &[&[u8]]) -> Secret {
    let mut block = hmac::Context::with_key(prk);
    for part in info {
        block.update(part);
    }
    block.update(&[1]);
    Secret(prefix(block.sign().as_ref()))
}

/// The first `N` bytes of a hash, which has at least as many.
fn prefix<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&hash[..N]);
    out
}

#[cfg(test)]
mod tests;
