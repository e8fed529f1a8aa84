//! The rules of the crate's shape, held on its source: who may name whom, what the pure layers
//! must not touch, and where the clock is. A rule is one line of a table here.

#[path = "architecture/scan.rs"]
mod scan;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use scan::{Named, scan};

/// Each part of the crate, and the other parts it may name.
///
/// `main → cli → node → {service, api} → driver → {net | store} → {mesh, formats}`. The command
/// line reaches the layers below `node` only through what the crate's root re-exports; of `api`
/// it may name the client's half.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &["config", "node", "api", "clock", "mesh", "formats"],
    ),
    ("config", &["node", "mesh", "formats"]),
    (
        "node",
        &[
            "service", "api", "driver", "net", "store", "clock", "mesh", "formats",
        ],
    ),
    ("api", &["service", "driver", "clock", "mesh", "formats"]),
    (
        "service",
        &["driver", "net", "store", "clock", "mesh", "formats"],
    ),
    ("driver", &["net", "store", "clock", "mesh", "formats"]),
    ("net", &["clock", "mesh", "formats"]),
    ("store", &["clock", "mesh", "formats"]),
    ("clock", &["mesh"]),
    ("formats", &["mesh"]),
    ("mesh", &["formats"]),
];

/// Decisions and documents: no I/O, no clock, no chance but what is handed in.
const PURE: &[&str] = &["mesh", "formats"];

/// What the pure layers must not name. Addresses (`std::net::IpAddr`, `SocketAddr`) and
/// `std::time::Duration` are values and allowed.
const IMPURE: &[&str] = &[
    "axum",
    "aws_lc_rs::rand",
    "futures_util",
    "getrandom",
    "hyper",
    "hyper_util",
    "if_addrs",
    "quinn",
    "quinn_proto",
    "rand::fill",
    "rand::make_rng",
    "rand::random",
    "rand::random_bool",
    "rand::random_iter",
    "rand::random_range",
    "rand::random_ratio",
    "rand::rng",
    "rand::rngs::SysRng",
    "rand::rngs::ThreadRng",
    "rand::thread_rng",
    "redb",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "tokio",
    "tokio_rustls",
    "tokio_util",
];

/// Reading a clock, which `clock.rs` alone does. Holding an `Instant` that it gave, or the
/// `SystemTime` of a file, is fine outside the pure layers.
const READS_CLOCK: &[[&str; 2]] = &[
    ["Instant", "now"],
    ["SystemTime", "now"],
    ["time", "UNIX_EPOCH"],
];

/// Crates that one layer has to itself.
const OWNED: &[(&str, &[&str])] = &[("redb", &["store"]), ("clap", &["cli", "config", "main"])];

#[test]
fn the_source_keeps_its_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files).unwrap();
    assert!(files.len() > 10, "found only {files:?}");

    let mut broken = Vec::new();
    let mut only_tests = BTreeSet::new();
    files.sort();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let (found, test_files) = judge(name, &text);
        only_tests.extend(test_files);
        broken.extend(found.into_iter().map(|what| (name.to_owned(), what)));
    }
    broken.retain(|(file, _)| !only_tests.iter().any(|stem| under(file, stem)));
    let lines: Vec<_> = broken
        .iter()
        .map(|(file, what)| format!("src/{file}:{what}"))
        .collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn the_directions_have_no_circle_but_the_pure_pair() {
    for (part, below) in MAY_NAME {
        for other in *below {
            let back = MAY_NAME
                .iter()
                .any(|(p, names)| p == other && names.contains(part));
            let both_pure = PURE.contains(part) && PURE.contains(other);
            assert!(!back || both_pure, "{part} and {other} may name each other");
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_by_the_compiler_too() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap();
    assert!(text.contains("unsafe_code = \"forbid\""));
}

/// Every rule, broken once: a checker that never complains proves nothing.
#[test]
fn each_rule_bites() {
    let bad = [
        ("mesh/a.rs", "use tokio::sync::mpsc;", "tokio"),
        ("mesh/a.rs", "use tokio;", "tokio"),
        (
            "mesh/a.rs",
            "fn f() { let x = quinn::VarInt::from_u32(1); }",
            "quinn",
        ),
        (
            "mesh/a.rs",
            "use std::{fmt, time::{Duration, Instant}};",
            "std::time::Instant",
        ),
        (
            "mesh/a.rs",
            "use std::time as t; fn f(x: t::Instant) {}",
            "std::time::Instant",
        ),
        (
            "mesh/a.rs",
            "use std::time::{self}; fn f(x: time::Instant) {}",
            "std::time::Instant",
        ),
        ("mesh/a.rs", "use std::time::*;", "std::time::Instant"),
        (
            "mesh/a.rs",
            "fn f() -> u8 { rand::random() }",
            "rand::random",
        ),
        (
            "mesh/a.rs",
            "use rand::Rng; use rand::rngs::ThreadRng;",
            "rand::rngs::ThreadRng",
        ),
        ("formats/a.rs", "fn f() { m!(std::fs::read(p)) }", "std::fs"),
        (
            "formats/a.rs",
            "use aws_lc_rs::{digest, rand::SystemRandom};",
            "aws_lc_rs::rand",
        ),
        (
            "mesh/a/b.rs",
            "use super::super::super::store::Store;",
            "mesh may not name store",
        ),
        (
            "mesh.rs",
            "mod inner { use super::super::net::Link; }",
            "mesh may not name net",
        ),
        (
            "net/a.rs",
            "use crate::{mesh::id::NodeId, store};",
            "net may not name store",
        ),
        (
            "store.rs",
            "impl X for crate::net::Link {}",
            "store may not name net",
        ),
        (
            "service/mod.rs",
            "use crate::api::shapes::Status;",
            "service may not name api",
        ),
        (
            "api/a.rs",
            "pub use crate::node::Node;",
            "api may not name node",
        ),
        (
            "cli/up.rs",
            "use warren::store::Store;",
            "cli may not name store",
        ),
        (
            "main.rs",
            "fn main() { warren::node::Node::builder(); }",
            "main may not name node",
        ),
        ("net/a.rs", "use crate::Client;", "a re-export of the root"),
        ("net/a.rs", "use crate::odd::Thing;", "odd is in no layer"),
        (
            "odd.rs",
            "use crate::mesh::id::NodeId;",
            "odd is in no layer",
        ),
        (
            "net/a.rs",
            "use std::time::Instant; fn f() { Instant::now(); }",
            "only clock.rs",
        ),
        (
            "node.rs",
            "use tokio::time; fn f() { time::Instant::now(); }",
            "only clock.rs",
        ),
        (
            "store/a.rs",
            "use std::time::SystemTime; fn f() { SystemTime::now(); }",
            "only clock.rs",
        ),
        (
            "store/a.rs",
            "use std::time::{Duration, UNIX_EPOCH};",
            "only clock.rs",
        ),
        (
            "net/a.rs",
            "use std::time::*; fn f() { Instant::now(); }",
            "only clock.rs",
        ),
        ("service/a.rs", "use redb::Database;", "redb is for store"),
        ("net/a.rs", "fn f() { unsafe { g() } }", "unsafe"),
        ("net/a.rs", "fn f( {", "is not Rust"),
    ];
    for (file, text, expected) in bad {
        let (found, _) = judge(file, text);
        assert!(
            found.iter().any(|what| what.contains(expected)),
            "{file}: {text:?} should break a rule with {expected:?}, found {found:?}"
        );
    }
}

#[test]
fn what_is_allowed_passes() {
    let good = [
        (
            "mesh/a.rs",
            "// tokio::spawn\n/// See `quinn::Endpoint`.\nconst A: &str = r#\"redb::x\"#;",
        ),
        (
            "mesh/a.rs",
            "#[cfg(test)] mod tests { use std::time::Instant; fn f() { rand::rng(); } }",
        ),
        (
            "mesh/a.rs",
            "#[cfg(all(test, unix))] use std::fs; use std::fmt;",
        ),
        (
            "mesh/a.rs",
            "struct S { #[cfg(test)] at: std::time::Instant, x: u8 } fn f(x: &X) { x.store::<u8>(); }",
        ),
        (
            "mesh/a.rs",
            "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
        ),
        (
            "mesh/a.rs",
            "use rand::{CryptoRng, Rng}; use super::id::NodeId; use crate::formats::localai;",
        ),
        (
            "net/a.rs",
            "use std::time::Instant; fn f(at: Instant) -> Instant { at + D }",
        ),
        (
            "clock.rs",
            "use std::time::SystemTime; fn f() { std::time::Instant::now(); }",
        ),
        (
            "store/a.rs",
            "use redb::Database; use crate::mesh::entry::Entry; use super::tables;",
        ),
        (
            "cli/up.rs",
            "use warren::{Client, node::Node}; use crate::config::Config; use clap::Parser;",
        ),
        ("lib.rs", "pub use store::Store; pub use crate::net::Link;"),
        (
            "service/a.rs",
            "use std::time::SystemTime; fn f(changed: SystemTime) {}",
        ),
    ];
    for (file, text) in good {
        assert_eq!(judge(file, text).0, Vec::<String>::new(), "{file}: {text}");
    }
    let (_, test_files) = judge("mesh/ledger.rs", "#[cfg(test)]\nmod model;\nmod real;");
    assert_eq!(test_files, ["mesh/ledger/model"]);
    assert!(under("mesh/ledger/model.rs", "mesh/ledger/model"));
    assert!(!under("mesh/ledger/model_b.rs", "mesh/ledger/model"));
}

/// What is wrong with one file, as `line: reason`, and which files it makes parts of tests.
fn judge(file: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let module: Vec<&str> = module_of(file);
    let scanned = match scan(&module, text) {
        Ok(scanned) => scanned,
        Err(reason) => return (vec![format!("1: this is not Rust: {reason}")], Vec::new()),
    };
    let stem = module.join("/");
    let test_files = scanned.test_modules.iter().map(|name| match stem.as_str() {
        "" => name.clone(),
        _ => format!("{stem}/{name}"),
    });

    let part = match file {
        "main.rs" => "main",
        "lib.rs" => "lib",
        _ => module[0],
    };
    let mut found: Vec<_> = scanned
        .unsafe_lines
        .iter()
        .map(|l| format!("{l}: unsafe"))
        .collect();
    for Named { path, line } in &scanned.named {
        let reasons = [
            layer(part, path),
            purity(part, path),
            clock(part, path),
            owner(part, path),
        ];
        found.extend(
            reasons
                .into_iter()
                .flatten()
                .map(|reason| format!("{line}: {reason}")),
        );
    }
    (found, test_files.collect())
}

/// The module's names below the root: `mesh/token/native.rs` is `mesh`, `token`, `native`.
fn module_of(file: &str) -> Vec<&str> {
    let stem = file.trim_end_matches(".rs");
    let mut module: Vec<_> = stem.split('/').collect();
    if matches!(module.last(), Some(&("mod" | "lib" | "main"))) {
        module.pop();
    }
    module
}

fn layer(part: &str, path: &[String]) -> Option<String> {
    // The root's document is the one place that names everything.
    if part == "lib" {
        return None;
    }
    let known = |name: &str| MAY_NAME.iter().find(|(part, _)| *part == name);
    let Some((_, allowed)) = known(part) else {
        return Some(format!("{part} is in no layer"));
    };
    let [first, other, ..] = path else {
        return None;
    };
    let written = path.join("::");
    if first != "crate" || other == part {
        None
    } else if other.starts_with(char::is_uppercase) || other == "*" {
        let outside = matches!(part, "cli" | "main" | "config");
        (!outside).then(|| format!("{written} is a re-export of the root; name its module"))
    } else if known(other).is_none() {
        Some(format!("{written}: {other} is in no layer"))
    } else {
        (!allowed.contains(&other.as_str()))
            .then(|| format!("{part} may not name {other} ({written})"))
    }
}

fn purity(part: &str, path: &[String]) -> Option<String> {
    let named = IMPURE
        .iter()
        .find(|impure| PURE.contains(&part) && reaches(path, impure))?;
    Some(format!(
        "{part} is pure and names {named} ({})",
        path.join("::")
    ))
}

fn clock(part: &str, path: &[String]) -> Option<String> {
    if part == "clock" {
        return None;
    }
    // By their ends: what came through a glob has no crate's name here.
    let named = READS_CLOCK
        .iter()
        .any(|read| path.iter().rev().take(2).rev().eq(read));
    named.then(|| format!("{}: only clock.rs reads a clock", path.join("::")))
}

fn owner(part: &str, path: &[String]) -> Option<String> {
    let (owned, owners) = OWNED.iter().find(|(name, _)| path[0] == *name)?;
    (!owners.contains(&part)).then(|| format!("{owned} is for {}", owners.join(", ")))
}

/// Whether naming `path` names `target`: it is the target, lies below it, or globs it in.
fn reaches(path: &[String], target: &str) -> bool {
    let target: Vec<&str> = target.split("::").collect();
    match path {
        [base @ .., last] if last == "*" => {
            let shared = base.len().min(target.len());
            base[..shared].iter().eq(target[..shared].iter())
        }
        _ => path.len() >= target.len() && path.iter().zip(&target).all(|(a, b)| a == b),
    }
}

/// Whether `file` is the module at `stem` or one below it.
fn under(file: &str, stem: &str) -> bool {
    file.strip_prefix(stem)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
