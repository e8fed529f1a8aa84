//! A real disk that is full, then has room again, then is read-only; and a directory of somebody
//! else. Each needs rights: without them the test says so and passes.
//!
//! The test runs itself again in a mount namespace of its own, so nothing outside sees the disk.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use warren::mesh::entry::{Class, Draft, Entry, NetworkId};
use warren::mesh::id::Identity;
use warren::store::{Change, Health, Store};

const DISK: &str = "WARREN_TEST_DISK";
const FOREIGN: &str = "WARREN_TEST_FOREIGN";
const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_534;

fn entry(key: &str, len: usize) -> Change {
    let draft = Draft {
        bucket: "full".parse().unwrap(),
        key: key.to_owned(),
        class: Class::Durable,
        version: 1,
        boot: 0,
        deleted: false,
        value: vec![7; len],
    };
    let author = Identity::from_seed(&[1; 32]);
    Change::PutEntry(Entry::sign(NetworkId([1; 16]), &author, draft).unwrap())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn this_test(name: &str) -> Vec<String> {
    let exe = std::env::current_exe().unwrap();
    let exe = exe.to_str().unwrap().to_owned();
    vec![exe, "--exact".into(), name.into(), "--nocapture".into()]
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}\n{errors}");
}

#[test]
fn a_full_disk_is_said_survived_and_left_behind() {
    let can = is_root()
        && Command::new("unshare")
            .args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: mounting a small disk needs root and `unshare -m`");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .arg("-m")
        .args(this_test("small_disk"))
        .env(DISK, dir.path())
        .output()
        .unwrap();
    assert_passed(&output);
}

fn mount(options: &str, at: &Path) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at)
        .status();
    assert!(status.unwrap().success());
}

/// Leaves no byte free.
fn fill(disk: &Path) {
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
}

/// The child: what happens on the small disk.
#[tokio::test]
async fn small_disk() {
    let Some(disk) = std::env::var_os(DISK) else {
        return;
    };
    let disk = Path::new(&disk);
    mount("size=4m", disk);
    let data = disk.join("data");
    let (store, _) = Store::open(&data, 1).unwrap();
    let mut kept = vec!["first".to_owned()];
    store.commit(vec![entry("first", 10)]).await.unwrap();

    fill(disk);
    let error = loop {
        let key = format!("k{}", kept.len());
        match store.commit(vec![entry(&key, 60_000)]).await {
            Ok(()) => kept.push(key),
            Err(error) => break error.to_string(),
        }
        assert!(kept.len() < 200, "the disk never fills up");
    };
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("make room"), "{error}");
    let mut health = store.health();
    assert!(matches!(&*health.borrow_and_update(), Health::Failing { reason } if *reason == error));
    // The daemon goes on: reads are from memory, counts wait.
    store.later(Change::Count {
        bucket: "full".parse().unwrap(),
        node: Identity::from_seed(&[1; 32]).id(),
        add: 3,
    });
    assert!(store.commit(vec![entry("refused", 60_000)]).await.is_err());

    fs::remove_file(disk.join("ballast")).unwrap();
    let recovers = health.wait_for(|health| *health == Health::Healthy);
    drop(tokio::time::timeout(PATIENCE, recovers).await.unwrap());
    store.commit(vec![entry("after", 60_000)]).await.unwrap();
    kept.push("after".to_owned());
    store.close().await.unwrap();

    let (store, loaded) = Store::open(&data, 1).unwrap();
    for key in &kept {
        assert!(loaded.ledger.iter().any(|e| e.slot.key == *key), "{key}");
    }
    assert_eq!(loaded.counts[0].2, 3);
    store.close().await.unwrap();
    start_on_a_full_disk(disk).await;
    start_on_a_read_only_disk(disk);
}

async fn start_on_a_full_disk(disk: &Path) {
    fill(disk);
    let Err(error) = Store::open(&disk.join("new"), 1).map(drop) else {
        unreachable!("a new database fits nowhere");
    };
    assert!(error.to_string().contains("make room"), "{error}");
    fs::remove_file(disk.join("ballast")).unwrap();
    let (store, _) = Store::open(&disk.join("new"), 1).unwrap();
    store.close().await.unwrap();
}

fn start_on_a_read_only_disk(disk: &Path) {
    mount("remount,ro", disk);
    for dir in ["data", "other"] {
        let Err(error) = Store::open(&disk.join(dir), 1).map(drop) else {
            unreachable!("it opened on a read-only disk");
        };
        let error = error.to_string();
        assert!(error.contains("the disk is read-only: mount it"), "{error}");
    }
}

#[test]
fn a_directory_of_somebody_else_is_named() {
    if !is_root() {
        println!("skipped: giving away a directory needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    for path in [dir.path(), &theirs] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The test's own binary may be where nobody else can go.
    let exe = dir.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&exe)
        .args(["--exact", "foreign_directory", "--nocapture"])
        .current_dir("/")
        .env(FOREIGN, &theirs)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert_passed(&output);
}

/// The child: a user without rights.
#[test]
fn foreign_directory() {
    let Some(dir) = std::env::var_os(FOREIGN) else {
        return;
    };
    let dir = Path::new(&dir);
    for place in [dir.to_owned(), dir.join("below")] {
        let Err(error) = Store::open(&place, 1).map(drop) else {
            unreachable!("it opened somebody else's directory");
        };
        let error = error.to_string();
        assert!(error.contains("Permission denied"), "{error}");
        assert!(
            error.contains("give this user read and write access"),
            "{error}"
        );
        assert!(error.contains(dir.to_str().unwrap()), "{error}");
    }
}
