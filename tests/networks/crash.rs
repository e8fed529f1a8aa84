//! `kill -9` during a thousand adds: every acknowledged add is there. The test runs itself again
//! as a child, which adds and says which were acknowledged.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use warren::mesh::keys::Secret;
use warren::mesh::networks::{Held, NetworkKey, NewNetwork};
use warren::{NetworkDb, Token};

const ROUNDS: u32 = 10;
const ADDS: u32 = 1_000;
const NOW: u64 = 1_700_000_000_000;
const DIR: &str = "WARREN_TEST_CRASH_DIR";
const ACK: &str = "acknowledged ";

fn new(n: u32) -> NewNetwork {
    let mut secret = [0; 32];
    secret[..4].copy_from_slice(&n.to_be_bytes());
    let token = Token::new(Secret::new(secret), 9_000, 360).unwrap();
    NewNetwork {
        name: n.to_string(),
        ..NewNetwork::new(token)
    }
}

fn open(dir: &Path) -> NetworkDb {
    NetworkDb::open(dir, Held::default(), NOW).unwrap()
}

/// The child: adds until it is killed.
#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let db = open(Path::new(&dir));
    for n in 0..ADDS {
        let new = new(n);
        if db.get(&NetworkKey::of(&new.token)).is_none() {
            let added = db.add(new, NOW).await.unwrap();
            // Every third goes again, which must last as well.
            if n % 3 == 0 {
                db.remove(&[added.key], NOW).await.unwrap();
                continue;
            }
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{ACK}{n}").unwrap();
        out.flush().unwrap();
    }
    // Killed here at the latest.
    std::future::pending::<()>().await;
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn every_acknowledged_add_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeSet<u32> = BTreeSet::new();
    for round in 1..=ROUNDS {
        let mut child = spawn(dir.path());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let wanted = ADDS * 2 / 3 * round / ROUNDS - round;
        let mut heard = 0;
        while heard < wanted && out.read_line(&mut line).unwrap() > 0 {
            heard += u32::from(line.starts_with(ACK));
            acknowledged.extend(said(&line));
            line.clear();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(heard, wanted, "round {round}: it ended early");
        // What it managed to say before the kill counts too; the last line may be cut.
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let whole = rest
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        acknowledged.extend(whole.filter_map(said));

        let db = open(dir.path());
        let networks = db.networks();
        let there: BTreeSet<u32> = networks
            .iter()
            .map(|row| row.name.parse().unwrap())
            .collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
        // One may have been on its way: added or removed, and not said.
        assert!(there.len() <= acknowledged.len() + 1, "{}", there.len());
        db.close().await.unwrap();
    }
    assert!(acknowledged.len() > 600, "{}", acknowledged.len());
}

fn said(line: &str) -> Option<u32> {
    line.trim_end().strip_prefix(ACK)?.parse().ok()
}
