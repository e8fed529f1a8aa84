//! IP tables as P2PRC writes them: what is read can be written, and is read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::formats::iptable::{Options, Profile, read, write};

fuzz_target!(|data: &[u8]| {
    let options = Options {
        lenient: false,
        skip_bad: true,
    };
    let Ok(document) = read(data, options) else {
        return;
    };
    assert!(document.report.problems.len() <= document.report.problem_count);
    for profile in [Profile::Current, Profile::Legacy] {
        let mut text = Vec::new();
        write(&mut text, &document.rows, profile).expect("memory takes everything");
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!std::str::from_utf8(&text).expect("text").chars().any(acts));
        let again = read(&text, Options::default()).expect("what was read can be written");
        assert_eq!(again.rows, document.rows);
        assert_eq!(again.report.note_count, 0);
    }
});
