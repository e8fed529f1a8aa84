//! Reconciliation with somebody who lies, stalls, or asks without end.

use warren::mesh::alive::LifeState;
use warren::mesh::entry::{Class, ItemId};
use warren::mesh::sync::{Order, Session};
use warren::mesh::wire::{Frame, SyncMessage, SyncOpen};

use super::{BOOT, Crowd, Siege, VICTIM, alive, entry};
use crate::world::{World, for_seeds, ms, secs};

/// What a puppet makes of an opening.
const ANSWERS: [fn(&Frame) -> Vec<Frame>; 4] = [silence, nothing, endless, never_done];

fn silence(_: &Frame) -> Vec<Frame> {
    Vec::new()
}

fn nothing(frame: &Frame) -> Vec<Frame> {
    match frame {
        Frame::SyncOpen(open) => vec![Frame::SyncDone {
            session: open.session,
            fresh: true,
        }],
        _ => Vec::new(),
    }
}

/// Sums that never agree with anybody's.
fn endless(frame: &Frame) -> Vec<Frame> {
    let session = match frame {
        Frame::SyncOpen(open) => open.session,
        Frame::Sync(message) => message.session,
        _ => return Vec::new(),
    };
    let made_up = |n: u16| (Order::Entry, ItemId([n.to_be_bytes()[1]; 32]));
    let items = (0..200).map(made_up).collect();
    let (_, open) = Session::open(1, [3; 16], items, std::iter::empty()).unwrap();
    let message = open.message;
    vec![Frame::Sync(SyncMessage { session, message })]
}

/// Holds nothing, says so, and does not end.
fn never_done(frame: &Frame) -> Vec<Frame> {
    match frame {
        Frame::SyncOpen(open) => {
            let answer = Session::answer(open, Vec::new());
            vec![Frame::Sync(answer.unwrap().1)]
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_newcomer_that_meets_a_liar_first_catches_up_through_another() {
    for manners in ANSWERS {
        for_seeds(3, |mut world| {
            world.crowd(9, secs(1));
            world.settle(secs(20)).expect("all know all");
            world.put(3, "k", Some("v"));
            world.run(secs(1));
            let puppet = world.puppet();
            let hello = alive(&world.nodes[puppet].identity, BOOT, 0, LifeState::Alive);
            world.puppet_answers(puppet, hello);
            world.teach(puppet, manners);
            let late = world.machine();
            world.nodes[late].connect = vec![world.pinned(puppet), world.pinned(8)];
            // The liar is met first.
            world.cut(late, 8);
            world.start(late);
            world.run(ms(100));
            world.heal();
            let knows =
                |w: &World| (0..9).all(|n| w.sees(late, n)) && w.value(late, 3, "k").is_some();
            world.until("caught up", secs(15), knows);
            assert!(!world.nodes[puppet].inbox.is_empty(), "never asked");
        });
    }
}

/// A node that knows nobody has to wait for what others open; one of them stalls.
#[test]
fn an_opener_that_stalls_does_not_keep_others_from_a_newcomer() {
    for_seeds(4, |mut world| {
        world.crowd(14, secs(1));
        world.settle(secs(20)).expect("all know all");
        let late = world.machine();
        world.start(late);
        let puppet = world.puppet();
        let hello = alive(&world.nodes[puppet].identity, BOOT, 0, LifeState::Alive);
        let link = world.puppet_link(puppet, late, hello);
        let (_, open) = Session::open(1, [3; 16], Vec::new(), std::iter::empty()).unwrap();
        world.say(link, &Frame::SyncOpen(open));
        world.run(ms(100));
        let target = world.pinned(late);
        world.with(0, |brain, now, rng| {
            brain.add_target(target);
            brain.handle_timeout(now, rng);
        });
        world.until("caught up", secs(5), |w| (0..14).all(|n| w.sees(late, n)));
    });
}

#[test]
fn an_opener_is_answered_three_times_and_then_now_and_then() {
    let mut siege = Siege::new();
    let (_, open) = Session::open(1, [3; 16], Vec::new(), std::iter::empty()).unwrap();
    for n in 0..200 {
        let session = 2 * n + 1;
        siege.say(&Frame::SyncOpen(SyncOpen {
            session,
            ..open.clone()
        }));
    }
    // Ten seconds: three at once and two in the long run.
    assert!(
        siege.refused("bad_sync") >= 194,
        "{}",
        siege.refused("bad_sync")
    );
    assert!(!siege.world.is_closed(siege.link));
    siege.nobody_else_notices();
}

/// Bytes of entries in what a puppet was sent.
fn given(inbox: &[Frame]) -> usize {
    let entries = inbox.iter().filter(|f| matches!(f, Frame::Entries(_)));
    entries.map(|frame| frame.encode().len()).sum()
}

/// A few bytes bring everything to a newcomer, but not again and again to whoever asks.
#[test]
fn who_says_it_holds_nothing_is_given_everything_within_bounds() {
    let mut siege = Siege::new();
    for n in 0..60 {
        let value = "x".repeat(60_000);
        siege.world.put(VICTIM, &format!("k{n}"), Some(&value));
    }
    siege.world.run(secs(5));
    let own = &siege.world.nodes[siege.puppet].identity;
    let hello = alive(own, BOOT, 0, LifeState::Alive);
    let others = (0..3).map(|_| siege.world.puppet_link(siege.puppet, VICTIM, hello.clone()));
    let others: Vec<usize> = others.collect();
    let (_, open) = Session::open(1, [3; 16], Vec::new(), std::iter::empty()).unwrap();
    let mut all = Vec::new();
    for session in [1, 3] {
        for link in &others {
            siege.world.nodes[siege.puppet].inbox.clear();
            let open = SyncOpen {
                session,
                ..open.clone()
            };
            siege.world.say(*link, &Frame::SyncOpen(open));
            siege.world.run(ms(500));
            all.push(given(&siege.world.nodes[siege.puppet].inbox));
        }
    }
    assert!(all[..4].iter().all(|bytes| *bytes > 3_500_000), "{all:?}");
    assert!(all.iter().sum::<usize>() < 18_000_000, "{all:?}");
    // Ids are told instead.
    let inbox = siege.world.nodes[siege.puppet].inbox.iter();
    let ids = inbox.filter_map(|frame| match frame {
        Frame::Sync(reply) => Some(reply.message.len()),
        _ => None,
    });
    assert!(ids.sum::<usize>() > 30 * 32);
    siege.nobody_else_notices();
}

/// Each sum differs from every other: the sessions that follow are few, and ever fewer.
#[test]
fn sums_that_never_agree_cost_few_sessions() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 9, 2);
        for puppet in 0..2 {
            crowd.tell(puppet, &Frame::Neighbour(true));
        }
        crowd.world.run(secs(5));
        crowd.world.nodes[9].inbox.clear();
        for round in 0..600_u64 {
            for puppet in 0..2 {
                crowd.tell(puppet, &Frame::Digest(round * 1_000_003 + puppet as u64));
            }
            crowd.world.run(ms(200));
        }
        let opened = crowd.world.nodes[9].inbox.iter();
        let opened = opened.filter(|f| matches!(f, Frame::SyncOpen(_))).count();
        // Two minutes at 5, 10, 20, 40 ... seconds, by nine nodes, beside those that time out.
        assert!((9..=9 * 7).contains(&opened), "{opened}");
        crowd.calm();
    });
}

/// What a node refused because its clock was wrong it gets once the clock is right, whoever
/// tells it lies meanwhile.
#[test]
fn what_was_refused_for_a_wrong_clock_comes_once_it_is_right() {
    for liars in [0, 1] {
        for_seeds(2, |mut world| {
            for node in 0..4 {
                world.machine();
                world.nodes[node].connect = (0..node).map(|n| world.pinned(n)).collect();
            }
            world.nodes[3].clock.ahead_ms = -600_000;
            (0..4).for_each(|node| world.start(node));
            world.until("whole", secs(5), World::whole);
            let puppet = world.puppet();
            let hello = alive(&world.nodes[puppet].identity, BOOT, 0, LifeState::Alive);
            let links: Vec<usize> = (0..4 * liars)
                .map(|node| world.puppet_link(puppet, node, hello.clone()))
                .collect();
            world.put(0, "k", Some("v"));
            world.run(secs(20));
            assert!(world.value(3, 0, "k").is_none() && world.refused(3, "future") > 0);
            world.nodes[3].clock.ahead_ms = 0;
            let mut sum = 0;
            for _ in 0..400 {
                for link in &links {
                    sum += 1;
                    world.say(*link, &Frame::Digest(sum));
                }
                world.run(secs(1));
            }
            assert!(world.value(3, 0, "k").is_some());
        });
    }
}

/// An entry that is void is neither kept nor asked for at every session.
#[test]
fn an_entry_from_the_future_is_fetched_once() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 5, 1);
        let me = crowd.identity(0);
        let soon = (crowd.world.now(0).unix_ms + 900_000) << 16;
        let future = entry(&me, Class::Durable, "k", soon, b"v");
        crowd.tell(0, &Frame::Entries(vec![future]));
        crowd.world.run(secs(120));
        assert_eq!(crowd.refused("future"), 5);
        crowd.calm();
    });
}
