use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::mesh::close::CloseCode;
use crate::mesh::ledger::MAX_ENTRIES_PER_AUTHOR;

fn at(secs: u64) -> Now {
    Now {
        mono: Duration::from_secs(secs),
        unix_ms: 1_000_000 + 1_000 * secs,
    }
}

fn brain() -> Brain {
    let setup = Setup {
        identity: Identity::from_seed(&[1; 32]),
        network: NetworkId([5; 16]),
        boot: 1,
        record: NodeRecord {
            name: "a".parse().unwrap(),
            version: String::new(),
            addresses: vec![],
            draining: false,
        },
        connect: vec![],
        crypto_interval: 9_000,
        timing: Timing::default(),
    };
    Brain::new(at(0), setup, vec![], vec![], vec![])
}

/// What is done on links from now on.
fn done(brain: &mut Brain) -> Vec<Effect> {
    let effects = std::iter::from_fn(|| brain.poll_effect());
    let on_links = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send { .. } | Effect::Close { .. } | Effect::Finish { .. }
        )
    };
    effects.filter(on_links).collect()
}

fn observer(brain: &mut Brain, rng: &mut StdRng, now: Now, link: u64) {
    let link = LinkId(link);
    brain.handle(now, rng, Input::ObserverUp { link });
}

#[test]
fn an_observer_is_shown_everything_once_and_let_go() {
    let (mut brain, mut rng) = (brain(), StdRng::seed_from_u64(1));
    done(&mut brain);
    observer(&mut brain, &mut rng, at(1), 1);
    let link = LinkId(1);
    let shown = [
        Effect::Send {
            link,
            frame: Frame::Alive(vec![brain.alive()]),
        },
        Effect::Send {
            link,
            frame: Frame::Entries(brain.ledger().live_of(brain.me())),
        },
        Effect::Send {
            link,
            frame: Frame::SyncDone {
                session: 0,
                fresh: true,
            },
        },
        Effect::Finish { link },
    ];
    assert_eq!(done(&mut brain), shown);
    brain.handle_timeout(at(2), &mut rng);
    assert_eq!(done(&mut brain), []);
    // It never closes the connection.
    assert!(brain.poll_timeout().is_some_and(|due| due <= at(31).mono));
    brain.handle_timeout(at(31), &mut rng);
    let code = CloseCode::Timeout;
    assert_eq!(done(&mut brain), [Effect::Close { link, code }]);
    assert_eq!(brain.take_view(at(31)).unwrap().nodes.len(), 1);
}

#[test]
fn observers_wait_for_their_turn_and_too_many_are_turned_away() {
    let (mut brain, mut rng) = (brain(), StdRng::seed_from_u64(1));
    done(&mut brain);
    for link in 1..=17 {
        observer(&mut brain, &mut rng, at(1), link);
    }
    let count = |effects: &[Effect]| {
        let finished = effects.iter();
        finished
            .filter(|one| matches!(one, Effect::Finish { .. }))
            .count()
    };
    let first = done(&mut brain);
    assert_eq!(count(&first), 8, "the rate has no effect");
    let turned_away = Effect::Close {
        link: LinkId(17),
        code: CloseCode::Flood,
    };
    assert!(first.contains(&turned_away), "{first:?}");
    assert!(brain.poll_timeout().is_some_and(|due| due <= at(2).mono));
    brain.handle_timeout(at(3), &mut rng);
    assert_eq!(count(&done(&mut brain)), 2);
    // The end of a link makes room, and says nothing of this node's own.
    let down = Input::LinkDown {
        link: LinkId(1),
        reason: String::new(),
        let_go: true,
    };
    brain.handle(at(3), &mut rng, down);
    observer(&mut brain, &mut rng, at(3), 18);
    assert_eq!(count(&done(&mut brain)), 0, "whoever waits comes first");
    brain.handle_timeout(at(20), &mut rng);
    assert_eq!(count(&done(&mut brain)), 7);
}

/// A write beyond the limit used to be acknowledged at the price of the oldest one.
#[test]
fn a_full_author_is_told_so_and_keeps_what_it_has() {
    let now = at(0);
    let mut brain = brain();
    let bucket: Bucket = "b".parse().unwrap();
    let key = |n: usize| format!("k{n}");
    for n in 0..MAX_ENTRIES_PER_AUTHOR {
        let value = Some(b"v".to_vec());
        let entry = brain.draft(now, bucket.clone(), key(n), value).unwrap();
        brain.apply_own(now, entry);
    }
    let beyond = brain.draft(now, bucket.clone(), "more".into(), Some(b"v".to_vec()));
    assert_eq!(beyond, Err(DraftError::Refused(Refusal::AuthorFull)));
    assert!(
        brain
            .draft(now, bucket.clone(), key(0), Some(b"w".to_vec()))
            .is_ok()
    );
    assert!(
        brain.draft(now, bucket, key(0), None).is_ok(),
        "removing is always possible"
    );
}
