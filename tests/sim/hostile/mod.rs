//! A member that holds the token and lies. It may cost itself a link; it costs others nothing.

use warren::mesh::brain::MAX_MEMBERS;
use warren::mesh::entry::{Alive, Body, Class, Draft, Entry, ItemId, LifeState, NetworkId};
use warren::mesh::event::What;
use warren::mesh::id::Identity;
use warren::mesh::ledger::{MAX_AHEAD_MS, MAX_ENTRIES_PER_AUTHOR};
use warren::mesh::wire::{Frame, SyncMessage, SyncOpen, Want};

use crate::world::{NETWORK, World, ms, secs};

/// Two honest nodes, and a puppet with a link to the first.
struct Siege {
    world: World,
    puppet: usize,
    link: usize,
}

const VICTIM: usize = 0;
const WITNESS: usize = 1;
const BOOT: u64 = 1_800_000_000_000;

impl Siege {
    fn new() -> Self {
        let mut world = World::new(1);
        world.mesh(2);
        world.until("whole", secs(2), World::whole);
        let puppet = world.puppet();
        let hello = alive(&world.nodes[puppet].identity, BOOT, 0, LifeState::Alive);
        let link = world.puppet_link(puppet, VICTIM, hello);
        world.run(ms(100));
        let mut siege = Self {
            world,
            puppet,
            link,
        };
        siege.world.nodes[VICTIM].events.clear();
        siege.world.nodes[WITNESS].events.clear();
        siege
    }

    fn me(&self) -> &Identity {
        &self.world.nodes[self.puppet].identity
    }

    fn say(&mut self, frame: &Frame) {
        self.world.say(self.link, frame);
        self.world.run(ms(50));
    }

    fn refused(&self, reason: &str) -> u64 {
        self.world.refused(VICTIM, reason)
    }

    /// The honest nodes still see and serve each other, and nothing was disturbed.
    fn nobody_else_notices(mut self) {
        assert!(self.world.sees(VICTIM, WITNESS) && self.world.sees(WITNESS, VICTIM));
        self.world.put(VICTIM, "after", Some("v"));
        self.world.expose(WITNESS, "federated", true);
        self.world.run(secs(5));
        assert!(self.world.value(WITNESS, VICTIM, "after").is_some());
        assert_eq!(self.world.usable(VICTIM, "federated").len(), 1);
        assert!(self.world.whole());
        for node in [VICTIM, WITNESS] {
            let other = self.world.id(VICTIM + WITNESS - node);
            let down = |(_, what): &(_, What)| matches!(what, What::NodeDown { id, .. } | What::NodeLeft { id, .. } if *id == other);
            assert!(!self.world.nodes[node].events.iter().any(down));
        }
        assert_eq!(self.world.brain(WITNESS).refused().len(), 0);
    }
}

fn alive(identity: &Identity, boot: u64, incarnation: u32, state: LifeState) -> Alive {
    Alive::sign(NETWORK, identity, boot, incarnation, state)
}

fn entry(author: &Identity, class: Class, key: &str, version: u64, value: &[u8]) -> Entry {
    let draft = Draft {
        bucket: "config".parse().unwrap(),
        key: key.into(),
        class,
        version,
        boot: if class == Class::Live { BOOT } else { 0 },
        deleted: false,
        value: value.to_vec(),
    };
    Entry::sign(NETWORK, author, draft).unwrap()
}

#[test]
fn entries_with_bad_signatures_are_counted_and_sixteen_end_the_link() {
    let mut siege = Siege::new();
    let good = entry(siege.me(), Class::Durable, "k", 1, b"v");
    let mut bad = Vec::new();
    for n in 0..16u8 {
        let mut forged = Body::clone(&good);
        forged.value = vec![n];
        bad.push(Entry::from(forged));
    }
    siege.say(&Frame::Entries(bad[..15].to_vec()));
    assert_eq!(siege.refused("bad_signature"), 15);
    assert!(!siege.world.is_closed(siege.link));
    siege.say(&Frame::Entries(bad[15..].to_vec()));
    assert!(siege.world.is_closed(siege.link));
    assert!(siege.world.value(VICTIM, siege.puppet, "k").is_none());
    siege.nobody_else_notices();
}

#[test]
fn entries_in_the_name_of_another_are_refused() {
    let mut siege = Siege::new();
    let mut forged = Body::clone(&entry(siege.me(), Class::Durable, "k", 1, b"v"));
    for author in [VICTIM, WITNESS] {
        forged.slot.author = siege.world.id(author);
        siege.say(&Frame::Entries(vec![forged.clone().into()]));
    }
    assert_eq!(siege.refused("bad_signature"), 2);
    let other_network = NetworkId([8; 16]);
    let draft = Draft {
        bucket: "config".parse().unwrap(),
        key: "k".into(),
        class: Class::Durable,
        version: 1,
        boot: 0,
        deleted: false,
        value: vec![],
    };
    let elsewhere = Entry::sign(other_network, siege.me(), draft).unwrap();
    siege.say(&Frame::Entries(vec![elsewhere]));
    assert_eq!(siege.refused("bad_signature"), 3);
    for node in [VICTIM, WITNESS] {
        assert!(siege.world.value(VICTIM, node, "k").is_none());
    }
    siege.nobody_else_notices();
}

#[test]
fn entries_that_contradict_themselves_are_refused() {
    let mut siege = Siege::new();
    let good = Body::clone(&entry(siege.me(), Class::Durable, "k", 1, b"v"));
    let (mut with_boot, mut full_tombstone, mut control) = (good.clone(), good.clone(), good);
    with_boot.boot = 3;
    full_tombstone.deleted = true;
    control.slot.key = "k\n".into();
    let wrong = [with_boot, full_tombstone, control].map(Entry::from);
    siege.say(&Frame::Entries(wrong.to_vec()));
    assert_eq!(siege.refused("bad_entry"), 3);
    siege.nobody_else_notices();
}

#[test]
fn unknown_kinds_are_skipped_and_counted() {
    let mut siege = Siege::new();
    for _ in 0..10 {
        siege.say(&Frame::Unknown { kind: 999, len: 3 });
    }
    assert_eq!(siege.refused("unknown_kind"), 10);
    assert!(!siege.world.is_closed(siege.link));
    siege.nobody_else_notices();
}

#[test]
fn signs_of_life_in_the_name_of_another_change_nothing() {
    let mut siege = Siege::new();
    let real = siege.world.brain(WITNESS).alive();
    for (boot, state) in [
        (real.boot, LifeState::Leave),
        (real.boot + 1, LifeState::Alive),
    ] {
        let mut forged = *alive(siege.me(), boot, 9, state);
        forged.node = siege.world.id(WITNESS);
        let forged = Alive::from(forged);
        siege.say(&Frame::Alive(vec![forged]));
    }
    assert_eq!(siege.refused("bad_signature"), 2);
    siege.nobody_else_notices();
}

#[test]
fn a_leave_of_an_earlier_start_is_void() {
    let mut siege = Siege::new();
    let before = siege.world.brain(WITNESS).alive();
    let identity = siege.world.nodes[WITNESS].identity.clone();
    let old_leave = alive(&identity, before.boot, 9, LifeState::Leave);
    siege.world.restart(WITNESS);
    siege.world.until("whole", secs(2), World::whole);
    siege.world.nodes[VICTIM].events.clear();
    siege.say(&Frame::Alive(vec![old_leave.clone()]));
    assert!(siege.world.sees(VICTIM, WITNESS));
    // Nor after a restart of the victim, which knows the witness's start from its disk.
    siege.world.restart(VICTIM);
    let hello = alive(siege.me(), BOOT, 0, LifeState::Alive);
    siege.link = siege.world.puppet_link(siege.puppet, VICTIM, hello);
    siege.say(&Frame::Alive(vec![old_leave.clone()]));
    siege.world.until("whole", secs(3), World::whole);
    siege.world.nodes[VICTIM].events.clear();
    siege.world.nodes[WITNESS].events.clear();
    siege.nobody_else_notices();
}

#[test]
fn entries_from_the_future_are_refused_and_do_not_move_the_clock() {
    let mut siege = Siege::new();
    let now = siege.world.now(VICTIM).unix_ms;
    let version = |ahead: u64| (now + ahead) << 16;
    let near = entry(
        siege.me(),
        Class::Durable,
        "near",
        version(MAX_AHEAD_MS / 2),
        b"v",
    );
    let far = entry(
        siege.me(),
        Class::Durable,
        "far",
        version(MAX_AHEAD_MS * 2),
        b"v",
    );
    siege.say(&Frame::Entries(vec![near, far]));
    assert_eq!(siege.refused("future"), 1);
    assert!(siege.world.value(VICTIM, siege.puppet, "near").is_some());
    assert!(siege.world.value(VICTIM, siege.puppet, "far").is_none());
    let own = siege.world.put(VICTIM, "own", Some("v"));
    assert!(own.version < version(MAX_AHEAD_MS));
    siege.nobody_else_notices();
}

#[test]
fn live_entries_of_another_start_are_refused() {
    let mut siege = Siege::new();
    let draft = |boot: u64| Draft {
        bucket: "federated".parse().unwrap(),
        key: "k".into(),
        class: Class::Live,
        version: 1,
        boot,
        deleted: false,
        value: b"{}".to_vec(),
    };
    for boot in [BOOT - 1, BOOT + 1] {
        let wrong = Entry::sign(NETWORK, siege.me(), draft(boot)).unwrap();
        siege.say(&Frame::Entries(vec![wrong]));
    }
    assert_eq!(siege.refused("wrong_boot"), 2);
    siege.nobody_else_notices();
}

#[test]
fn an_author_keeps_at_most_its_share_and_the_newest_of_it() {
    let mut siege = Siege::new();
    let extra = 50;
    let count = MAX_ENTRIES_PER_AUTHOR as u64 + extra;
    let all = (0..count).map(|n| entry(siege.me(), Class::Durable, &format!("k{n}"), n + 10, b"v"));
    for some in all.collect::<Vec<_>>().chunks(512) {
        siege.say(&Frame::Entries(some.to_vec()));
    }
    let old = entry(siege.me(), Class::Durable, "old", 1, b"v");
    siege.say(&Frame::Entries(vec![old]));
    assert_eq!(siege.refused("author_full"), 1);
    let author = siege.world.id(siege.puppet);
    let kept = siege.world.ledger(VICTIM);
    let kept = kept.iter().filter(|e| e.slot.author == author).count();
    assert_eq!(kept, MAX_ENTRIES_PER_AUTHOR);
    assert!(siege.world.value(VICTIM, siege.puppet, "k0").is_none());
    let stored = siege.world.nodes[VICTIM].disk.entries.keys();
    let stored = stored.filter(|slot| slot.author == author).count();
    assert_eq!(
        stored, MAX_ENTRIES_PER_AUTHOR,
        "the disk keeps what the ledger gave up"
    );
    assert!(
        siege
            .world
            .value(WITNESS, siege.puppet, &format!("k{}", count - 1))
            .is_some()
    );
    siege.nobody_else_notices();
}

#[test]
fn nonsense_in_reconciliation_is_counted_and_ends_the_session_only() {
    let mut siege = Siege::new();
    let message = vec![1, 2, 3];
    siege.say(&Frame::Sync(SyncMessage {
        session: 1,
        message: message.clone(),
    }));
    siege.say(&Frame::Want(Want {
        session: 1,
        ids: vec![ItemId([1; 32])],
    }));
    siege.say(&Frame::SyncOpen(SyncOpen {
        session: 1,
        salt: [0; 16],
        message,
    }));
    assert_eq!(siege.refused("bad_sync"), 3);
    assert!(!siege.world.is_closed(siege.link));
    siege.nobody_else_notices();
}

#[test]
fn ids_nobody_has_bring_nothing_and_sessions_without_end_are_refused() {
    let mut siege = Siege::new();
    siege.world.put(VICTIM, "big", Some(&"x".repeat(60_000)));
    siege.world.run(ms(100));
    let nothing = std::iter::empty();
    let (mut session, open) =
        warren::mesh::sync::Session::open(1, [3; 16], vec![], nothing).unwrap();
    siege.world.nodes[siege.puppet].inbox.clear();
    siege.say(&Frame::SyncOpen(open.clone()));
    let heard = std::mem::take(&mut siege.world.nodes[siege.puppet].inbox);
    let reply = heard.iter().find_map(|frame| match frame {
        Frame::Sync(reply) => Some(reply.message.clone()),
        _ => None,
    });
    let step = session.step(&reply.expect("an answer")).unwrap();
    let known = step.want[0].ids.clone();
    let sent = siege.world.stats.bytes;
    siege.say(&Frame::Want(Want {
        session: 1,
        ids: vec![ItemId([9; 32]); 50],
    }));
    assert!(siege.world.stats.bytes - sent < 4_000);
    let mut again = Vec::new();
    (0..50).for_each(|_| again.extend(&known));
    siege.say(&Frame::Want(Want {
        session: 1,
        ids: again,
    }));
    assert!(
        siege.world.stats.bytes - sent < 100_000,
        "an entry was sent more than once"
    );
    assert!(siege.world.stats.bytes - sent > 60_000, "nothing was sent");
    for _ in 0..5 {
        siege.say(&Frame::SyncOpen(open.clone()));
    }
    assert_eq!(siege.refused("bad_sync"), 3, "three at once are answered");
    siege.nobody_else_notices();
}

#[test]
fn a_flood_ends_the_link() {
    let mut siege = Siege::new();
    // Each of these counts as many as it carries signs of life.
    let many = Frame::Alive(vec![alive(siege.me(), BOOT, 0, LifeState::Alive); 256]);
    for _ in 0..500 {
        siege.world.say(siege.link, &many);
    }
    siege.world.run(ms(100));
    assert!(siege.refused("flood") > 0);
    assert!(siege.world.is_closed(siege.link));
    siege.nobody_else_notices();
}

#[test]
fn an_honest_burst_is_no_flood() {
    let mut siege = Siege::new();
    let many = Frame::Alive(vec![alive(siege.me(), BOOT, 0, LifeState::Alive); 256]);
    for _ in 0..(MAX_MEMBERS / 256) {
        siege.world.say(siege.link, &many);
    }
    siege.world.run(ms(100));
    assert_eq!(siege.refused("flood"), 0);
    siege.nobody_else_notices();
}

#[test]
fn a_newer_start_of_this_node_stops_it_and_a_forged_one_does_not() {
    let mut siege = Siege::new();
    let own = siege.world.nodes[VICTIM].identity.clone();
    let boot = siege.world.brain(VICTIM).alive().boot;
    let mut forged = *alive(siege.me(), boot + 1, 0, LifeState::Alive);
    forged.node = own.id();
    let forged = Alive::from(forged);
    siege.say(&Frame::Alive(vec![
        forged,
        alive(&own, boot, 9, LifeState::Leave),
        alive(&own, boot - 1, 9, LifeState::Leave),
    ]));
    assert!(!siege.world.nodes[VICTIM].cloned);
    assert!(siege.world.sees(WITNESS, VICTIM));
    siege.say(&Frame::Alive(vec![alive(
        &own,
        boot + 1,
        0,
        LifeState::Alive,
    )]));
    assert!(siege.world.nodes[VICTIM].cloned && !siege.world.runs(VICTIM));
}

/// Two processes with one key: the newer one serves, the older one hears of it and stops.
#[test]
fn the_older_of_two_processes_with_one_key_is_told_to_stop() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.mesh(3);
        world.until("whole", secs(2), World::whole);
        let clone = world.machine();
        world.nodes[clone].identity = world.nodes[2].identity.clone();
        world.nodes[clone].id = world.id(2);
        world.nodes[clone].connect = vec![world.pinned(0)];
        world.run(secs(1));
        world.start(clone);
        world.until("the older one stops", secs(30), |w| w.nodes[2].cloned);
        world.run(secs(5));
        assert!(!world.nodes[clone].cloned && world.sees(0, clone));
    }
}

/// A member that dials without end, and closes nothing, would hold every link of the process.
#[test]
fn one_member_holds_only_so_many_links() {
    let mut siege = Siege::new();
    for _ in 0..40 {
        let hello = alive(siege.me(), BOOT, 0, LifeState::Alive);
        siege.world.puppet_link(siege.puppet, VICTIM, hello);
    }
    siege.world.run(ms(100));
    assert_eq!(siege.refused("too_many_links"), 40 - 15);
    siege.nobody_else_notices();
}
