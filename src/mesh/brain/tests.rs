use super::*;
use crate::mesh::ledger::MAX_ENTRIES_PER_AUTHOR;

/// A write beyond the limit used to be acknowledged at the price of the oldest one.
#[test]
fn a_full_author_is_told_so_and_keeps_what_it_has() {
    let now = Now {
        mono: Duration::ZERO,
        unix_ms: 1_000_000,
    };
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
    let mut brain = Brain::new(now, setup, vec![], vec![], vec![]);
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
