//! What an author signs: ledger entries (security amendment C20). Signs of life are in
//! [`alive`](super::alive).
//!
//! The bytes under a signature are built here and nowhere else; `schema/wire.md` shows them and
//! `schema/vectors/` holds examples that other implementations can check themselves against.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize, Serializer};

use super::id::{Identity, NodeId, Signature};
use super::name::Bucket;

/// Longest key of an entry, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 512;
/// Longest value of an entry, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

const ENTRY_LABEL: &[u8] = b"warren/1 entry\0";

/// A network's public name for signatures: a signature made in one network is void in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub [u8; 16]);

/// How long an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// While its author is alive in the boot that signed it; never on disk.
    Live = 0,
    /// Until removed; survives the restart of every node.
    Durable = 1,
}

/// Where an entry is: one slot holds one value. Live and durable entries never displace each
/// other, because their versions are not comparable (C23).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Bucket, for example `federated`.
    pub bucket: Bucket,
    /// Key inside the bucket, 1 to [`MAX_KEY_BYTES`] bytes.
    pub key: String,
    /// Who wrote it; only this node can.
    pub author: NodeId,
    /// Live or durable.
    pub class: Class,
}

/// A signed statement of one author about one slot: a handle to a [`Body`] that nothing can
/// change any more. Clones share it, and with it its id and that its signature was checked.
#[derive(Clone, Deserialize)]
#[serde(from = "Body")]
pub struct Entry(Arc<Shared>);

struct Shared {
    body: Body,
    memo: Memo,
}

/// What is found out once about signed bytes, by whichever clone asks first.
#[derive(Default)]
pub(super) struct Memo {
    /// The id in the first network that asked. A process keeps a statement for one network, so a
    /// second one computes it anew.
    id: OnceLock<(NetworkId, ItemId)>,
    /// Set once the signature was found good in the network of `id`, and never otherwise.
    verified: OnceLock<()>,
}

impl Memo {
    pub(super) fn is_verified(&self, network: NetworkId) -> bool {
        let known = self.id.get().filter(|(of, _)| *of == network);
        known.is_some() && self.verified.get().is_some()
    }

    /// `signed` is under a good signature. The id hashes the same bytes, and whoever checks a
    /// statement is about to ask for it.
    pub(super) fn set_verified(&self, network: NetworkId, signed: &[u8]) {
        let (of, _) = self.id.get_or_init(|| (network, item_id(signed)));
        if *of == network {
            self.verified.get_or_init(|| ());
        }
    }

    pub(super) fn id(&self, network: NetworkId, signed: impl Fn() -> Vec<u8>) -> ItemId {
        let compute = || item_id(&signed());
        match self.id.get_or_init(|| (network, compute())) {
            (of, id) if *of == network => *id,
            _ => compute(),
        }
    }
}

/// What an [`Entry`] says, and the signature under it. Only fields: whether they fit together
/// is [`Entry::verify`]'s question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Where it is.
    pub slot: Slot,
    /// Live: a counter within the author's boot. Durable: a hybrid logical clock,
    /// milliseconds since the Unix epoch times 65,536 plus a counter.
    pub version: u64,
    /// The author's boot for live entries, 0 for durable ones.
    pub boot: u64,
    /// A tombstone: the slot was removed at `version`.
    pub deleted: bool,
    /// At most [`MAX_VALUE_BYTES`]; empty in a tombstone.
    pub value: Vec<u8>,
    /// The author's, over [`Body::signed_bytes`].
    pub signature: Signature,
}

/// SHA-256 of a statement's signed bytes: what reconciliation names it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemId(pub [u8; 32]);

impl ItemId {
    /// The first eight bytes as a number, for sums over sets.
    pub fn prefix(&self) -> u64 {
        let first = self.0.iter().take(8);
        first.fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

/// Why an entry was refused. Nothing was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The key is empty, too long, or has control characters.
    #[error("an entry's key has 1 to {MAX_KEY_BYTES} bytes and no control characters")]
    Key,
    /// The value is too long.
    #[error("an entry's value is {len} bytes, at most {MAX_VALUE_BYTES} are kept")]
    Value {
        /// Bytes given.
        len: usize,
    },
    /// A tombstone with a value, a durable entry with a boot, or a live one without.
    #[error("an entry contradicts itself: tombstones have no value, only live entries have a boot")]
    Shape,
    /// The signature is not the author's over these bytes in this network.
    #[error("an entry's signature is not its author's")]
    Signature,
}

impl Entry {
    /// Makes and signs an entry of `identity`.
    ///
    /// # Errors
    /// Refuses keys and values outside the limits.
    pub fn sign(network: NetworkId, identity: &Identity, draft: Draft) -> Result<Self, EntryError> {
        let mut body = Body {
            slot: Slot {
                bucket: draft.bucket,
                key: draft.key,
                author: identity.id(),
                class: draft.class,
            },
            version: draft.version,
            boot: draft.boot,
            deleted: draft.deleted,
            value: draft.value,
            signature: Signature::from([0; 64]),
        };
        body.check_shape()?;
        body.signature = identity.sign(&body.signed_bytes(network));
        Ok(body.into())
    }

    /// Checks limits, shape and signature of an entry that came from anywhere else. What was
    /// found good in `network` is not checked there again, through whichever clone.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self, network: NetworkId) -> Result<(), EntryError> {
        if self.0.memo.is_verified(network) {
            return Ok(());
        }
        self.check_shape()?;
        let signed = self.signed_bytes(network);
        if !self.slot.author.verify(&signed, &self.signature) {
            return Err(EntryError::Signature);
        }
        self.0.memo.set_verified(network, &signed);
        Ok(())
    }

    /// The entry's name in reconciliation.
    pub fn id(&self, network: NetworkId) -> ItemId {
        self.0.memo.id(network, || self.signed_bytes(network))
    }
}

impl Deref for Entry {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.0.body
    }
}

impl From<Body> for Entry {
    fn from(body: Body) -> Self {
        Self(Arc::new(Shared {
            body,
            memo: Memo::default(),
        }))
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.body.serialize(serializer)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for Entry {}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Body {
    fn check_shape(&self) -> Result<(), EntryError> {
        let key = &self.slot.key;
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
            return Err(EntryError::Key);
        }
        if self.value.len() > MAX_VALUE_BYTES {
            return Err(EntryError::Value {
                len: self.value.len(),
            });
        }
        let boot_fits_class = (self.boot != 0) == (self.slot.class == Class::Live);
        if !boot_fits_class || (self.deleted && !self.value.is_empty()) {
            return Err(EntryError::Shape);
        }
        Ok(())
    }

    /// `"warren/1 entry\0" || network_id || author || class u8 || deleted u8 || boot u64 ||
    /// u8 len||bucket || u16 len||key || version u64 || u32 len||value` (C20), big endian.
    pub fn signed_bytes(&self, network: NetworkId) -> Vec<u8> {
        let slot = &self.slot;
        let (bucket, key) = (slot.bucket.as_str().as_bytes(), slot.key.as_bytes());
        let mut bytes = Vec::with_capacity(96 + bucket.len() + key.len() + self.value.len());
        bytes.extend_from_slice(ENTRY_LABEL);
        bytes.extend_from_slice(&network.0);
        bytes.extend_from_slice(slot.author.as_bytes());
        bytes.push(slot.class as u8);
        bytes.push(u8::from(self.deleted));
        bytes.extend_from_slice(&self.boot.to_be_bytes());
        // The lengths fit: a bucket is at most MAX_BUCKET_BYTES, key and value were checked.
        bytes.extend_from_slice(&u8::try_from(bucket.len()).unwrap_or(u8::MAX).to_be_bytes());
        bytes.extend_from_slice(bucket);
        bytes.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(
            &u32::try_from(self.value.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        bytes.extend_from_slice(&self.value);
        bytes
    }

    /// Merge order within one slot, (boot, version, deleted, SHA-256(value)): the greater wins.
    /// Total even against an author that signs two values under one version, so all nodes agree
    /// on which one stays (C20).
    pub fn cmp_rank(&self, other: &Self) -> Ordering {
        let stamp = |body: &Self| (body.boot, body.version, body.deleted);
        stamp(self)
            .cmp(&stamp(other))
            .then_with(|| sha256(&self.value).cmp(&sha256(&other.value)))
    }
}

/// What an author wants to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// See [`Slot::bucket`].
    pub bucket: Bucket,
    /// See [`Slot::key`].
    pub key: String,
    /// See [`Slot::class`].
    pub class: Class,
    /// See [`Body::version`].
    pub version: u64,
    /// See [`Body::boot`].
    pub boot: u64,
    /// See [`Body::deleted`].
    pub deleted: bool,
    /// See [`Body::value`].
    pub value: Vec<u8>,
}

pub(super) fn item_id(signed: &[u8]) -> ItemId {
    ItemId(sha256(signed))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([5; 16]);

    fn draft() -> Draft {
        Draft {
            bucket: "b".parse().unwrap(),
            key: "k".into(),
            class: Class::Durable,
            version: 7,
            boot: 0,
            deleted: false,
            value: b"v".to_vec(),
        }
    }

    #[test]
    fn every_signed_field_is_under_the_signature() {
        let author = Identity::from_seed(&[1; 32]);
        let good = Entry::sign(NETWORK, &author, draft()).unwrap();
        assert_eq!(good.verify(NETWORK), Ok(()));
        assert_eq!(good.verify(NetworkId([6; 16])), Err(EntryError::Signature));

        let other = Identity::from_seed(&[2; 32]).id();
        let changes: [fn(&mut Body, NodeId); 5] = [
            |e, _| e.slot.bucket = "c".parse().unwrap(),
            |e, _| e.slot.key = "l".into(),
            |e, other| e.slot.author = other,
            |e, _| e.version = 8,
            |e, _| e.value = b"w".to_vec(),
        ];
        for change in changes {
            let mut forged = Body::clone(&good);
            change(&mut forged, other);
            let forged = Entry::from(forged);
            assert_eq!(forged.verify(NETWORK), Err(EntryError::Signature));
        }
    }

    /// What one clone learnt holds for all, in that network only; a failure is never remembered
    /// as anything, and a changed body is another entry.
    #[test]
    fn a_good_signature_is_remembered_for_its_network_and_body_only() {
        let elsewhere = NetworkId([6; 16]);
        let author = Identity::from_seed(&[1; 32]);
        let good = Entry::sign(NETWORK, &author, draft()).unwrap();
        let clone = good.clone();
        for _ in 0..2 {
            assert_eq!(good.verify(elsewhere), Err(EntryError::Signature));
            assert_eq!(clone.verify(NETWORK), Ok(()));
        }
        let again = Entry::from(Body::clone(&good));
        assert_eq!(again.id(elsewhere), good.id(elsewhere));
        assert_eq!(again.id(NETWORK), good.id(NETWORK));
        assert_ne!(good.id(elsewhere), good.id(NETWORK));
        assert_eq!(again.verify(NETWORK), Ok(()));
        assert_eq!(again.verify(elsewhere), Err(EntryError::Signature));

        let mut forged = Body::clone(&good);
        forged.value.push(0);
        let forged = Entry::from(forged);
        assert_ne!(forged.id(NETWORK), good.id(NETWORK));
        assert_eq!(forged.verify(NETWORK), Err(EntryError::Signature));
    }

    #[test]
    fn the_handle_adds_nothing_to_the_wire() {
        let entry = Entry::sign(NETWORK, &Identity::from_seed(&[1; 32]), draft()).unwrap();
        let bytes = postcard::to_stdvec(&entry).unwrap();
        assert_eq!(bytes, postcard::to_stdvec(&*entry).unwrap());
        assert_eq!(postcard::from_bytes::<Entry>(&bytes).unwrap(), entry);
    }

    #[test]
    fn contradictions_are_refused_before_the_signature_is_read() {
        let author = Identity::from_seed(&[1; 32]);
        let mut with_boot = draft();
        with_boot.boot = 3;
        let mut full_tombstone = draft();
        full_tombstone.deleted = true;
        for wrong in [with_boot, full_tombstone] {
            assert_eq!(Entry::sign(NETWORK, &author, wrong), Err(EntryError::Shape));
        }
        let mut no_key = draft();
        no_key.key.clear();
        assert_eq!(Entry::sign(NETWORK, &author, no_key), Err(EntryError::Key));
        let mut huge = draft();
        huge.value = vec![0; MAX_VALUE_BYTES + 1];
        assert!(matches!(
            Entry::sign(NETWORK, &author, huge),
            Err(EntryError::Value { .. })
        ));
    }
}
