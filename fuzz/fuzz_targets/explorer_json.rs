//! LocalAI's explorer.json: what is read can be written, and is read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::formats::explorer::{Options, Strange, read, write};
use warren::mesh::networks::Network;

fuzz_target!(|data: &[u8]| {
    let Ok(document) = read(data, Options { skip_bad: true }) else {
        return;
    };
    assert!(document.report.problems.len() <= document.report.problem_count);
    assert_eq!(document.strange.len(), document.report.problem_count);
    let entries = document.entries.iter().map(Strange::from);
    let rows: Vec<Strange> = entries.chain(document.strange).collect();
    let mut text = Vec::new();
    write(&mut text, [] as [&Network; 0], &rows).expect("memory takes everything");
    let again = read(&text, Options { skip_bad: true }).expect("what was read can be written");
    assert_eq!(again.entries.len(), document.entries.len());
    let mut second = Vec::new();
    let entries = again.entries.iter().map(Strange::from);
    let rows: Vec<Strange> = entries.chain(again.strange).collect();
    write(&mut second, [] as [&Network; 0], &rows).expect("memory takes everything");
    assert_eq!(second, text, "the same networks give the same bytes");
});
