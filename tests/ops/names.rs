//! Names of nodes, services, networks and buckets are `[A-Za-z0-9._-]{1,63}`, wherever they come
//! from.

use std::fs;

use crate::world::{Daemon, World, refusal};

#[test]
fn a_name_outside_the_rule_is_refused_wherever_it_comes_from() {
    let world = World::new();
    let long = "x".repeat(64);
    for (name, reason) in [
        ("a b", "' ' at position 1"),
        ("a/b", "'/' at position 1"),
        ("ä", "not allowed"),
        ("a\nb", "not allowed"),
        ("", "1 to 63"),
        (&long, "64 were given"),
    ] {
        let (expose, ingress) = (format!("{name}=127.0.0.1:1"), format!("{name}=127.0.0.1:0"));
        let up: [&[&str]; 4] = [
            &["--name", name],
            &["--network-id", name],
            &["--expose", &expose],
            &["--ingress", &ingress],
        ];
        for flags in up {
            refusal(&mut world.up("data", flags), 2, &[flags[0], reason]);
        }
        let commands: [&[&str]; 4] = [
            &["expose", name, "127.0.0.1:1"],
            &["ingress", name, "127.0.0.1:0"],
            &["federated", "--service", name],
            &["ledger", "ls", &format!("{name}/{long}{long}")],
        ];
        for args in commands {
            refusal(&mut world.command(args), 2, &[]);
        }
        // An empty variable is one that is not set.
        if !name.is_empty() {
            let mut command = world.up("data", &[]);
            refusal(
                command.env("WARREN_NAME", name),
                2,
                &["WARREN_NAME", reason],
            );
        }
    }
    assert!(!world.path("data").exists(), "nothing is made");
}

#[test]
fn what_a_command_reads_is_named_when_it_is_refused() {
    let world = World::new();
    let _daemon = Daemon::start(world.up("data", &[]));
    fs::write(world.path("long"), vec![b'v'; 70_000]).unwrap();
    let mut put = world.command(&["ledger", "put", "b", "k", "-", "--data-dir", "data"]);
    put.stdin(fs::File::open(world.path("long")).unwrap());
    refusal(&mut put, 2, &["standard input", "65536"]);
    for text in ["{", "[]", "{\"warren_ledger\":1}"] {
        fs::write(world.path("export.json"), text).unwrap();
        let args = ["ledger", "import", "export.json", "--data-dir", "data"];
        let words = ["export.json is no export", "hint: ", "ledger export"];
        refusal(&mut world.command(&args), 2, &words);
    }
    let args = ["ledger", "put", "b", "", "v", "--data-dir", "data"];
    refusal(&mut world.command(&args), 2, &["1 to 512 bytes"]);
    let args = ["role", "rm", "99", "--data-dir", "data"];
    refusal(
        &mut world.command(&args),
        1,
        &["no role 99", "services --roles"],
    );
}
