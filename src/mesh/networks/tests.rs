//! Networks against a naive account of their looks, and against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mesh::keys::Secret;

const NOW: u64 = 1_700_000_000_000;
const ROOM: usize = MAX_CLUSTER_BYTES;

fn token(n: u8) -> Token {
    Token::new(Secret::new([n; 32]), 9_000, 360).unwrap()
}

fn new(n: u8) -> NewNetwork {
    NewNetwork {
        name: format!("n{n}"),
        ..NewNetwork::new(token(n))
    }
}

fn key(n: u8) -> NetworkKey {
    NetworkKey::of(&token(n))
}

fn row(n: u8) -> Network {
    Network::clone(&Networks::default().add(new(n), NOW).unwrap().1)
}

fn cluster(kind: ClusterKind, network_id: &str, workers: &[&str]) -> Cluster {
    Cluster {
        kind,
        network_id: network_id.to_owned(),
        workers: workers.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn seen(workers: &[&str]) -> Outcome {
    Outcome::Seen {
        clusters: vec![cluster(ClusterKind::Worker, "", workers)],
        nodes: 2,
    }
}

fn silent() -> Outcome {
    Outcome::Silent {
        reason: "nobody answers".to_owned(),
    }
}

/// A policy under which waiting is easy to count.
fn policy() -> Policy {
    Policy {
        threshold: 3,
        delete_after: Duration::from_secs(100),
        interval: Duration::from_secs(10),
        max_interval: Duration::from_secs(40),
    }
}

#[test]
fn a_network_is_new_active_stale_hidden_and_gone() {
    let policy = policy();
    let mut row = row(1);
    let mut now = NOW;
    let mut look = |row: &mut Network, outcome| {
        now = row.next_look_ms.max(now);
        row.apply(outcome, now, 100, &policy, ROOM)
    };
    assert_eq!((row.state, row.is_listed()), (State::New, false));
    assert_eq!(look(&mut row, silent()), Change::Missed);
    assert_eq!((row.state, row.failures), (State::New, 1));
    assert_eq!(look(&mut row, seen(&["atlas"])), Change::Active);
    assert_eq!(
        (row.state, row.failures, row.is_listed()),
        (State::Active, 0, true)
    );
    // LocalAI removes a network when it failed more often than the threshold: 4 times of 3.
    for failures in 1..=3 {
        assert_eq!(look(&mut row, silent()), Change::Missed);
        assert_eq!((row.state, row.failures), (State::Stale, failures));
        assert!(row.is_listed(), "LocalAI goes on showing what it saw");
    }
    assert_eq!(look(&mut row, silent()), Change::Hidden);
    assert_eq!((row.state, row.is_listed()), (State::Hidden, false));
    let workers = row.workers();
    assert_eq!(workers, 1, "clusters stay as they were last seen");
    let mut looks = 0;
    while look(&mut row, silent()) != Change::Gone {
        looks += 1;
        assert!(looks < 10, "it never goes");
    }
    // 100 s at 40 s a look.
    assert_eq!(looks, 2);
}

#[test]
fn a_hidden_network_that_answers_is_shown_again() {
    let policy = Policy {
        threshold: 0,
        ..policy()
    };
    let mut row = row(1);
    for nth in 1..=4 {
        let change = row.apply(silent(), NOW + nth, 0, &policy, ROOM);
        assert_eq!(
            change == Change::Hidden,
            nth == 4,
            "a threshold of 0 is LocalAI's 3"
        );
    }
    row.apply(silent(), NOW + 50_000, 0, &policy, ROOM);
    assert!(row.hidden_for_ms > 0);
    assert_eq!(
        row.apply(seen(&["a"]), NOW + 60_000, 0, &policy, ROOM),
        Change::Active
    );
    assert_eq!(
        (row.state, row.hidden_for_ms, row.failures),
        (State::Active, 0, 0)
    );
    assert_eq!(row.last_error, None);
    assert_eq!(row.first_success_ms, Some(NOW + 60_000));
}

#[test]
fn without_a_grace_it_goes_where_localai_removes_it() {
    let policy = Policy {
        delete_after: Duration::ZERO,
        ..policy()
    };
    let mut row = row(1);
    let changes: Vec<Change> = (1..=4)
        .map(|nth| row.apply(silent(), NOW + nth, 0, &policy, ROOM))
        .collect();
    assert_eq!(changes[..3], [Change::Missed; 3]);
    assert_eq!(changes[3], Change::Gone);
}

#[test]
fn nodes_without_workers_are_seen_and_fail() {
    let mut row = row(1);
    let outcome = Outcome::Seen {
        clusters: vec![cluster(ClusterKind::Worker, "", &[])],
        nodes: 3,
    };
    assert_eq!(row.apply(outcome, NOW, 0, &policy(), ROOM), Change::Missed);
    assert_eq!((row.nodes, row.failures), (3, 1));
    assert_eq!(row.last_seen_ms, Some(NOW));
    assert_eq!(row.last_success_ms, None);
    assert_eq!(row.clusters, None, "LocalAI's null stays");
    assert_eq!(row.last_error.as_deref(), Some("no worker is online"));
}

/// Neither time that nobody looked nor a clock that jumps ahead counts as being hidden.
#[test]
fn only_time_that_looks_saw_counts_until_it_goes() {
    let policy = policy();
    let mut row = row(1);
    for nth in 1..=4 {
        row.apply(silent(), NOW + nth, 0, &policy, ROOM);
    }
    assert_eq!(row.state, State::Hidden);
    let year = 365 * 24 * 3_600_000;
    assert_eq!(
        row.apply(silent(), NOW + year, 0, &policy, ROOM),
        Change::Missed
    );
    // Back again: nothing is subtracted.
    assert_eq!(row.apply(silent(), NOW, 0, &policy, ROOM), Change::Missed);
    assert!(row.hidden_for_ms < 100_000);
    assert!(
        row.is_due(NOW - year, &policy),
        "a clock that was put back delays nothing"
    );
}

#[test]
fn what_is_kept_of_clusters_is_bounded_and_in_order() {
    use ClusterKind::{Federated, MlxWorker, Worker};
    let said = vec![
        cluster(Federated, "", &["b", "a", "b", ""]),
        cluster(Worker, "gpu_lab", &["x"]),
        cluster(Worker, "", &[]),
        cluster(Federated, "", &["c"]),
        cluster(MlxWorker, "gpu_lab", &[&"y".repeat(257)]),
        cluster(Worker, &"z".repeat(257), &["z"]),
    ];
    let expected = [
        cluster(Worker, "gpu_lab", &["x"]),
        cluster(Federated, "", &["a", "b", "c"]),
    ];
    assert_eq!(fit(said, ROOM), expected);
    let many = |n: u32| cluster(Worker, "", &[&format!("{n:04}")]);
    let all = fit((0..9_000).map(many).collect(), usize::MAX);
    assert!(all.iter().map(Cluster::bytes).sum::<usize>() <= MAX_CLUSTER_BYTES);
    assert!(all[0].workers.len() > 2_000 && all[0].workers[0] == "0000");
    assert_eq!(fit(all, 0), []);
}

#[test]
fn another_spelling_and_a_later_generation_are_the_same_network() {
    let networks = Networks::default();
    let (edits, added) = networks.add(new(1), NOW).unwrap();
    let networks = networks.with(&edits);
    let later = token(1).next_generation(Secret::new([9; 32]));
    for again in [token(1), token(1).to_native(), later.clone()] {
        let refused = networks.add(NewNetwork::new(again), NOW).unwrap_err();
        assert_eq!(refused, Refused::Exists(added.key));
    }
    let edit = |token| Edit {
        token: Some(token),
        ..Edit::default()
    };
    let (edits, row) = networks.edit(&added.key, edit(later.clone()), NOW).unwrap();
    assert!(row.token == later && row.incarnation > added.incarnation);
    assert_eq!(edits.put.len(), 1);
    let other = networks.edit(&added.key, edit(token(2)), NOW);
    assert!(matches!(other, Err(Refused::OtherNetwork { .. })));
    let text = added.key.to_string();
    assert_eq!(text.parse(), Ok(added.key));
    assert_eq!(text.to_uppercase().parse(), Ok(added.key));
    assert!("abc".parse::<NetworkKey>().is_err());
}

#[test]
fn a_deleted_network_never_comes_back_by_a_look() {
    let networks = Networks::default();
    let (edits, first) = networks.add(new(1), NOW).unwrap();
    let networks = networks.with(&edits);
    let look = |row: &Network| Looked {
        key: row.key,
        incarnation: row.incarnation,
        outcome: seen(&["atlas"]),
        random: 0,
    };
    let networks = networks.with(&networks.remove(&[first.key], NOW).unwrap());
    assert!(networks.is_removed(&first.key));
    let (edits, recorded) = networks.record(vec![look(&first)], NOW, &policy());
    assert!(edits.is_empty());
    assert_eq!(recorded.void, 1);
    // Nor does the look count for the same network that was added again.
    let (edits, second) = networks.add(new(1), NOW).unwrap();
    assert_eq!(edits.forget, [first.key]);
    let networks = networks.with(&edits);
    assert!(!networks.is_removed(&first.key));
    let both = vec![look(&first), look(&second)];
    let (edits, recorded) = networks.record(both, NOW, &policy());
    assert_eq!((recorded.void, recorded.active), (1, 1));
    assert_eq!(edits.put.len(), 1);
    assert_eq!(edits.put[0].history.looks().len(), 1);
}

#[test]
fn rows_and_bytes_are_bounded() {
    let held = Held {
        rows: 2,
        bytes: 4_000,
    };
    let mut networks = Networks::new(Vec::new(), Vec::new(), held);
    for n in 1..=2 {
        networks = networks.with(&networks.add(new(n), NOW).unwrap().0);
    }
    assert!(matches!(
        networks.add(new(3), NOW),
        Err(Refused::Full { rows: 3, .. })
    ));
    let long = Edit {
        description: Some("x".repeat(3_000)),
        ..Edit::default()
    };
    let refused = networks.edit(&key(1), long, NOW);
    assert!(
        matches!(refused, Err(Refused::Full { rows: 2, .. })),
        "{refused:?}"
    );
    // What a look found is cut to the room that is left.
    let workers: Vec<String> = (0..500).map(|n| format!("worker-{n}")).collect();
    let workers: Vec<&str> = workers.iter().map(String::as_str).collect();
    let row = networks.get(&key(1)).unwrap();
    let looked = Looked {
        key: row.key,
        incarnation: row.incarnation,
        outcome: seen(&workers),
        random: 0,
    };
    let (edits, _) = networks.record(vec![looked], NOW, &policy());
    let kept = edits.put[0].workers();
    assert!((1..500).contains(&kept), "{kept}");
    let networks = networks.with(&edits);
    assert!(networks.bytes() < held.bytes + 200, "{}", networks.bytes());
    assert_eq!(
        networks.bytes(),
        networks.iter().map(|row| row.bytes()).sum::<usize>()
    );
}

#[test]
fn long_texts_are_refused() {
    let networks = Networks::default();
    let refused = |change: fn(&mut NewNetwork)| {
        let mut new = new(1);
        change(&mut new);
        networks.add(new, NOW).unwrap_err()
    };
    let name = refused(|new| new.name = "x".repeat(MAX_NAME_BYTES + 1));
    assert_eq!(name, Refused::Name { len: 257 });
    let text = refused(|new| new.description = "x".repeat(MAX_DESCRIPTION_BYTES + 1));
    assert_eq!(text, Refused::Description { len: 4_097 });
    let many = refused(|new| new.bootstrap = vec!["a:1".parse().unwrap(); MAX_BOOTSTRAP + 1]);
    assert_eq!(many, Refused::Bootstrap { count: 9 });
}

#[test]
fn an_import_leaves_known_networks_and_a_shared_file_brings_nothing_back() {
    let networks = Networks::default();
    let all = (1..=3).map(new).collect();
    let (edits, merged) = networks.import(all, Import::Merge, NOW).unwrap();
    assert_eq!(merged.added, 3);
    let networks = networks.with(&edits);
    let incarnations: BTreeSet<u64> = networks.iter().map(|row| row.incarnation).collect();
    assert_eq!(incarnations.len(), 3);
    let networks = networks.with(&networks.remove(&[key(3)], NOW).unwrap());

    let mut named = new(1);
    named.name = "other".to_owned();
    let rows = vec![named, new(3), new(4), new(4)];
    let (_, shared) = networks.import(rows.clone(), Import::Shared, NOW).unwrap();
    assert_eq!((shared.added, shared.known, shared.barred), (1, 1, 1));
    let (edits, user) = networks.import(rows.clone(), Import::Merge, NOW).unwrap();
    assert_eq!((user.added, user.known, edits.forget.len()), (2, 1, 1));
    let (edits, all) = networks.import(rows, Import::Replace, NOW).unwrap();
    assert_eq!((all.added, all.changed, all.removed), (2, 1, 1));
    let networks = networks.with(&edits);
    assert_eq!(networks.get(&key(1)).unwrap().name, "other");
    assert!(networks.get(&key(2)).is_none());
    let empty = networks.import(Vec::new(), Import::Replace, NOW);
    assert_eq!(empty.unwrap_err(), Refused::Empty);
}

#[test]
fn what_another_explorer_saw_is_listed_until_a_look_says_otherwise() {
    let networks = Networks::default();
    let imported = NewNetwork {
        clusters: Some(vec![cluster(ClusterKind::Federated, "", &["a"])]),
        failures: 2,
        ..new(1)
    };
    let (edits, row) = networks.add(imported, NOW).unwrap();
    assert_eq!(
        (row.state, row.failures, row.is_listed()),
        (State::Stale, 2, true)
    );
    assert_eq!(networks.with(&edits).listed().count(), 1);
}

#[test]
fn pages_are_sorted_filtered_and_cut() {
    let mut networks = Networks::default();
    for n in 1..=4_u8 {
        let clusters = (0..n).map(|at| cluster(ClusterKind::Worker, &format!("Net_{at}"), &["w"]));
        let row = NewNetwork {
            clusters: (n > 1).then(|| clusters.collect()),
            ..new(n)
        };
        networks = networks.with(&networks.add(row, NOW + u64::from(n)).unwrap().0);
    }
    let names = |query: &Query| {
        let page = networks.page(query);
        let names = page.rows.iter().map(|row| row.name.clone());
        (names.collect::<Vec<_>>().join(" "), page.total)
    };
    let listed: Vec<&str> = networks.listed().map(|row| row.name.as_str()).collect();
    assert_eq!(listed, ["n4", "n3", "n2"]);
    let all = Query {
        all: true,
        sort: Sort::Added,
        ..Query::default()
    };
    assert_eq!(names(&all), ("n4 n3 n2 n1".to_owned(), 4));
    let cut = Query {
        offset: 1,
        limit: Some(1),
        ..Query::default()
    };
    assert_eq!(names(&cut), ("n3".to_owned(), 3));
    for (text, found) in [("NET_2", "n4 n3"), ("n3", "n3"), ("nothing", "")] {
        let query = Query {
            text: Some(text.to_owned()),
            ..Query::default()
        };
        assert_eq!(names(&query).0, found);
    }
    let other = Query {
        kind: Some(ClusterKind::Federated),
        ..Query::default()
    };
    assert_eq!(names(&other), (String::new(), 0));
    for (name, sort) in Sort::ALL {
        assert_eq!((name.parse(), sort.to_string().as_str()), (Ok(sort), name));
        assert_eq!(networks.sorted(sort).len(), 4);
    }
}

#[test]
fn the_removals_that_are_remembered_are_bounded() {
    let removed = |n: u32| {
        let mut bytes = [0; NetworkKey::BYTES];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Removed {
            key: NetworkKey::from_bytes(bytes),
            at_ms: u64::from(n),
        }
    };
    let old = (0..20_000).map(removed).collect();
    let networks = Networks::new(vec![row(1)], old, Held::default());
    let edits = networks.remove(&[key(1)], NOW).unwrap();
    assert_eq!(edits.forget, [removed(0).key], "the oldest is forgotten");
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(silent()),
        1 => Just(Outcome::Failed { reason: "é".repeat(300) }),
        2 => Just(seen(&["a", "b"])),
        1 => Just(seen(&[])),
        1 => Just(Outcome::Offline),
    ]
}

proptest! {
    /// The schedule is bounded both ways, and being offline costs a network nothing.
    #[test]
    fn looks_keep_to_their_bounds(
        looks in prop::collection::vec((outcome(), any::<u32>(), 0_u64..200_000), 1..60),
        threshold in 0_u32..5,
    ) {
        let policy = Policy { threshold, ..policy() };
        let mut row = row(1);
        let mut now = NOW;
        let mut misses = 0;
        for (outcome, random, pause) in looks {
            now += pause;
            let before = row.clone();
            let offline = outcome == Outcome::Offline;
            let success = outcome == seen(&["a", "b"]);
            let change = row.apply(outcome, now, random, &policy, ROOM);
            let next = row.next_look_ms - now;
            prop_assert!((9_000..=44_000).contains(&next), "{next}");
            prop_assert!(!row.is_due(now, &policy) && row.is_due(row.next_look_ms, &policy));
            prop_assert!(row.history.looks().len() <= 32);
            prop_assert!(row.last_error.as_ref().is_none_or(|error| error.len() <= MAX_ERROR_BYTES));
            if offline {
                let next_look_ms = row.next_look_ms;
                prop_assert_eq!(&row, &Network { next_look_ms, ..before });
                prop_assert_eq!(change, Change::Excused);
                continue;
            }
            misses = if success { 0 } else { misses + 1 };
            prop_assert_eq!(row.failures, misses);
            prop_assert_eq!(row.state == State::Hidden, policy.is_over(misses));
            prop_assert_eq!(change == Change::Active, row.state == State::Active);
            let clusters_changed = row.clusters != before.clusters;
            prop_assert!(!clusters_changed || success);
            if change == Change::Gone {
                prop_assert!(row.hidden_for_ms >= 100_000);
                return Ok(());
            }
        }
    }

    /// Whatever is done in whatever order: what is shown is what was asked for, and nothing that
    /// was removed is there.
    #[test]
    fn any_order_of_changes_ends_as_a_naive_account_of_them(
        changes in prop::collection::vec((0_u8..4, 1_u8..5, outcome()), 1..60)
    ) {
        let policy = policy();
        let mut networks = Networks::default();
        let mut model: BTreeMap<NetworkKey, u32> = BTreeMap::new();
        // Looks that are on their way: at the rows as they were then.
        let mut flying: Vec<Arc<Network>> = Vec::new();
        let mut now = NOW;
        for (what, n, outcome) in changes {
            now += 1_000;
            let edits = match what {
                0 => match networks.add(new(n), now) {
                    Ok((edits, row)) => {
                        prop_assert!(model.insert(row.key, 0).is_none());
                        edits
                    }
                    Err(error) => {
                        prop_assert_eq!(error, Refused::Exists(key(n)));
                        continue;
                    }
                },
                1 => match networks.remove(&[key(n)], now) {
                    Ok(edits) => {
                        prop_assert!(model.remove(&key(n)).is_some());
                        edits
                    }
                    Err(error) => {
                        prop_assert_eq!(error, Refused::NotFound(key(n)));
                        continue;
                    }
                },
                2 => {
                    flying.extend(networks.get(&key(n)).cloned());
                    continue;
                }
                _ => {
                    let Some(row) = flying.pop() else { continue };
                    let current = networks.get(&row.key).map(|row| row.incarnation);
                    let (key, incarnation) = (row.key, row.incarnation);
                    let success = outcome == seen(&["a", "b"]);
                    let offline = outcome == Outcome::Offline;
                    let looked = Looked { key, incarnation, outcome, random: 0 };
                    let (edits, recorded) = networks.record(vec![looked], now, &policy);
                    prop_assert_eq!(recorded.void == 1, current != Some(incarnation));
                    if recorded.void == 0 && !offline {
                        let failures = model.get_mut(&key).unwrap();
                        *failures = if success { 0 } else { *failures + 1 };
                        if !recorded.gone.is_empty() {
                            model.remove(&key);
                        }
                    }
                    edits
                }
            };
            networks = networks.with(&edits);
            let shown: BTreeMap<NetworkKey, u32> =
                networks.iter().map(|row| (row.key, row.failures)).collect();
            prop_assert_eq!(&shown, &model);
            prop_assert_eq!(networks.bytes(), networks.iter().map(|row| row.bytes()).sum::<usize>());
        }
    }
}
