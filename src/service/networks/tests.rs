//! One database, many who change it; and the file that is shared with LocalAI.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::mesh::keys::Secret;
use crate::mesh::networks::{Cluster, ClusterKind, Outcome, Removed};

const NOW: u64 = 1_700_000_000_000;
const EXPLORER: &str = include_str!("../../../tests/fixtures/explorer.json");
const LOCALAI: &str = include_str!("../../../tests/fixtures/localai-token.txt");

fn open(dir: &TempDir) -> NetworkDb {
    NetworkDb::open(dir.path(), Held::default(), NOW).unwrap()
}

fn new(n: u8) -> NewNetwork {
    let token = Token::new(Secret::new([n; 32]), 9_000, 360).unwrap();
    NewNetwork {
        name: format!("n{n}"),
        publish_token: true,
        ..NewNetwork::new(token)
    }
}

fn text(n: u8) -> String {
    new(n).token.to_text().to_string()
}

fn names(db: &NetworkDb) -> Vec<String> {
    let mut names: Vec<String> = db.networks().iter().map(|row| row.name.clone()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_who_watches_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut changes = db.changes();
    let added = db.add(new(1), NOW).await.unwrap();
    let told = changes.recv().await.unwrap();
    assert_eq!((told.revision, told.put.len()), (1, 1));
    assert_eq!(
        db.networks().revision(),
        1,
        "it is there before it is told of"
    );
    let held = db.networks();
    let looked = Looked {
        key: added.key,
        incarnation: added.incarnation,
        outcome: Outcome::Seen {
            clusters: vec![Cluster {
                kind: ClusterKind::MlxWorker,
                network_id: "gpu_lab".to_owned(),
                workers: vec!["atlas".to_owned()],
            }],
            nodes: 2,
        },
        random: 7,
    };
    let recorded = db.record(vec![looked], &Policy::default(), NOW + 1).await;
    assert_eq!(recorded.unwrap().active, 1);
    let row = db.get(&added.key).unwrap();
    assert!(
        held.get(&added.key)
            .is_some_and(|old| old.clusters.is_none()),
        "a snapshot stays"
    );
    db.add(new(2), NOW).await.unwrap();
    db.remove(&[NetworkKey::of(&new(2).token)], NOW)
        .await
        .unwrap();
    db.close().await.unwrap();
    drop(db);

    let db = open(&dir);
    let mut again = Network::clone(&db.get(&added.key).unwrap());
    again.incarnation = row.incarnation;
    assert_eq!(again, *row);
    assert_eq!(again.history.looks().len(), 1);
    assert_eq!(db.networks().len(), 1);
    assert!(db.networks().is_removed(&NetworkKey::of(&new(2).token)));
    assert!(db.boot() > NOW);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let second = NetworkDb::open(dir.path(), Held::default(), NOW);
    let Err(error) = second.map(drop) else {
        panic!("two processes hold one directory")
    };
    assert_eq!(error.code(), "in_use");
    db.introduce("explorer".parse().unwrap(), NOW).unwrap();
    let named = NetworkDb::open(dir.path(), Held::default(), NOW).map(drop);
    let named = named.unwrap_err().to_string();
    let process = format!("explorer, process {}", std::process::id());
    assert!(named.contains(&process), "{named}");
    db.close().await.unwrap();
}

/// Adds, removals and looks of the same networks at once: whatever was removed last stays away.
#[tokio::test]
async fn a_removed_network_never_comes_back_however_many_look_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=4_u8 {
        let db = db.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                let row = db.add(new(n), NOW).await.unwrap();
                let looks = (0..3).map(|_| {
                    let looked = Looked {
                        key: row.key,
                        incarnation: row.incarnation,
                        outcome: Outcome::Silent {
                            reason: "nobody".to_owned(),
                        },
                        random: 0,
                    };
                    let db = db.clone();
                    tokio::spawn(async move {
                        db.record(vec![looked], &Policy::default(), NOW)
                            .await
                            .unwrap()
                    })
                });
                let looks: Vec<_> = looks.collect();
                db.remove(&[row.key], NOW).await.unwrap();
                assert!(db.get(&row.key).is_none());
                for look in looks {
                    look.await.unwrap();
                }
                assert!(db.get(&row.key).is_none(), "a look brought it back");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    db.close().await.unwrap();
    drop(db);
    assert!(open(&dir).networks().is_empty());
}

#[tokio::test]
async fn the_secret_of_a_localai_token_is_derived_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let options = ImportOptions::default();
    let imported = db.import(EXPLORER, options, NOW).await.unwrap();
    assert_eq!(imported.merged.added, 1);
    let derived = db.read_token(LOCALAI).await.unwrap();
    db.close().await.unwrap();
    drop(db);

    let db = open(&dir);
    let known = explorer::read(EXPLORER.as_bytes(), Options::default()).unwrap();
    let at_hand = db.0.tokens.at_hand(&known.entries[0].token, &db.networks());
    assert!(
        at_hand.is_some_and(|token| token == derived),
        "it was not kept"
    );
    let error = db.add(NewNetwork::new(derived), NOW).await.unwrap_err();
    assert_eq!(error.as_localai(), Some("Token already exists"));
    let error = db.read_token("YTogYg==").await.unwrap_err();
    assert_eq!(error.as_localai(), Some("Invalid token"));
    db.close().await.unwrap();
}

/// A database with a file beside it.
struct Beside {
    dir: TempDir,
    db: NetworkDb,
    pool: Pool,
    path: PathBuf,
}

impl Beside {
    fn new(content: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("explorer.json");
        std::fs::write(&path, content).unwrap();
        let db = open(&dir);
        let pool = Pool::new(db.clone(), &path);
        Self {
            dir,
            db,
            pool,
            path,
        }
    }

    fn file(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }
}

#[tokio::test]
async fn the_file_comes_in_and_what_is_here_goes_out() {
    let beside = Beside::new(EXPLORER);
    let pooled = beside.pool.load(NOW).await.unwrap();
    assert_eq!((pooled.merged.added, pooled.report.problem_count), (1, 0));
    beside.pool.sync(NOW).await.unwrap();
    assert_eq!(beside.file(), EXPLORER, "byte for byte");
    let private = NewNetwork {
        publish_token: false,
        ..new(2)
    };
    beside.db.add(private, NOW).await.unwrap();
    beside.db.add(new(1), NOW).await.unwrap();
    beside.pool.sync(NOW).await.unwrap();
    let file = beside.file();
    assert!(file.contains(&text(1)), "{file}");
    assert!(!file.contains(&text(2)), "its poster did not agree to that");
    assert!(file.contains("garage"));
    assert!(beside.dir.path().join("explorer.json.lock").exists());
}

#[tokio::test]
async fn others_may_write_the_file_and_what_was_removed_here_stays_away() {
    let junk = "\"YTogYg==\":{\"name\":\"junk\"}";
    let row = |n| {
        format!(
            "\"{}\":{{\"name\":\"n{n}\",\"description\":\"\",\"Clusters\":null,\"Failures\":0}}",
            text(n)
        )
    };
    let beside = Beside::new(&format!("{{{},{junk}}}", row(1)));
    let pooled = beside.pool.load(NOW).await.unwrap();
    assert_eq!((pooled.merged.added, pooled.report.problem_count), (1, 1));
    let key = NetworkKey::of(&new(1).token);
    beside.db.remove(&[key], NOW).await.unwrap();
    // LocalAI writes all it ever knew, and what it was told since.
    std::fs::write(&beside.path, format!("{{{},{junk},{}}}", row(1), row(2))).unwrap();
    let pooled = beside.pool.sync(NOW).await.unwrap();
    assert_eq!((pooled.merged.added, pooled.merged.barred), (1, 1));
    assert_eq!(names(&beside.db), ["n2"]);
    assert_eq!(beside.file(), format!("{{{junk},{}}}\n", row(2)));
    // The same after a restart; but whoever adds it again gets it.
    let Beside {
        dir,
        db,
        pool,
        path,
    } = beside;
    db.close().await.unwrap();
    drop((db, pool));
    std::fs::write(&path, format!("{{{}}}", row(1))).unwrap();
    let db = open(&dir);
    let pool = Pool::new(db.clone(), &path);
    assert_eq!(pool.sync(NOW).await.unwrap().merged.barred, 1);
    db.add(new(1), NOW).await.unwrap();
    pool.sync(NOW).await.unwrap();
    assert_eq!(names(&db), ["n1", "n2"]);
    assert!(std::fs::read_to_string(&path).unwrap().contains(&text(1)));
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_none_is_left_as_it_is() {
    for broken in ["{\"a\":", "[]", "\u{0}"] {
        let beside = Beside::new(broken);
        let error = beside.pool.sync(NOW).await.unwrap_err().to_string();
        assert!(error.contains("explorer.json: line 1, column "), "{error}");
        assert_eq!(beside.file(), broken);
    }
    let beside = Beside::new("");
    std::fs::remove_file(&beside.path).unwrap();
    beside.pool.sync(NOW).await.unwrap();
    assert_eq!(beside.file(), "{}\n", "there was none");
}

#[tokio::test]
async fn what_does_not_fit_stays_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("explorer.json");
    let rows = (1..=3).map(|n| format!("\"{}\":{{}}", text(n)));
    let rows: Vec<String> = rows.collect();
    std::fs::write(&path, format!("{{{}}}", rows.join(","))).unwrap();
    let held = Held {
        rows: 2,
        ..Held::default()
    };
    let db = NetworkDb::open(dir.path(), held, NOW).unwrap();
    let pooled = Pool::new(db.clone(), &path).sync(NOW).await.unwrap();
    assert_eq!((pooled.merged.added, pooled.merged.left_out), (2, 1));
    let file = std::fs::read_to_string(&path).unwrap();
    assert!((1..=3).all(|n| file.contains(&text(n))), "{file}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn removals_are_loaded_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut loaded) = Store::open(dir.path(), NOW).unwrap();
    loaded.removed_networks = vec![Removed {
        key: NetworkKey::of(&new(1).token),
        at_ms: NOW,
    }];
    let db = NetworkDb::of(store, &mut loaded, Held::default());
    assert!(db.networks().is_removed(&NetworkKey::of(&new(1).token)));
    assert!(loaded.removed_networks.is_empty());
    db.close().await.unwrap();
}
