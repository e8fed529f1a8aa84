//! What README.md promises is what the command has; completions are scripts that shells read.

use std::collections::BTreeSet;
use std::process::Command;

use crate::world::{World, refusal};

const README: &str = include_str!("../../README.md");
/// Tables whose first column is about somebody else's program.
const FOREIGN: &[&str] = &["## Coming from LocalAI", "## Coming from P2PRC"];
/// Programs that README's examples call besides ours.
const OTHER_PROGRAMS: &[&str] = &["cargo ", "systemctl "];

/// README without what it says of other programs.
fn ours() -> String {
    let mut section = "";
    let mut text = String::new();
    for line in README.lines() {
        if line.starts_with("## ") {
            section = line;
        }
        let mut line = line.to_owned();
        if FOREIGN.contains(&section) && line.starts_with("| ") {
            line = line.splitn(3, '|').nth(2).unwrap_or_default().to_owned();
        }
        for program in OTHER_PROGRAMS {
            if let Some(at) = line.find(program) {
                let end = line[at..].find('`').map_or(line.len(), |len| at + len);
                line.replace_range(at..end, "");
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Words that start with `prefix` and go on with `allowed`.
fn words(text: &str, prefix: &str, allowed: impl Fn(char) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| allowed(c) || c == '-') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let len = rest.find(|c| !allowed(c)).unwrap_or(rest.len());
        found.insert(format!(
            "{prefix}{}",
            rest[..len].trim_end_matches(['-', '_'])
        ));
    }
    found
}

fn flags(text: &str) -> BTreeSet<String> {
    let mut flags = words(text, "--", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    });
    flags.remove("--");
    flags
}

fn variables(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = words(text, prefix, |c| {
        c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
    });
    names.retain(|name| name.len() > prefix.len());
    names
}

/// Names in the list of commands of a help text.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The help of every command, in one text.
fn all_help(world: &World) -> String {
    help_below(world, &[])
}

fn help_below(world: &World, command: &[&str]) -> String {
    let mut all = world.said(&[command, &["--help"]].concat());
    for sub in commands(&all.clone()) {
        all.push_str(&help_below(world, &[command, &[&sub]].concat()));
    }
    all
}

#[test]
fn every_flag_of_the_readme_exists() {
    let help = all_help(&World::new());
    let known = flags(&help);
    assert!(known.contains("--listen") && known.contains("--dht-interval"));
    let named = flags(&ours());
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "README.md names {unknown:?}");
}

#[test]
fn every_variable_of_the_readme_is_read() {
    let world = World::new();
    let known = variables(&all_help(&world), "WARREN_");
    let unknown: Vec<_> = variables(README, "WARREN_")
        .difference(&known)
        .cloned()
        .collect();
    assert!(unknown.is_empty(), "README.md names {unknown:?}");

    let theirs = variables(README, "LOCALAI_");
    assert!(theirs.len() > 10, "{theirs:?}");
    // A name that means nothing is warned of; a start that cannot be is a quick way to hear it.
    std::fs::write(world.path("file"), "").unwrap();
    let said = |name: &str| {
        let mut command = world.command(&["federated", "--data-dir", "file", "--http=off"]);
        command.env("WARREN_TOKEN", world.said(&["token", "new"]).trim());
        refusal(command.env(name, "1"), 1, &["move it away"])
    };
    assert!(said("LOCALAI_P2P_NONSENSE").contains("is unknown"));
    for name in theirs.iter().filter(|name| *name != "LOCALAI_P2P") {
        let text = said(name);
        assert!(!text.contains("is unknown"), "{name}: {text}");
    }
}

#[test]
fn every_command_of_the_readme_exists() {
    let world = World::new();
    let table = README
        .split("\n## ")
        .find(|part| part.starts_with("Commands"));
    let table = table.unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut named = BTreeSet::new();
    for row in rows {
        let cell = row.split(" | ").next().unwrap().replace("\\|", "|");
        for text in cell.split('`').skip(1).step_by(2) {
            let mut words = text.split_whitespace();
            let first = words.next().unwrap().to_owned();
            let subs = words.next().filter(|word| word.contains('|'));
            for sub in subs.into_iter().flat_map(|subs| subs.split('|')) {
                world.said(&[&first, sub, "--help"]);
            }
            named.insert(first);
        }
    }
    let known: BTreeSet<_> = commands(&world.said(&["--help"])).into_iter().collect();
    assert_eq!(named, known, "README.md's table and `warren --help`");
}

#[test]
fn completions_are_scripts_that_their_shells_read() {
    let world = World::new();
    for (shell, check) in [
        ("bash", "source ./script && complete -p warren"),
        (
            "zsh",
            "autoload -U compinit && compinit -u -D && source ./script",
        ),
        (
            "fish",
            "source ./script; and complete -C 'warren led' | grep -q ledger",
        ),
    ] {
        std::fs::write(world.path("script"), world.said(&["completions", shell])).unwrap();
        let run = Command::new(shell)
            .args(["-c", check])
            .current_dir(world.path("."))
            .env("HOME", world.path("."))
            .output();
        match run {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success() && errors.is_empty(),
                    "{shell}: {errors}"
                );
            }
            Err(_) => println!("skipped: {shell} is not installed"),
        }
    }
}
