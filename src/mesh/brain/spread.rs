//! Spreading: news goes to every neighbour that did not tell it; reconciliation repairs what was
//! missed.
//!
//! Small entries are sent whole: what each node sends is bounded by its few neighbours, and no
//! round trip stands between a write and its last reader. Large ones are offered by id and
//! fetched from whoever offers first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Brain, Effect, Save};
use crate::mesh::alive::Alive;
use crate::mesh::close::CloseCode;
use crate::mesh::entry::{Class, Draft, Entry, EntryError, ItemId};
use crate::mesh::event::What;
use crate::mesh::floor::Floor;
use crate::mesh::id::NodeId;
use crate::mesh::ledger::{Merge, Refusal};
use crate::mesh::members::LinkId;
use crate::mesh::name::{Bucket, Name};
use crate::mesh::records::{NODE_BUCKET, NODE_KEY, NodeRecord, is_node_record};
use crate::mesh::suspicion::Suspicion;
use crate::mesh::time::Now;
use crate::mesh::wire::{
    Frame, MAX_ALIVE, MAX_FLOORS_SENT, MAX_OFFERED, MAX_SUSPECTED, UNANSWERED, entry_frames,
};

/// Values up to this are pushed, larger ones offered.
const PUSHED_BYTES: usize = 1024;
/// Ids kept per link of what was offered on it.
const MAX_OFFERS_KEPT: usize = 1024;
/// Entries being fetched; what is offered beyond waits for a reconciliation.
const MAX_FETCHES: usize = 1024;
/// ... of which one peer's offers are at most this many: who offers what it never gives must not
/// keep others from offering.
const MAX_FETCHES_PER_PEER: usize = MAX_FETCHES / 4;
/// Other peers that offered the same.
const MAX_OFFERERS: usize = 4;
/// An entry asked for is asked for elsewhere after this.
const FETCH_LASTS: Duration = Duration::from_secs(1);
/// Entries with bad signatures after which their bearer is cut off. An honest node checks before
/// it passes on, so even one is a defect or an attack.
const MAX_BAD_ENTRIES: u32 = 16;

/// What is to be told at the end of this call, and what is being fetched.
#[derive(Default)]
pub(super) struct News {
    items: Vec<(Option<NodeId>, Item)>,
    fetches: BTreeMap<ItemId, Fetch>,
}

/// Anything that was signed, as it is told or reconciled.
#[derive(Clone)]
pub(super) enum Item {
    Alive(Alive),
    Suspicion(Suspicion),
    Entry(Entry),
    Floor(Floor),
}

/// What one link is sent at once.
#[derive(Default)]
pub(super) struct Batch {
    alive: Vec<Alive>,
    doubts: Vec<Suspicion>,
    entries: Vec<Entry>,
    offers: Vec<ItemId>,
    floors: Vec<Floor>,
}

impl Batch {
    pub(super) fn add(&mut self, item: Item) {
        match item {
            Item::Alive(word) => self.alive.push(word),
            Item::Suspicion(doubt) => self.doubts.push(doubt),
            Item::Entry(entry) => self.entries.push(entry),
            Item::Floor(floor) => self.floors.push(floor),
        }
    }
}

struct Fetch {
    asked: Duration,
    /// Who was asked.
    of: NodeId,
    /// Who else offered it, and where.
    others: Vec<(NodeId, LinkId)>,
}

impl Fetch {
    fn of(now: Now, from: NodeId) -> Self {
        Self {
            asked: now.mono,
            of: from,
            others: Vec::new(),
        }
    }

    fn offered_by(&mut self, peer: NodeId, link: LinkId) {
        let known = self.of == peer || self.others.iter().any(|(other, _)| *other == peer);
        if !known && self.others.len() < MAX_OFFERERS {
            self.others.push((peer, link));
        }
    }
}

impl News {
    /// A sign of life is news; `from` whom it came knows it.
    pub(super) fn alive(&mut self, from: Option<NodeId>, alive: Alive) {
        self.items.push((from, Item::Alive(alive)));
    }

    pub(super) fn suspicion(&mut self, from: Option<NodeId>, suspicion: Suspicion) {
        self.items.push((from, Item::Suspicion(suspicion)));
    }

    pub(super) fn floor(&mut self, from: Option<NodeId>, floor: Floor) {
        self.items.push((from, Item::Floor(floor)));
    }

    pub(super) fn entry(&mut self, from: Option<NodeId>, entry: Entry) {
        self.items.push((from, Item::Entry(entry)));
    }

    /// Nothing is told: nobody could hear it, or everybody was told otherwise.
    pub(super) fn clear(&mut self) {
        self.items.clear();
    }
}

impl Brain {
    pub(super) fn frame(&mut self, now: Now, link: LinkId, frame: Frame) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let from = state.peer;
        #[allow(clippy::cast_precision_loss)] // a frame holds far fewer than 2^52 items
        let cost = items_in(&frame) as f64;
        if !state.rate.take(now.mono, cost) {
            self.count("flood");
            self.effects.push_back(Effect::Close {
                link,
                code: CloseCode::Flood,
            });
            return;
        }
        match frame {
            Frame::Ping(UNANSWERED) => self.detector.ping_along(now.mono),
            Frame::Ping(number) => self.send(link, Frame::Pong(number)),
            Frame::Pong(_) => {}
            Frame::Alive(all) => {
                for alive in all {
                    self.take_alive(now, Some(from), alive);
                }
            }
            Frame::Suspicions(all) => {
                for suspicion in all {
                    self.take_suspicion(now, Some(from), suspicion);
                }
            }
            Frame::Entries(entries) => {
                self.sessions.brought(now.mono, link);
                for entry in entries {
                    self.take_entry(now, Some(link), entry);
                }
            }
            Frame::SyncOpen(open) => self.answer_sync(now, link, open),
            Frame::Sync(message) => self.continue_sync(link, &message),
            Frame::Want(want) => self.send_wanted(link, want.session, &want.ids),
            Frame::SyncDone { session, fresh } => self.sync_done(now, link, session, fresh),
            Frame::Neighbour(wanted) => self.take_neighbour(now, link, wanted),
            Frame::Digest(digest) => self.take_digest(now, link, digest),
            Frame::Floors(floors) => {
                for floor in floors {
                    self.take_floor(now, Some(from), floor);
                }
            }
            Frame::Offer(ids) => self.take_offer(now, link, from, ids),
            Frame::Fetch(ids) => self.send_offered(link, &ids),
            Frame::Unknown { .. } => self.count("unknown_kind"),
        }
    }

    /// Merges an entry: verified first unless it is this node's own, saved if durable, and passed
    /// on if it was news.
    pub(super) fn take_entry(&mut self, now: Now, from: Option<LinkId>, entry: Entry) {
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
            self.dirty.bucket(entry.slot.bucket.clone());
        }
        self.effects.push_back(Effect::Event(What::ledger(&entry)));
        self.sessions.changed(now.mono);
        let id = entry.id(self.network);
        self.news.fetches.remove(&id);
        let teller = from
            .and_then(|link| self.links.get(&link))
            .map(|link| link.peer);
        self.news.items.push((teller, Item::Entry(entry)));
    }

    fn refuse_entry(&mut self, now: Now, entry: &Entry, refusal: Refusal) {
        // An id that its author did not sign would only push others out of what is remembered.
        if entry.verify(self.network).is_ok() {
            self.ledger.note_refused(entry, refusal, now);
        }
        self.count(refusal_word(refusal));
    }

    fn bad_entry(&mut self, link: LinkId, error: EntryError) {
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
        let id = entry.slot.author;
        let record = NodeRecord::from_value(&entry.value);
        let Some(member) = self.members.get_mut(&id) else {
            return self.dirty.node(id);
        };
        let mut worth_keeping = false;
        if let Some(record) = &record {
            worth_keeping = member.name.as_ref() != Some(&record.name);
            member.name = Some(record.name.clone());
            if member.learn(&record.addresses) {
                worth_keeping = true;
                member.backoff.hope(now.mono);
                member.be_courteous(self.me, now.mono);
            }
        }
        member.record = record;
        if worth_keeping {
            // Whoever is known may be the one through whom this node finds the others again.
            self.save_peer(id);
        }
        self.place(id);
        self.dirty.node(id);
        self.touch_services_of(id);
    }

    /// Sends what is new to everybody who should hear it from here.
    pub(super) fn tell_news(&mut self) {
        if self.news.items.is_empty() {
            return;
        }
        let mut news = std::mem::take(&mut self.news.items);
        // What brings a newcomer up to date is news to nobody else.
        let known = self.brings();
        news.retain(|(from, _)| from.is_none() || *from != known);
        let near = self.news_links();
        self.tell_own_alive(&near, &news);
        for (link, peer) in near {
            let mut batch = Batch::default();
            for (_, item) in news.iter().filter(|(from, _)| *from != Some(peer)) {
                match item {
                    Item::Entry(entry) if entry.value.len() > PUSHED_BYTES => {
                        batch.offers.push(entry.id(self.network));
                    }
                    item => batch.add(item.clone()),
                }
            }
            self.send_batch(link, batch);
        }
    }

    /// This node's own sign of life goes over every link: whoever doubted it may be nobody's
    /// neighbour here, having just dialled across a cut.
    fn tell_own_alive(&mut self, told: &[(LinkId, NodeId)], news: &[(Option<NodeId>, Item)]) {
        let me = self.me;
        let mine = |(_, item): &(_, Item)| matches!(item, Item::Alive(word) if word.node == me);
        if !news.iter().any(mine) {
            return;
        }
        let others = self
            .links
            .keys()
            .filter(|id| told.iter().all(|(link, _)| link != *id));
        let others: Vec<LinkId> = others.copied().collect();
        for link in others {
            self.send(link, Frame::Alive(vec![self.alive.clone()]));
        }
    }

    /// Signs of life first: live entries are void without them. Floors last: one that came before
    /// what its author signed anew would be loss of data.
    pub(super) fn send_batch(&mut self, link: LinkId, batch: Batch) {
        for some in batch.alive.chunks(MAX_ALIVE) {
            self.send(link, Frame::Alive(some.to_vec()));
        }
        for some in batch.doubts.chunks(MAX_SUSPECTED) {
            self.send(link, Frame::Suspicions(some.to_vec()));
        }
        self.send_entries(link, batch.entries);
        self.offer(link, &batch.offers);
        for some in batch.floors.chunks(MAX_FLOORS_SENT) {
            self.send(link, Frame::Floors(some.to_vec()));
        }
    }

    fn offer(&mut self, link: LinkId, ids: &[ItemId]) {
        if let Some(state) = self.links.get_mut(&link) {
            state.offered.extend(ids);
            let excess = state.offered.len().saturating_sub(MAX_OFFERS_KEPT);
            state.offered.drain(..excess);
        }
        for some in ids.chunks(MAX_OFFERED) {
            self.send(link, Frame::Offer(some.to_vec()));
        }
    }

    fn take_offer(&mut self, now: Now, link: LinkId, from: NodeId, ids: Vec<ItemId>) {
        let mut fetch = Vec::new();
        let fetches = &mut self.news.fetches;
        let mut of_this = fetches.values().filter(|fetch| fetch.of == from).count();
        for id in ids {
            if self.ledger.by_id(&id).is_some() || self.ledger.is_refused(&id, now) {
                continue;
            }
            let room = fetches.len() < MAX_FETCHES && of_this < MAX_FETCHES_PER_PEER;
            match fetches.get_mut(&id) {
                Some(under_way) => under_way.offered_by(from, link),
                None if room => {
                    fetches.insert(id, Fetch::of(now, from));
                    of_this += 1;
                    fetch.push(id);
                }
                None => {}
            }
        }
        if !fetch.is_empty() {
            self.send(link, Frame::Fetch(fetch));
        }
    }

    /// Each entry that was offered on a link is given on it once: a few bytes that repeat an id
    /// must not bring back megabytes.
    fn send_offered(&mut self, link: LinkId, ids: &[ItemId]) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let mut wanted = Vec::new();
        for id in ids {
            if let Some(at) = state.offered.iter().position(|offered| offered == id) {
                state.offered.remove(at);
                wanted.push(*id);
            }
        }
        let entries = wanted
            .iter()
            .filter_map(|id| self.ledger.by_id(id).cloned());
        self.send_entries(link, entries.collect());
    }

    /// Whoever offered first may be gone: the next one is asked.
    pub(super) fn check_fetches(&mut self, now: Now) {
        let mut again = Vec::new();
        self.news.fetches.retain(|id, fetch| {
            if now.mono.saturating_sub(fetch.asked) < FETCH_LASTS {
                return true;
            }
            let Some((peer, link)) = fetch.others.pop() else {
                return false;
            };
            (fetch.asked, fetch.of) = (now.mono, peer);
            again.push((link, *id));
            true
        });
        for (link, id) in again {
            self.send(link, Frame::Fetch(vec![id]));
        }
    }

    pub(super) fn next_fetch(&self) -> Option<Duration> {
        let fetches = self.news.fetches.values();
        fetches.map(|fetch| fetch.asked + FETCH_LASTS).min()
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
            Ok(entry) => self.take_entry(now, None, entry),
            Err(_) => self.count("own_record"),
        }
    }

    /// Puts this node's record into the ledger.
    pub(super) fn publish_record(&mut self, now: Now) {
        let value = serde_json::to_vec(&self.record).ok();
        let bucket: Option<Bucket> = NODE_BUCKET.parse::<Name>().ok().map(Bucket::from);
        if let Some(bucket) = bucket {
            self.set_live(now, bucket, NODE_KEY.to_owned(), value);
        }
        // Who drains is not chosen for any of its services.
        self.touch_services_of(self.me);
    }
}

fn items_in(frame: &Frame) -> usize {
    match frame {
        Frame::Entries(entries) => 1 + entries.len(),
        Frame::Alive(alive) => 1 + alive.len(),
        Frame::Suspicions(all) => 1 + all.len(),
        Frame::Want(want) => 1 + want.ids.len(),
        Frame::Floors(floors) => 1 + floors.len(),
        Frame::Offer(ids) | Frame::Fetch(ids) => 1 + ids.len(),
        _ => 1,
    }
}

pub(super) fn refusal_word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Future => "future",
        Refusal::Boot => "wrong_boot",
        Refusal::AuthorFull => "author_full",
        Refusal::Full => "ledger_full",
        Refusal::Floor => "below_floor",
    }
}
