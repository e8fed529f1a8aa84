//! `kill -9` at any moment: what was acknowledged is there, and the database opens.
//!
//! The test runs itself again as a child, which stores entries and says which were acknowledged.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use warren::mesh::entry::{Class, Draft, Entry, NetworkId};
use warren::mesh::id::Identity;
use warren::mesh::ip_table::{Row, Source};
use warren::store::{Change, Store, StoreError};

const ROUNDS: u64 = 20;
const DIR: &str = "WARREN_TEST_CRASH_DIR";
const START: &str = "WARREN_TEST_CRASH_START";
const ACK: &str = "acknowledged ";

fn entry(key: &str, len: usize) -> Entry {
    let draft = Draft {
        bucket: "crash".parse().unwrap(),
        key: key.to_owned(),
        class: Class::Durable,
        version: 1,
        boot: 0,
        deleted: false,
        value: vec![7; len],
    };
    Entry::sign(NetworkId([1; 16]), &Identity::from_seed(&[1; 32]), draft).unwrap()
}

/// Machines of one import, named after it.
const MACHINES: u8 = 100;

/// An import that replaces the table.
fn import(name: &str) -> Vec<Change> {
    let machine = |n: u8| {
        let place = format!("192.0.2.{n}").parse().unwrap();
        let mut row = Row::new(place, Source::Imported);
        row.name = name.to_owned();
        row.into()
    };
    let rows = (0..MACHINES).map(machine).collect();
    vec![Change::ClearMachines, Change::PutMachines(rows)]
}

/// Small, repeatable, good enough to choose moments.
fn next(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// The child: writes until it is killed.
#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let mut round: u64 = std::env::var(START).unwrap().parse().unwrap();
    let (store, _) = Store::open(Path::new(&dir), 1).unwrap();
    round *= 1_000_000;
    for n in round.. {
        let node = Identity::from_seed(&[2; 32]).id();
        store.later(Change::Count {
            bucket: "crash".parse().unwrap(),
            node,
            add: 1,
        });
        // Two at once, so that some share a transaction; overwritten rows besides new ones.
        let len = usize::try_from(n * 7919 % 20_000).unwrap();
        let (one, two) = (format!("{n}"), format!("{n} b"));
        let first = store.commit(vec![
            Change::PutEntry(entry(&one, len)),
            Change::PutEntry(entry("same", len)),
        ]);
        let second = store.commit(vec![Change::PutEntry(entry(&two, 10))]);
        let (first, second) = tokio::join!(first, second);
        store.commit(import(&one)).await.unwrap();
        let mut out = std::io::stdout().lock();
        for (result, key) in [(first, one), (second, two)] {
            result.unwrap();
            writeln!(out, "{ACK}{key}").unwrap();
        }
        out.flush().unwrap();
    }
}

fn spawn(dir: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIR, dir)
        .env(START, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut seed = 42;
    let mut acknowledged = BTreeSet::new();
    let mut last_boot = 0;
    let mut imported = false;
    for round in 1..=ROUNDS {
        let mut child = spawn(dir.path(), round);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let wanted = next(&mut seed) % 40;
        let mut heard = 0;
        let mut line = String::new();
        // Wait for a random number of them, then kill in the middle of whatever comes next.
        while heard < wanted && out.read_line(&mut line).unwrap() > 0 {
            if let Some(key) = line.trim_end().strip_prefix(ACK) {
                acknowledged.insert(key.to_owned());
                heard += 1;
            }
            line.clear();
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it ended by itself");
        assert_eq!(heard, wanted, "round {round}: it ended early");
        // What it managed to say before the kill counts too; the last line may be cut.
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let said = rest.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        let keys = said.filter_map(|line| line.trim_end().strip_prefix(ACK));
        acknowledged.extend(keys.map(str::to_owned));

        let (store, loaded) = Store::open(dir.path(), 1).unwrap();
        assert!(loaded.boot > last_boot, "a boot was used twice");
        last_boot = loaded.boot;
        assert_eq!(loaded.damaged, [] as [&str; 0]);
        let found: BTreeSet<&str> = loaded.ledger.iter().map(|e| e.slot.key.as_str()).collect();
        for key in &acknowledged {
            assert!(found.contains(key.as_str()), "round {round} lost {key}");
        }
        let imports: BTreeSet<&str> = loaded.ip_table.iter().map(|r| r.name.as_str()).collect();
        assert!(imports.len() <= 1, "round {round}: {imports:?} are mixed");
        let machines = loaded.ip_table.len();
        assert!([0, usize::from(MACHINES)].contains(&machines), "{machines}");
        imported |= machines > 0;
        for entry in &loaded.ledger {
            assert_eq!(entry.verify(NetworkId([1; 16])), Ok(()));
        }
        store.close().await.unwrap();
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    assert!(imported, "no import ever reached the disk");
}

#[tokio::test]
async fn a_killed_holder_leaves_the_directory_free_and_a_living_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn(dir.path(), 1);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(ACK) {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0);
    }
    let Err(error) = Store::open(dir.path(), 1).map(drop) else {
        child.kill().unwrap();
        unreachable!("two processes hold one directory");
    };
    assert!(matches!(error, StoreError::Held { .. }), "{error}");
    let process = format!("process {}", child.id());
    assert!(error.to_string().contains(&process), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (store, _) = Store::open(dir.path(), 1).unwrap();
    store.close().await.unwrap();
}
