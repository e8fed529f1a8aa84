//! Case 14: whatever moment an import is killed at, the table is the old one or the new one.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;
use crate::{Table, document};

const ROWS: usize = 2_000;
const ROUNDS: u32 = 12;

fn generation(n: u32) -> String {
    let row = |at: usize| {
        let name = format!("generation-{n}");
        json!({"Name": name, "IPV4": format!("10.0.{}.{}", at / 250, at % 250), "UDPServerPort": ""})
    };
    document(&(0..ROWS).map(row).collect::<Value>())
}

/// Asserts that the table is one generation; which one.
fn whole(table: &Table<'_>) -> String {
    let rows = table.rows();
    assert_eq!(rows.len(), ROWS);
    let first = rows[0]["name"].as_str().unwrap().to_owned();
    assert!(
        rows.iter().all(|row| row["name"] == first.as_str()),
        "generations are mixed"
    );
    first
}

#[test]
fn case_14_an_import_that_is_killed_leaves_the_old_table_or_the_new_one() {
    let world = World::new();
    let table = Table::new(&world, "data");
    table.import(&generation(0), &[]);
    let (mut old, mut new) = (0, 0);
    let mut last = whole(&table);
    for round in 1..=ROUNDS {
        std::fs::write(world.path("next.json"), generation(round)).unwrap();
        let args = table.args(&["import", "next.json", "--replace"]);
        let mut child = world.command(&args).stdout(Stdio::null()).spawn().unwrap();
        // The moment of the crash.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 40));
        let _ = child.kill();
        let finished = child.wait().unwrap().success();
        let found = whole(&table);
        let next = format!("generation-{round}");
        assert!(found == last || found == next, "{found} after {last}");
        assert!(!finished || found == next, "what was acknowledged is gone");
        *(if found == next { &mut new } else { &mut old }) += 1;
        last = found;
    }
    assert!(
        old > 0,
        "every import was done before it was killed ({new})"
    );
}

/// The same through a daemon, which is what dies.
#[cfg(feature = "p2p")]
#[test]
fn case_14_a_daemon_that_is_killed_during_an_import_leaves_the_old_table_or_the_new_one() {
    use crate::world::{Daemon, eventually};

    let world = World::new();
    let table = Table::new(&world, "data");
    table.import(&generation(0), &[]);
    let mut last = whole(&table);
    for round in 1..=4_u32 {
        let daemon = Daemon::start(world.up("data", &[]));
        std::fs::write(world.path("next.json"), generation(round)).unwrap();
        let args = table.args(&["import", "next.json", "--replace"]);
        let mut child = world.command(&args);
        let mut child = child
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(round) * 60));
        // Dropped is killed.
        drop(daemon);
        let mut finished = false;
        eventually("the command ends", || {
            let status = child.try_wait().unwrap();
            finished = status.is_some_and(|status| status.success());
            status.is_some()
        });
        let found = whole(&table);
        let next = format!("generation-{round}");
        assert!(found == last || found == next, "{found} after {last}");
        assert!(!finished || found == next, "what was acknowledged is gone");
        last = found;
    }
}
