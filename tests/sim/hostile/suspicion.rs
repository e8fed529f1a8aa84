//! Suspicions that are forged, repeated, or made without end (C18).

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::id::Identity;
use warren::mesh::suspicion::Suspicion;
use warren::mesh::wire::Frame;

use super::{BOOT, Crowd, alive};
use crate::world::{NETWORK, World, for_seeds, ms, secs};

impl Crowd {
    fn alive_of(&self, node: usize) -> Alive {
        self.world.brain(node).alive()
    }

    /// `accuser` suspects every honest node as it is now.
    fn doubts(&self, accuser: &Identity) -> Vec<Suspicion> {
        let all = (0..self.honest).map(|node| self.alive_of(node));
        all.map(|alive| Suspicion::sign(NETWORK, accuser, &alive))
            .collect()
    }

    fn incarnations(&self) -> Vec<u32> {
        let all = (0..self.honest).map(|node| self.alive_of(node).incarnation);
        all.collect()
    }
}

#[test]
fn suspicions_that_nobody_should_believe_change_nothing() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 9, 1);
        let (me, subject) = (crowd.identity(0), crowd.alive_of(4));
        let identity = crowd.world.nodes[4].identity.clone();
        let mut in_the_name_of_another = Suspicion::sign(NETWORK, &me, &subject);
        in_the_name_of_another.accuser = crowd.world.id(5);
        let stranger = Suspicion::sign(NETWORK, &Identity::from_seed(&[99; 32]), &subject);
        let next = alive(&identity, subject.boot, 1, LifeState::Alive);
        let greater = Suspicion::sign(NETWORK, &me, &next);
        let before = alive(&identity, subject.boot - 1, 0, LifeState::Alive);
        let old = Suspicion::sign(NETWORK, &me, &before);
        let of_itself = Suspicion::sign(NETWORK, &me, &alive(&me, BOOT, 0, LifeState::Alive));
        let left = alive(&identity, subject.boot, 0, LifeState::Leave);
        let of_nobody = Identity::from_seed(&[98; 32]);
        let of_nobody =
            Suspicion::sign(NETWORK, &me, &alive(&of_nobody, BOOT, 0, LifeState::Alive));
        let mut all = vec![in_the_name_of_another, stranger, greater, old];
        all.extend([of_itself, of_nobody]);
        let mut of_leave = Suspicion::sign(NETWORK, &me, &left);
        of_leave.incarnation = 7;
        all.push(of_leave);
        let links = crowd.links[0].clone();
        for (node, link) in links.into_iter().enumerate() {
            // The subject itself answers whoever signed well.
            if node != 4 {
                crowd.world.say(link, &Frame::Suspicions(all.clone()));
            }
        }
        crowd.world.run(secs(5));
        assert!(crowd.refused("bad_signature") >= 8);
        assert!(crowd.refused("unknown_accuser") >= 8);
        assert!(crowd.incarnations().iter().all(|count| *count == 0));
        let closed = |link: &usize| crowd.world.is_closed(*link);
        assert!(!crowd.links[0].iter().any(closed));
        crowd.calm();
    });
}

/// Each is refuted; the third occasion within a minute takes the accuser's voice for ten.
#[test]
fn a_member_that_accuses_again_and_again_is_ignored() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 12, 1);
        let me = crowd.identity(0);
        for round in 0..100 {
            let doubts = crowd.doubts(&me);
            let subject = round % crowd.honest;
            crowd.tell(0, &Frame::Suspicions(vec![doubts[subject]]));
            crowd.world.run(ms(200));
        }
        assert!(crowd.refused("ignored_accuser") > 60);
        crowd.calm();
    });
}

/// What it says of a start that is not shown yet makes others wait, but not for ever: the subject
/// answers, and an answer is doubted no more.
#[test]
fn a_member_that_is_ignored_keeps_nobody_who_starts_away() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 14, 1);
        let me = crowd.identity(0);
        for round in 0..100 {
            let doubts = crowd.doubts(&me);
            crowd.tell(0, &Frame::Suspicions(vec![doubts[round % crowd.honest]]));
            crowd.world.run(ms(200));
        }
        crowd.world.run(secs(15));
        assert!(crowd.refused("ignored_accuser") > 0);
        const SUBJECT: usize = 4;
        crowd.world.restart(SUBJECT);
        let hello = alive(&me, BOOT, 0, LifeState::Alive);
        for node in 0..crowd.honest {
            let link = crowd.world.puppet_link(crowd.honest, node, hello.clone());
            crowd.links[0][node] = link;
        }
        for _ in 0..50 {
            let alive = crowd.alive_of(SUBJECT);
            let doubt = Suspicion::sign(NETWORK, &me, &alive);
            crowd.tell(0, &Frame::Suspicions(vec![doubt]));
            crowd.world.run(ms(200));
        }
        assert!(crowd.alive_of(SUBJECT).incarnation > 5);
        let unseen = |node: &usize| *node != SUBJECT && !crowd.world.sees(*node, SUBJECT);
        assert_eq!((0..crowd.honest).find(unseen), None);
        crowd.hears_writes();
    });
}

/// Minted keys are known members, too: two voices halve the time to refute.
#[test]
fn two_accusers_of_everybody_at_once_take_nobody_down() {
    for_seeds(4, |mut world| {
        world.net.latency = (ms(1), ms(60));
        let mut crowd = Crowd::new(world, 14, 2);
        for _ in 0..3 {
            for puppet in 0..2 {
                let doubts = crowd.doubts(&crowd.identity(puppet));
                crowd.tell(puppet, &Frame::Suspicions(doubts));
            }
            crowd.world.run(secs(2));
            assert!(crowd.incarnations().iter().all(|count| *count > 0));
        }
        crowd.calm();
    });
}

#[test]
fn a_suspicion_is_worth_nothing_once_it_is_refuted() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 10, 1);
        let doubts = crowd.doubts(&crowd.identity(0));
        crowd.tell(0, &Frame::Suspicions(doubts.clone()));
        crowd.world.run(secs(2));
        let refuted = crowd.incarnations();
        assert!(refuted.iter().all(|count| *count == 1));
        for _ in 0..20 {
            crowd.tell(0, &Frame::Suspicions(doubts.clone()));
            crowd.world.run(ms(500));
        }
        assert_eq!(crowd.incarnations(), refuted);
        crowd.calm();
    });
}

/// Suspicions of signs of life that are yet to come cost their subject one answer, not one each.
#[test]
fn suspicions_signed_ahead_do_not_make_their_subject_shout() {
    for_seeds(3, |world| {
        let mut crowd = Crowd::new(world, 9, 1);
        let (me, subject) = (crowd.identity(0), crowd.alive_of(4));
        let identity = crowd.world.nodes[4].identity.clone();
        let to_come = |incarnation| {
            let next = alive(&identity, subject.boot, incarnation, LifeState::Alive);
            Suspicion::sign(NETWORK, &me, &next)
        };
        let ahead: Vec<Suspicion> = (0..200).map(to_come).collect();
        crowd.world.run(secs(1));
        let sent = crowd.world.stats.bytes;
        crowd.tell(0, &Frame::Suspicions(ahead));
        crowd.world.run(secs(1));
        assert!(
            crowd.alive_of(4).incarnation <= 5,
            "{:?}",
            crowd.incarnations()
        );
        let sent = crowd.world.stats.bytes - sent;
        assert!(sent < 9 * 30_000 + 100_000, "{sent} bytes");
        crowd.calm();
    });
}

/// Every node accuses half of the others in a partition, and all of them answer when it heals:
/// none was wrong, and the next death is believed.
#[test]
fn who_was_right_about_the_other_side_of_a_partition_is_still_believed() {
    for_seeds(4, |mut world| {
        world.crowd(14, secs(1));
        world.settle(secs(20)).expect("all know all");
        world.run(secs(2));
        let side: Vec<usize> = (0..7).collect();
        world.partition(&side);
        world.run(secs(10));
        assert!(!world.sees(0, 13) && !world.sees(13, 0));
        world.heal();
        world.settle(secs(30)).expect("all know all again");
        world.run(secs(5));
        world.kill(9);
        let gone = |w: &World| w.running().iter().all(|n| !w.sees(*n, 9));
        world.until("gone", secs(4), gone);
        let ignored = world.running().into_iter();
        let ignored: u64 = ignored.map(|n| world.refused(n, "ignored_accuser")).sum();
        assert_eq!(ignored, 0);
    });
}
