//! Offers of what is never given, and questions for what was never offered.

use std::collections::BTreeSet;

use warren::mesh::entry::{Class, Draft, Entry, ItemId};
use warren::mesh::wire::{Frame, MAX_OFFERED};

use super::{Crowd, entry};
use crate::world::{NETWORK, World, for_seeds, ms, secs};

/// Large enough to be offered, not pushed.
const BIG: usize = 20_000;

impl Crowd {
    /// What a puppet was asked to give, since its inbox was last emptied.
    fn asked_of(&self, puppet: usize) -> Vec<ItemId> {
        let inbox = self.world.nodes[self.puppets.start + puppet].inbox.iter();
        let asked = inbox.filter_map(|frame| match frame {
            Frame::Fetch(ids) => Some(ids.clone()),
            _ => None,
        });
        asked.flatten().collect()
    }

    fn given_to(&self, puppet: usize) -> usize {
        let inbox = self.world.nodes[self.puppets.start + puppet].inbox.iter();
        let given = inbox.map(|frame| match frame {
            Frame::Entries(entries) => entries.iter().filter(|e| e.value.len() == BIG).count(),
            _ => 0,
        });
        given.sum()
    }
}

fn made_up(from: u32) -> Vec<ItemId> {
    let id = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        ItemId(bytes)
    };
    (from..).take(MAX_OFFERED).map(id).collect()
}

/// Who has seen a large entry first may offer it to everybody and never give it.
#[test]
fn an_offer_that_is_never_kept_holds_back_nobody_who_would_give() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 6, 1);
        let author = crowd.world.nodes[0].identity.clone();
        let draft = Draft {
            bucket: "config".parse().unwrap(),
            key: "big".into(),
            class: Class::Durable,
            version: crowd.world.now(0).unix_ms << 16,
            boot: 0,
            deleted: false,
            value: vec![7; BIG],
        };
        let big = Entry::sign(NETWORK, &author, draft).unwrap();
        for _ in 0..10 {
            crowd.tell(0, &Frame::Offer(vec![big.id(NETWORK)]));
        }
        crowd.world.run(ms(200));
        crowd
            .world
            .with(0, |brain, now, _| brain.apply_own(now, big));
        let there = |w: &World| (0..6).all(|n| w.value(n, 0, "big").is_some());
        crowd.world.until("given by others", ms(1500), there);
        assert!(!crowd.asked_of(0).is_empty());
        crowd.calm();
    });
}

#[test]
fn offers_without_end_are_asked_for_in_small_number_and_keep_nothing_out() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 6, 2);
        for round in 0..20 {
            for puppet in 0..2 {
                let ids = made_up((2 * round + puppet) * 10_000);
                crowd.tell(puppet as usize, &Frame::Offer(ids));
            }
            crowd.world.run(ms(100));
        }
        for puppet in 0..2 {
            // Two seconds, six nodes that each ask a peer for 256 things in a second.
            let asked = crowd.asked_of(puppet).len();
            assert!((6 * 256..=3 * 6 * 256).contains(&asked), "{asked}");
        }
        let big = "x".repeat(BIG);
        crowd.world.put(3, "big", Some(&big));
        let there = |w: &World| (0..6).all(|n| w.value(n, 3, "big").is_some());
        crowd.world.until("fetched all the same", ms(1500), there);
        crowd.calm();
    });
}

#[test]
fn what_was_not_offered_is_not_given_and_what_was_is_given_once() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 6, 2);
        crowd.tell(0, &Frame::Neighbour(true));
        crowd.world.run(secs(1));
        // Whoever is no neighbour hears nothing: the second puppet's link is to one node only.
        let late = crowd.world.puppet();
        let hello = super::alive(
            &crowd.world.nodes[late].identity,
            super::BOOT,
            0,
            warren::mesh::alive::LifeState::Leave,
        );
        let link = crowd.world.puppet_link(late, 0, hello);
        let big = "x".repeat(BIG);
        let id = crowd.world.put(0, "big", Some(&big)).id(NETWORK);
        crowd.world.run(secs(1));
        crowd.world.nodes[6].inbox.clear();
        for _ in 0..20 {
            crowd.tell(0, &Frame::Fetch(vec![id; 20]));
            crowd.world.say(link, &Frame::Fetch(vec![id; 20]));
        }
        crowd.world.run(secs(1));
        // Those six that offered it gave it at most once each.
        assert!(
            (1..=6).contains(&crowd.given_to(0)),
            "{}",
            crowd.given_to(0)
        );
        let given = crowd.world.nodes[late].inbox.iter();
        let given = given.filter(|frame| matches!(frame, Frame::Entries(_)));
        assert!(given.count() <= 1, "more than its greeting");
        crowd.calm();
    });
}

#[test]
fn what_was_refused_is_not_asked_for_when_it_is_offered() {
    for_seeds(2, |world| {
        let mut crowd = Crowd::new(world, 5, 1);
        let soon = (crowd.world.now(0).unix_ms + 900_000) << 16;
        let future = entry(&crowd.identity(0), Class::Durable, "k", soon, &[7; BIG]);
        let id = future.id(NETWORK);
        crowd.tell(0, &Frame::Offer(vec![id]));
        crowd.world.run(ms(100));
        crowd.tell(0, &Frame::Entries(vec![future]));
        crowd.world.run(secs(2));
        let before = crowd.asked_of(0).len();
        assert_eq!(before, 5);
        for _ in 0..10 {
            crowd.tell(0, &Frame::Offer(vec![id]));
            crowd.world.run(secs(2));
        }
        assert_eq!(crowd.asked_of(0).iter().collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(crowd.asked_of(0).len(), before);
        crowd.calm();
    });
}
