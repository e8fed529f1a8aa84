//! Reconciliation of two ledgers on one link: bytes follow the difference, not the size.
//!
//! Range-based set reconciliation (Meyer 2022) by crate `negentropy` over entry ids salted per
//! session (C24). The node that dialled the link opens the session, learns both differences, and
//! then sends what the other lacks and asks for what it lacks itself. Items are everything that was
//! signed: signs of life, suspicions, entries.
//!
//! ```text
//! opener                               answerer
//!   SyncOpen{session, salt, m0}  ──▶
//!                                ◀──   Sync{session, m1}
//!   Sync{session, m2}            ──▶        … until the opener has nothing to ask
//!   Entries(have) , Want(need)   ──▶
//!   SyncDone                     ──▶
//!                                ◀──   Entries(need), SyncDone
//! ```
//!
//! A first message that lists all that the opener holds ([`Listed`]) lets the answerer send what
//! is lacking before its answer, without a round trip and without ids. Both then reconcile the rest.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest;
use negentropy::{Id, Negentropy, NegentropyStorageVector};

use super::entry::ItemId;
use super::wire::{MAX_SYNC_BYTES, MAX_WANT_IDS, SyncMessage, SyncOpen, Want};

/// Rounds after which a session is given up: each round narrows ranges by 16, so an honest
/// peer needs at most a handful even for a million entries.
const MAX_ROUNDS: u32 = 64;
/// Below the frame's limit by the header of a message.
const MESSAGE_LIMIT: u64 = (MAX_SYNC_BYTES - 64) as u64;

/// Why a session ended early. The link stays; the next link-up tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The peer's message does not decode, or names another session.
    #[error("a reconciliation message does not fit its session")]
    Message,
    /// The peer keeps asking without end.
    #[error("a reconciliation did not end after {MAX_ROUNDS} rounds")]
    Endless,
}

/// One side of one session.
pub struct Session {
    number: u32,
    engine: Negentropy<'static, NegentropyStorageVector>,
    items: HashMap<ItemId, ItemId>,
    /// Opener: salted ids that it would refuse again.
    refused: HashSet<ItemId>,
    rounds: u32,
}

/// How a first message begins that is one list of ids: version, a bound beyond every item
/// (timestamp, length of an id), the mode.
const LIST: [u8; 4] = [0x61, 0, 0, 2];

/// Everything that the opener of a session holds, as its first message lists it.
pub struct Listed {
    salt: [u8; 16],
    ids: HashSet<ItemId>,
}

impl Listed {
    /// The list, if there is one: negentropy lists sets of fewer than 32 items, and splits others.
    pub fn of(open: &SyncOpen) -> Option<Self> {
        let (count, ids) = open.message.strip_prefix(&LIST)?.split_first()?;
        let (ids, rest) = ids.as_chunks::<32>();
        // From 128 on a count has two bytes.
        let whole = *count < 128 && ids.len() == usize::from(*count) && rest.is_empty();
        whole.then(|| Self {
            salt: open.salt,
            ids: ids.iter().map(|id| ItemId(*id)).collect(),
        })
    }

    /// Whether the opener lacks an item.
    pub fn lacks(&self, id: &ItemId) -> bool {
        !self.ids.contains(&salted(&self.salt, id))
    }
}

/// Kinds of items, in the order in which a session goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Signs of life and suspicions: live entries are void without their author's.
    Statement,
    /// Entries of the ledger.
    Entry,
}

/// What the opener does after a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Next message to send; `None` ends the session.
    pub reply: Option<SyncMessage>,
    /// Entries (unsalted ids) the peer lacks.
    pub send: Vec<ItemId>,
    /// What to ask the peer for.
    pub want: Vec<Want>,
}

impl Session {
    /// Opens a session over `items` and gives its first message. What is in `refused` is not asked
    /// for: the peer keeps it, and would send it in every session (C23).
    ///
    /// # Errors
    /// [`SyncError::Message`] if the engine refuses its own input, which it does not.
    pub fn open(
        number: u32,
        salt: [u8; 16],
        items: Vec<(Order, ItemId)>,
        refused: impl Iterator<Item = ItemId>,
    ) -> Result<(Self, SyncOpen), SyncError> {
        let mut session = Self::new(number, &salt, items)?;
        session.refused = refused.map(|id| salted(&salt, &id)).collect();
        let message = session.engine.initiate().map_err(|_| SyncError::Message)?;
        Ok((
            session,
            SyncOpen {
                session: number,
                salt,
                message,
            },
        ))
    }

    /// Answers an opening; the reply is the first message back.
    ///
    /// # Errors
    /// [`SyncError::Message`] for a message that does not decode.
    pub fn answer(
        open: &SyncOpen,
        items: Vec<(Order, ItemId)>,
    ) -> Result<(Self, SyncMessage), SyncError> {
        let mut session = Self::new(open.session, &open.salt, items)?;
        let reply = session.reply_to(&open.message)?;
        Ok((session, reply))
    }

    fn new(number: u32, salt: &[u8; 16], ids: Vec<(Order, ItemId)>) -> Result<Self, SyncError> {
        let mut storage = NegentropyStorageVector::with_capacity(ids.len());
        let mut items = HashMap::with_capacity(ids.len());
        for (order, id) in ids {
            let salted = salted(salt, &id);
            storage
                .insert(order as u64, Id::from_byte_array(salted.0))
                .map_err(|_| SyncError::Message)?;
            items.insert(salted, id);
        }
        storage.seal().map_err(|_| SyncError::Message)?;
        let engine = Negentropy::owned(storage, MESSAGE_LIMIT).map_err(|_| SyncError::Message)?;
        Ok(Self {
            number,
            engine,
            items,
            refused: HashSet::new(),
            rounds: 0,
        })
    }

    /// Number of the session on its link.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Answerer: the reply to a further message of the opener.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn reply_to(&mut self, message: &[u8]) -> Result<SyncMessage, SyncError> {
        self.count_round()?;
        let message = self
            .engine
            .reconcile(message)
            .map_err(|_| SyncError::Message)?;
        Ok(SyncMessage {
            session: self.number,
            message,
        })
    }

    /// Opener: what follows from the answerer's message.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn step(&mut self, message: &[u8]) -> Result<Step, SyncError> {
        self.count_round()?;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let reply = self
            .engine
            .reconcile_with_ids(message, &mut have, &mut need)
            .map_err(|_| SyncError::Message)?;
        let salted = |id: &Id| ItemId(*id.as_bytes());
        let wanted = need.iter().map(salted);
        let wanted: Vec<ItemId> = wanted.filter(|id| !self.refused.contains(id)).collect();
        Ok(Step {
            reply: reply.map(|message| SyncMessage {
                session: self.number,
                message,
            }),
            send: have
                .iter()
                .filter_map(|id| self.items.get(&salted(id)).copied())
                .collect(),
            want: wanted
                .chunks(MAX_WANT_IDS)
                .map(|ids| Want {
                    session: self.number,
                    ids: ids.to_vec(),
                })
                .collect(),
        })
    }

    /// The entries behind salted ids the peer asked for; unknown ids are left out. Each is given
    /// once per session: a few bytes that repeat one id must not bring back megabytes.
    pub fn wanted<'a>(&'a mut self, ids: &'a [ItemId]) -> impl Iterator<Item = ItemId> + 'a {
        ids.iter().filter_map(|id| self.items.remove(id))
    }

    fn count_round(&mut self) -> Result<(), SyncError> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            Err(SyncError::Endless)
        } else {
            Ok(())
        }
    }
}

fn salted(salt: &[u8; 16], id: &ItemId) -> ItemId {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(&id.0);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    ItemId(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn id(n: u32) -> ItemId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        ItemId(bytes)
    }

    fn items(ids: impl IntoIterator<Item = ItemId>) -> Vec<(Order, ItemId)> {
        ids.into_iter().map(|id| (Order::Entry, id)).collect()
    }

    /// Runs a whole session; returns (sent to b, sent to a, bytes exchanged).
    fn reconcile(
        a: &BTreeSet<ItemId>,
        b: &BTreeSet<ItemId>,
    ) -> (BTreeSet<ItemId>, BTreeSet<ItemId>, usize) {
        let (mut opener, open) =
            Session::open(1, [9; 16], items(a.iter().copied()), std::iter::empty()).unwrap();
        let mut bytes = open.message.len();
        let (mut answerer, mut reply) = Session::answer(&open, items(b.iter().copied())).unwrap();
        let (mut to_b, mut to_a) = (BTreeSet::new(), BTreeSet::new());
        loop {
            bytes += reply.message.len();
            let step = opener.step(&reply.message).unwrap();
            to_b.extend(step.send);
            for want in &step.want {
                to_a.extend(answerer.wanted(&want.ids));
            }
            let Some(next) = step.reply else { break };
            bytes += next.message.len();
            reply = answerer.reply_to(&next.message).unwrap();
        }
        (to_b, to_a, bytes)
    }

    #[test]
    fn both_sides_learn_exactly_their_difference() {
        let a: BTreeSet<_> = (0..3000).map(id).collect();
        let b: BTreeSet<_> = (10..3005).map(id).collect();
        let (to_b, to_a, bytes) = reconcile(&a, &b);
        assert_eq!(to_b, a.difference(&b).copied().collect());
        assert_eq!(to_a, b.difference(&a).copied().collect());
        assert!(
            bytes < 20_000,
            "cost follows the size, not the difference: {bytes}"
        );
    }

    #[test]
    fn who_holds_little_lists_it_and_whoever_answers_knows_what_it_lacks() {
        let none = std::iter::empty;
        for few in [0, 1, 31] {
            let (_, open) = Session::open(1, [9; 16], items((0..few).map(id)), none()).unwrap();
            let listed = Listed::of(&open).unwrap();
            assert!((0..few).all(|n| !listed.lacks(&id(n))) && listed.lacks(&id(few)));
            let cut = open.message[..open.message.len() - 1].to_vec();
            let message = [&open.message[..], &[0]].concat();
            for message in [cut, message] {
                let open = SyncOpen {
                    session: 1,
                    salt: [9; 16],
                    message,
                };
                assert!(Listed::of(&open).is_none());
            }
        }
        let (_, open) = Session::open(1, [9; 16], items((0..32).map(id)), none()).unwrap();
        assert!(Listed::of(&open).is_none());
    }

    #[test]
    fn a_large_difference_takes_several_frames_and_ends() {
        let (a, b) = ((0..20_000).map(id).collect(), BTreeSet::new());
        let (to_b, to_a, _) = reconcile(&a, &b);
        assert_eq!((to_b, to_a.len()), (a, 0));
    }

    #[test]
    fn what_was_refused_is_not_asked_for() {
        let refused = (0..10).chain(50..60).map(id);
        let held = items((20..40).map(id));
        let (mut opener, open) = Session::open(1, [9; 16], held, refused).unwrap();
        let (mut answerer, reply) = Session::answer(&open, items((0..30).map(id))).unwrap();
        let step = opener.step(&reply.message).unwrap();
        let wanted = step.want.iter().flat_map(|want| want.ids.clone());
        let wanted: Vec<ItemId> = wanted.collect();
        let given: BTreeSet<ItemId> = answerer.wanted(&wanted).collect();
        assert_eq!(given, (10..20).map(id).collect());
        let sent: BTreeSet<ItemId> = step.send.into_iter().collect();
        assert_eq!(sent, (30..40).map(id).collect());
    }

    #[test]
    fn an_entry_is_given_once_per_session_however_often_it_is_asked_for() {
        let (_, open) = Session::open(1, [9; 16], vec![], std::iter::empty()).unwrap();
        let (mut answerer, _) = Session::answer(&open, items((0..3).map(id))).unwrap();
        let ids = [salted(&[9; 16], &id(1)); 100];
        assert_eq!(answerer.wanted(&ids).collect::<Vec<_>>(), [id(1)]);
        assert_eq!(answerer.wanted(&ids).count(), 0);
    }

    #[test]
    fn nonsense_and_endless_peers_end_the_session_only() {
        let (mut opener, open) =
            Session::open(1, [0; 16], items((0..100).map(id)), std::iter::empty()).unwrap();
        assert_eq!(opener.step(&[1, 2, 3]), Err(SyncError::Message));
        let (mut answerer, _) = Session::answer(&open, vec![]).unwrap();
        let last = (0..=MAX_ROUNDS)
            .map(|_| answerer.reply_to(&open.message))
            .last()
            .unwrap();
        assert_eq!(last, Err(SyncError::Endless));
    }
}
