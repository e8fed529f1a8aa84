//! What one link may cost.

use warren::mesh::alive::LifeState;
use warren::mesh::brain::MAX_MEMBERS;
use warren::mesh::entry::ItemId;
use warren::mesh::sync::{Order, Session};
use warren::mesh::wire::{Frame, SyncMessage, SyncOpen, Want};

use super::{BOOT, Siege, VICTIM, alive};
use crate::world::ms;

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
    // Whoever holds less than this is not sent ids, but what they name.
    let made_up = (0..32).map(|n| (Order::Entry, ItemId([n; 32])));
    let nothing = std::iter::empty();
    let (mut session, open) = Session::open(1, [3; 16], made_up.collect(), nothing).unwrap();
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
