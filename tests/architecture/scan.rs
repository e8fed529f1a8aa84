//! Which paths a source file names. Reads tokens, not text, so comments and strings do not count;
//! items under `#[cfg(test)]` are left out. It knows a file's own `use` lines and nothing of other
//! files: a name that arrives through a glob is not seen, the glob itself is.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path with every segment, from `crate` or an outside crate's name, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// Segments; a glob's last one is `*`.
    pub(crate) path: Vec<String>,
    /// Where, from 1.
    pub(crate) line: usize,
}

/// What one file names outside its tests.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Every path of two or more segments, and every import.
    pub(crate) named: BTreeSet<Named>,
    /// Lines with the keyword `unsafe`.
    pub(crate) unsafe_lines: Vec<usize>,
    /// Child modules that exist in tests only: their files are not to be judged.
    pub(crate) test_modules: Vec<String>,
}

/// Scans `text`, the source of the module `module` (its names below the crate's root).
pub(crate) fn scan(module: &[&str], text: &str) -> Result<Scan, String> {
    let tokens = TokenStream::from_str(text).map_err(|e| e.to_string())?;
    let mut scan = Scan::default();
    let tokens = without_tests(tokens, &mut scan.test_modules);
    let mut reader = Reader::default();
    reader.read(&tokens, &module.iter().map(|s| (*s).to_owned()).collect());
    scan.unsafe_lines = reader.unsafe_lines;
    for (scope, raw) in reader.raw {
        let path = absolute(&scope, &resolve(&raw.path, &reader.imports));
        scan.named.insert(Named { path, ..raw });
    }
    Ok(scan)
}

type Path = Vec<String>;

#[derive(Default)]
struct Reader {
    /// (module it stands in, the path as written)
    raw: Vec<(Path, Named)>,
    /// Name in this file → what it stands for.
    imports: BTreeMap<String, Path>,
    unsafe_lines: Vec<usize>,
}

impl Reader {
    fn read(&mut self, tokens: &[TokenTree], scope: &Path) {
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Group(group) => {
                    self.read(&trees(group), scope);
                    at + 1
                }
                TokenTree::Ident(word) if word == "unsafe" => {
                    self.unsafe_lines.push(word.span().start().line);
                    at + 1
                }
                TokenTree::Ident(word) if word == "use" => {
                    self.import(tokens, at + 1, scope, &Vec::new())
                }
                TokenTree::Ident(word) if word == "mod" => self.inline_module(tokens, at, scope),
                TokenTree::Ident(_) => self.path(tokens, at, scope),
                _ => at + 1,
            };
        }
    }

    fn inline_module(&mut self, tokens: &[TokenTree], at: usize, scope: &Path) -> usize {
        if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
            (tokens.get(at + 1), tokens.get(at + 2))
        {
            let mut inner = scope.clone();
            inner.push(name.to_string());
            self.read(&trees(body), &inner);
            return at + 3;
        }
        at + 1
    }

    /// A path in code. A method or field is not one, nor is a lifetime.
    fn path(&mut self, tokens: &[TokenTree], at: usize, scope: &Path) -> usize {
        let (path, next) = segments(tokens, at);
        let follows = |mark| at > 0 && is(&tokens[at - 1], mark);
        let range = at > 1 && follows('.') && is(&tokens[at - 2], '.');
        if path.len() > 1 && (!follows('.') || range) && !follows('\'') {
            self.note(scope, path, tokens[at].span().start().line);
        }
        next
    }

    /// One branch of a `use` tree, from `at` on; answers where it ends.
    fn import(&mut self, tokens: &[TokenTree], at: usize, scope: &Path, base: &Path) -> usize {
        let mut path = base.clone();
        let start = at + if colons(tokens, at) { 2 } else { 0 };
        let (more, mut at) = segments(tokens, start);
        path.extend(more);
        let line = |at: usize| tokens.get(at).map_or(0, |t| t.span().start().line);
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                for branch in trees(group).split(|token| is(token, ',')) {
                    self.import(branch, 0, scope, &path);
                }
                return at + 1;
            }
            Some(star) if is(star, '*') => {
                path.push("*".to_owned());
                self.note(scope, path, line(at));
                return at + 1;
            }
            _ => {}
        }
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        let mut name = path.last().cloned();
        if let Some(TokenTree::Ident(word)) = tokens.get(at)
            && word == "as"
        {
            name = tokens.get(at + 1).map(ToString::to_string);
            at += 2;
        }
        if let Some(name) = name {
            // `use serde;` and `use x as x` would stand for themselves.
            if path.len() > 1 || path.first() != Some(&name) {
                self.imports.insert(name, path.clone());
            }
            self.note(scope, path, line(start));
        }
        at
    }

    fn note(&mut self, scope: &Path, path: Path, line: usize) {
        self.raw.push((scope.clone(), Named { path, line }));
    }
}

/// `a::b::c` from `at` on, and where it ends.
fn segments(tokens: &[TokenTree], mut at: usize) -> (Path, usize) {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        at += 1;
        if !colons(tokens, at) {
            break;
        }
        at += 2;
    }
    (path, at)
}

/// Puts what the first segment was imported as in its place. Bounded: imports may form a circle.
fn resolve(path: &[String], imports: &BTreeMap<String, Path>) -> Path {
    let mut path = path.to_vec();
    for _ in 0..4 {
        match imports.get(&path[0]) {
            Some(full) if full[0] != path[0] => {
                path.splice(0..1, full.iter().cloned());
            }
            Some(full) if path.len() == 1 || full.len() == 1 => {
                path.splice(0..1, full.iter().cloned());
                break;
            }
            _ => break,
        }
    }
    path
}

/// Turns `self`, `super` and the library's own name into a path from `crate`.
fn absolute(scope: &Path, path: &Path) -> Path {
    let ups = path.iter().filter(|s| *s == "super").count();
    let rest = || {
        path.iter()
            .skip_while(|s| matches!(s.as_str(), "self" | "super" | "warren"))
            .cloned()
    };
    let base = match path[0].as_str() {
        "self" | "super" => &scope[..scope.len().saturating_sub(ups)],
        "warren" => &[],
        _ => return path.clone(),
    };
    std::iter::once("crate".to_owned())
        .chain(base.iter().cloned())
        .chain(rest())
        .collect()
}

/// Drops items under `#[cfg(test)]` and `#[cfg(all(test, …))]`, at every depth.
fn without_tests(tokens: TokenStream, test_modules: &mut Vec<String>) -> Vec<TokenTree> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if is(&tokens[at], '#') && tokens.get(at + 1).is_some_and(is_test_cfg) {
            let end = item_end(&tokens, at + 2);
            if let [.., TokenTree::Ident(word), TokenTree::Ident(name), last] = &tokens[at..end]
                && word == "mod"
                && is(last, ';')
            {
                test_modules.push(name.to_string());
            }
            at = end;
            continue;
        }
        kept.push(match &tokens[at] {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream(), test_modules);
                let mut copy = Group::new(group.delimiter(), inner.into_iter().collect());
                copy.set_span(group.span());
                TokenTree::Group(copy)
            }
            token => token.clone(),
        });
        at += 1;
    }
    kept
}

/// Where the item, field or statement that starts at `at` ends.
fn item_end(tokens: &[TokenTree], mut at: usize) -> usize {
    const ITEMS: [&str; 14] = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "let",
        "macro_rules",
        "mod",
        "static",
        "struct",
        "trait",
        "type",
        "use",
    ];
    let mut is_item = false;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) => is_item |= ITEMS.iter().any(|item| word == item),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return at,
            token if is(token, ';') || (!is_item && is(token, ',')) => return at,
            _ => {}
        }
    }
    at
}

fn is_test_cfg(attribute: &TokenTree) -> bool {
    let TokenTree::Group(group) = attribute else {
        return false;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

fn trees(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at| tokens.get(at).is_some_and(|token| is(token, ':'));
    colon(at) && colon(at + 1)
}
