//! A group of commands about one data directory: `iptable …`, `explorer tokens …`.

use std::process::Output;

use serde_json::Value;

use crate::world::World;

/// The group and the directory.
pub(crate) struct Group<'w> {
    pub(crate) world: &'w World,
    pub(crate) data: &'static str,
    /// What each of its commands begins with.
    pub(crate) words: &'static [&'static str],
    /// Fails unless its documents keep to their schema.
    pub(crate) check: fn(&Value),
}

impl Group<'_> {
    pub(crate) fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [self.words, args, &["--data-dir", self.data]].concat()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.world.run(&self.args(args))
    }

    pub(crate) fn said(&self, args: &[&str]) -> String {
        self.world.said(&self.args(args))
    }

    /// The document of a command that must succeed, which keeps to the schema.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let document = self.world.json(&self.args(&[args, &["--json"]].concat()));
        (self.check)(&document);
        document
    }

    /// What a command says that must end with `code`.
    pub(crate) fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains("error: "), "{text}");
        text
    }

    pub(crate) fn import(&self, document: &str, more: &[&str]) -> Value {
        std::fs::write(self.world.path("given.json"), document).unwrap();
        self.json(&[&["import", "given.json"], more].concat())
    }
}
