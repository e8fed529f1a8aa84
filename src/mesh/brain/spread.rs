//! Spreading: new entries go to peers at once, reconciliation repairs what was missed.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use super::{Brain, Effect, Save};
use crate::mesh::close::CloseCode;
use crate::mesh::entry::{Class, Draft, Entry, ItemId};
use crate::mesh::event::What;
use crate::mesh::ledger::{Merge, Refusal};
use crate::mesh::members::LinkId;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::records::{NODE_BUCKET, NODE_KEY, NodeRecord, is_node_record};
use crate::mesh::sync::{Session, Step};
use crate::mesh::time::Now;
use crate::mesh::wire::{Frame, SyncMessage, SyncOpen, entry_frames};

/// News from others is passed on to this many links; news of this node goes to all. Two nodes
/// that cannot link hear of each other only this way, and what one misses stays missed until its
/// next link-up: at 8, about one in three thousand; at 3 it was one in twenty.
const FANOUT: usize = 8;
/// Entries with bad signatures after which their bearer is cut off. An honest node checks before
/// it passes on, so even one is a defect or an attack.
const MAX_BAD_ENTRIES: u32 = 16;

impl Brain {
    pub(super) fn frame(&mut self, now: Now, rng: &mut impl Rng, link: LinkId, frame: Frame) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let cost = match &frame {
            Frame::Entries(entries) => 1 + entries.len(),
            Frame::Alive(alive) => 1 + alive.len(),
            Frame::Want(want) => 1 + want.ids.len(),
            _ => 1,
        };
        #[allow(clippy::cast_precision_loss)] // a frame holds far fewer than 2^52 items
        if !state.rate.take(now.mono, cost as f64) {
            self.count("flood");
            self.effects.push_back(Effect::Close {
                link,
                code: CloseCode::Flood,
            });
            return;
        }
        match frame {
            Frame::Ping(number) => self.send(link, Frame::Pong(number)),
            Frame::Pong(_) => {}
            Frame::Alive(all) => {
                for alive in all {
                    self.take_alive(now, rng, Some(link), alive);
                }
            }
            Frame::Entries(entries) => {
                for entry in entries {
                    self.take_entry(now, rng, Some(link), entry);
                }
            }
            Frame::SyncOpen(open) => self.answer_sync(link, &open),
            Frame::Sync(message) => self.continue_sync(link, &message),
            Frame::Want(want) => self.send_wanted(link, want.session, &want.ids),
            Frame::Unknown { .. } => self.count("unknown_kind"),
        }
    }

    /// Merges an entry: verified first unless it is this node's own, saved if durable, and passed
    /// on if it was news.
    pub(super) fn take_entry(
        &mut self,
        now: Now,
        rng: &mut impl Rng,
        from: Option<LinkId>,
        entry: Entry,
    ) {
        // Cheap answers first: a known or older entry costs no signature check.
        match self.ledger.check(&entry, now) {
            Merge::Taken { .. } | Merge::NoRoom { .. } => {}
            Merge::Known | Merge::Older => return,
            Merge::Refused(refusal) => return self.refuse_entry(now, &entry, refusal),
        }
        // Only this process signs for this node: an entry of its own that it does not hold is
        // from before a lost disk. It is kept; a live one would be of an older boot.
        if let Some(link) = from
            && let Err(error) = entry.verify(self.network)
        {
            return self.bad_entry(link, error);
        }
        let (evicted, fits) = match self.ledger.merge(entry.clone(), now) {
            Merge::Taken { evicted } => (evicted, true),
            Merge::NoRoom { evicted } => (evicted, false),
            Merge::Known | Merge::Older | Merge::Refused(_) => return,
        };
        for slot in evicted
            .into_iter()
            .filter(|slot| slot.class == Class::Durable)
        {
            self.effects.push_back(Effect::Save(Save::Drop(slot)));
        }
        if !fits {
            return self.refuse_entry(now, &entry, Refusal::AuthorFull);
        }
        if entry.slot.class == Class::Durable && from.is_some() {
            self.effects
                .push_back(Effect::Save(Save::Entry(entry.clone())));
        }
        if entry.slot.class == Class::Live {
            self.note_record(now, &entry);
            self.view_dirty = true;
        }
        self.effects.push_back(Effect::Event(What::ledger(&entry)));
        self.pass_on(rng, from, &Frame::Entries(vec![entry]));
    }

    fn refuse_entry(&mut self, now: Now, entry: &Entry, refusal: Refusal) {
        self.ledger.note_refused(entry, refusal, now);
        self.count(refusal_word(refusal));
    }

    fn bad_entry(&mut self, link: LinkId, error: crate::mesh::entry::EntryError) {
        use crate::mesh::entry::EntryError;
        self.count(match error {
            EntryError::Signature => "bad_signature",
            EntryError::Key | EntryError::Value { .. } | EntryError::Shape => "bad_entry",
        });
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.bad_entries += 1;
        if state.bad_entries == MAX_BAD_ENTRIES {
            self.effects.push_back(Effect::Close {
                link,
                code: CloseCode::Protocol,
            });
        }
    }

    /// Reads what a node says of itself out of its record.
    fn note_record(&mut self, now: Now, entry: &Entry) {
        if !is_node_record(&entry.slot.bucket, &entry.slot.key) {
            return;
        }
        let record = NodeRecord::from_value(&entry.value);
        let Some(member) = self.members.get_mut(&entry.slot.author) else {
            return;
        };
        if let Some(record) = &record {
            let renamed = member.name.as_ref() != Some(&record.name);
            member.name = Some(record.name.clone());
            if member.learn(&record.addresses) {
                member.backoff.hope(now.mono);
                member.be_courteous(self.me, now.mono);
            }
            if renamed && !member.links.is_empty() {
                let id = member.id;
                self.save_peer(id);
            }
        }
        if let Some(member) = self.members.get_mut(&entry.slot.author) {
            member.record = record;
        }
    }

    /// News of this node goes to every link; news of others to a few, never back.
    pub(super) fn pass_on(&mut self, rng: &mut impl Rng, from: Option<LinkId>, frame: &Frame) {
        let back = from
            .and_then(|link| self.links.get(&link))
            .map(|link| link.peer);
        let others = self
            .links
            .iter()
            .filter(|(_, link)| Some(link.peer) != back);
        let others: Vec<LinkId> = others.map(|(id, _)| *id).collect();
        let chosen: Vec<LinkId> = match from {
            None => others,
            Some(_) => others.sample(rng, FANOUT).copied().collect(),
        };
        for link in chosen {
            self.send(link, frame.clone());
        }
    }

    pub(super) fn send_entries(&mut self, link: LinkId, entries: Vec<Entry>) {
        for frame in entry_frames(entries) {
            self.send(link, frame);
        }
    }

    /// Signs a live entry of this node and spreads it; `None` removes it.
    pub(super) fn set_live(
        &mut self,
        now: Now,
        rng: &mut impl Rng,
        bucket: Bucket,
        key: String,
        value: Option<Vec<u8>>,
    ) {
        self.live_version += 1;
        let draft = Draft {
            bucket,
            key,
            class: Class::Live,
            version: self.live_version,
            boot: self.boot,
            deleted: value.is_none(),
            value: value.unwrap_or_default(),
        };
        match Entry::sign(self.network, &self.identity, draft) {
            Ok(entry) => self.take_entry(now, rng, None, entry),
            Err(_) => self.count("own_record"),
        }
    }

    /// Puts this node's record into the ledger before any link is up.
    pub(super) fn publish_record(&mut self, now: Now) {
        // No link is up, so nothing is sent and no peer is chosen: chance decides nothing here.
        let mut rng = rand::rngs::SmallRng::seed_from_u64(0);
        self.publish_record_to(now, &mut rng);
    }

    pub(super) fn publish_record_to(&mut self, now: Now, rng: &mut impl Rng) {
        let value = serde_json::to_vec(&self.record).ok();
        let bucket: Option<Bucket> = NODE_BUCKET.parse::<Name>().ok().map(Bucket::from);
        if let Some(bucket) = bucket {
            self.set_live(now, rng, bucket, NODE_KEY.to_owned(), value);
        }
    }

    /// The node that dialled opens the reconciliation, so that there is one per link-up.
    pub(super) fn open_sync(&mut self, now: Now, rng: &mut impl Rng, link: LinkId) {
        let Some(state) = self
            .links
            .get_mut(&link)
            .filter(|state| state.dialled_by_me)
        else {
            return;
        };
        let opened = Session::open(
            1,
            rng.random(),
            self.ledger.ids(),
            self.ledger.refused_ids(now),
        );
        if let Ok((session, open)) = opened {
            state.sync = Some(session);
            self.send(link, Frame::SyncOpen(open));
        }
    }

    fn answer_sync(&mut self, link: LinkId, open: &SyncOpen) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        // One per link-up: an answer costs a hash per entry of the ledger.
        if std::mem::replace(&mut state.answered, true) {
            return self.count("bad_sync");
        }
        match Session::answer(open, self.ledger.ids()) {
            Ok((session, reply)) => {
                state.answering = Some(session);
                self.send(link, Frame::Sync(reply));
            }
            Err(_) => self.count("bad_sync"),
        }
    }

    fn continue_sync(&mut self, link: LinkId, message: &SyncMessage) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let fits = |session: &&mut Session| session.number() == message.session;
        if state.dialled_by_me {
            let Some(session) = state.sync.as_mut().filter(fits) else {
                return self.count("bad_sync");
            };
            match session.step(&message.message) {
                Ok(step) => self.take_step(link, step),
                Err(_) => {
                    state.sync = None;
                    self.count("bad_sync");
                }
            }
        } else {
            let Some(session) = state.answering.as_mut().filter(fits) else {
                return self.count("bad_sync");
            };
            match session.reply_to(&message.message) {
                Ok(reply) => self.send(link, Frame::Sync(reply)),
                Err(_) => {
                    state.answering = None;
                    self.count("bad_sync");
                }
            }
        }
    }

    fn take_step(&mut self, link: LinkId, step: Step) {
        let entries = self.entries_of(step.send.into_iter());
        self.send_entries(link, entries);
        for want in step.want {
            self.send(link, Frame::Want(want));
        }
        match step.reply {
            Some(reply) => self.send(link, Frame::Sync(reply)),
            // The opener is done; what it holds of the session is large and no longer needed.
            None => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.sync = None;
                }
            }
        }
    }

    fn send_wanted(&mut self, link: LinkId, number: u32, ids: &[ItemId]) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(session) = state.answering.as_mut().filter(|s| s.number() == number) else {
            return self.count("bad_sync");
        };
        let wanted: Vec<ItemId> = session.wanted(ids).collect();
        let entries = self.entries_of(wanted.into_iter());
        self.send_entries(link, entries);
    }

    fn entries_of(&self, ids: impl Iterator<Item = ItemId>) -> Vec<Entry> {
        ids.filter_map(|id| self.ledger.by_id(&id).cloned())
            .collect()
    }
}

fn refusal_word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Future => "future",
        Refusal::Boot => "wrong_boot",
        Refusal::AuthorFull => "author_full",
        Refusal::Full => "ledger_full",
        Refusal::Floor => "below_floor",
    }
}
