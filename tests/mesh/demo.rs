//! The demo as somebody runs it whose output is not a terminal.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::common::{Process, until, warren};

/// Processes that `parent` has started.
fn children(parent: u32) -> Vec<String> {
    let file = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn homes(temp: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(temp).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.display().to_string().contains("warren-demo"))
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn it_prints_a_line_that_works_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::KILL] {
        let temp = tempfile::tempdir().unwrap();
        let mut command = warren(temp.path(), &["demo"]);
        command.env("TMPDIR", temp.path());
        let mut demo = Process::start(command);
        let line = loop {
            let line = demo.line();
            if line.trim().starts_with("curl ") {
                break line;
            }
        };
        assert!(!line.contains('\u{1b}'), "no colours off a terminal");
        let told = Command::new("sh")
            .args(["-c", line.trim()])
            .output()
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(answer["object"], "chat.completion", "{answer}");
        let name = answer["system_fingerprint"].as_str().unwrap().to_owned();
        while !demo
            .line()
            .contains(&format!("{name}: ready, 0 in flight, 1 served"))
        {}

        let nodes = children(demo.pid());
        assert_eq!(nodes.len(), 4, "three nodes and the address");
        demo.signal(signal);
        let code = demo.wait().code();
        until("the end of its nodes", || {
            let gone = |pid: &String| !Path::new("/proc").join(pid).exists();
            nodes.iter().all(gone).then_some(())
        });
        if signal == Signal::INT {
            assert_eq!((code, homes(temp.path())), (Some(0), vec![]));
        }
    }
}
