//! Which files of a crate use which, found in the tokens of its sources.
//!
//! A file uses another one if it names an item that is defined there, by a `use` or by
//! a path; re-exports are followed to the definition, and do not count as a use.

#![expect(clippy::indexing_slicing, reason = "positions that a walk over the slice has found")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::folder::entries;

/// Whether code for tests counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tests {
    Counted,
    /// What `#[cfg(test)]` is in front of is passed over.
    PassedOver,
}

/// Segments of a module's path, or of a path to an item, from the crate's root.
type Segments = Vec<String>;

/// The files of one crate, by their path in the crate's `src`, each with the files it
/// uses.
pub(super) type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// One module: a file, or a `mod` with a body within one.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Items and modules with a body that are defined here.
    defined: BTreeSet<String>,
    /// What `use` brings into scope, by its name here.
    aliases: BTreeMap<String, Segments>,
    /// Modules of which `use` brings everything into scope.
    globs: Vec<Segments>,
    /// Paths that the module names: by a `use` that is not a re-export, or elsewhere.
    named: Vec<Segments>,
}

/// A crate's modules by their path.
struct Modules {
    tests: Tests,
    modules: BTreeMap<Segments, Module>,
    /// Files that are modules of tests, if these are passed over.
    of_tests: BTreeSet<Segments>,
}

/// Reads the crate whose sources lie in `src`.
pub(super) fn of_crate(src: &Path, tests: Tests) -> Result<Imports> {
    let mut modules = Modules { tests, modules: BTreeMap::new(), of_tests: BTreeSet::new() };
    let mut files = Vec::new();
    collect(src, src, &mut files)?;
    for file in &files {
        let path = src.join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let tokens = TokenStream::from_str(&text)
            .map_err(|error| anyhow!("{} is not Rust: {error}", path.display()))?;
        modules.read(&module_path(file), file, tokens);
    }
    let mut imports: Imports = files.into_iter().map(|file| (file, BTreeSet::new())).collect();
    for (path, module) in &modules.modules {
        if (1..=path.len()).any(|end| modules.of_tests.contains(&path[..end])) {
            continue;
        }
        let mut used = BTreeSet::new();
        for named in &module.named {
            used.extend(modules.file_of(path, named));
        }
        used.remove(&module.file);
        imports.entry(module.file.clone()).or_default().extend(used);
    }
    Ok(imports)
}

fn collect(src: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect(src, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path.strip_prefix(src)?.to_owned());
        }
    }
    Ok(())
}

/// The path of the module that a file is.
fn module_path(file: &Path) -> Segments {
    let mut path: Segments = file.with_extension("").iter().map(text_of).collect();
    let root = path.len() == 1 && matches!(path[0].as_str(), "lib" | "main");
    if root || path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    path
}

fn text_of(part: &std::ffi::OsStr) -> String {
    part.to_string_lossy().into_owned()
}

impl Modules {
    /// Takes in the tokens of a module.
    fn read(&mut self, path: &[String], file: &Path, tokens: TokenStream) {
        let module = self.modules.entry(path.to_vec()).or_default();
        module.file = file.to_owned();
        let tokens: Vec<TokenTree> = match self.tests {
            Tests::Counted => tokens.into_iter().collect(),
            Tests::PassedOver => {
                let (tokens, of_tests) = without_tests(tokens);
                let files = of_tests.into_iter().map(|name| [path, &[name]].concat());
                self.of_tests.extend(files);
                tokens
            }
        };
        let mut within = Vec::new();
        module.scan(&tokens, &mut within);
        for (name, body) in within {
            let path: Segments = path.iter().cloned().chain([name]).collect();
            self.read(&path, file, body);
        }
    }

    /// The file that defines what a module calls by these segments; `None` for what is
    /// not of this crate.
    fn file_of(&self, module: &[String], named: &[String]) -> Option<PathBuf> {
        let (first, rest) = named.split_first()?;
        let start = match first.as_str() {
            "crate" => Segments::new(),
            "self" => module.to_vec(),
            "super" => return self.file_of(module.split_last()?.1, &relative(rest)),
            // A module here, or a name that `use` brought into scope; else another crate.
            _ => {
                let here = self.modules.get(module)?;
                let child: Segments = module.iter().chain([first]).cloned().collect();
                let known = self.modules.contains_key(&child) || here.aliases.contains_key(first);
                return known.then(|| self.definition(module, named, 0)).flatten();
            }
        };
        self.definition(&start, rest, 0)
    }

    /// The file of an item whose path begins in `module`.
    fn definition(&self, module: &[String], rest: &[String], depth: usize) -> Option<PathBuf> {
        let here = self.modules.get(module)?;
        let Some((first, after)) = rest.split_first() else { return Some(here.file.clone()) };
        let child: Segments = module.iter().chain([first]).cloned().collect();
        if self.modules.contains_key(&child) {
            return self.definition(&child, after, depth);
        }
        // Re-exports that lead back to themselves do not compile.
        if here.defined.contains(first) || depth > 8 {
            return Some(here.file.clone());
        }
        if let Some(path) = here.aliases.get(first) {
            let whole: Segments = path.iter().chain(after).cloned().collect();
            return self.follow(module, &whole, depth);
        }
        let in_glob = here.globs.iter().find_map(|glob| {
            let whole: Segments = glob.iter().chain([first]).cloned().collect();
            let file = self.follow(module, &whole, depth)?;
            (file != here.file).then_some(file)
        });
        Some(in_glob.unwrap_or_else(|| here.file.clone()))
    }

    /// As [`file_of`](Self::file_of), for the path of a `use` in `module`.
    fn follow(&self, module: &[String], path: &[String], depth: usize) -> Option<PathBuf> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.definition(&[], rest, depth + 1),
            "self" => self.definition(module, rest, depth + 1),
            "super" => self.follow(module.split_last()?.1, &relative(rest), depth + 1),
            _ => {
                let child: Segments = module.iter().chain([first]).cloned().collect();
                let known = self.modules.contains_key(&child);
                known.then(|| self.definition(&child, rest, depth + 1)).flatten()
            }
        }
    }
}

/// A path behind a `super`, as the module above names it.
fn relative(rest: &[String]) -> Segments {
    match rest.first().map(String::as_str) {
        Some("super") => rest.to_vec(),
        _ => ["self".to_owned()].into_iter().chain(rest.iter().cloned()).collect(),
    }
}

const ITEMS: &[&str] =
    &["struct", "enum", "union", "trait", "type", "fn", "const", "static", "macro_rules"];

impl Module {
    /// Notes what the tokens of a module define and name. Modules with a body go to
    /// `within`.
    fn scan(&mut self, tokens: &[TokenTree], within: &mut Vec<(String, TokenStream)>) {
        self.scan_level(tokens, within, true);
        // A name that `use` brought into scope is used where it stands by itself.
        let mut words = BTreeSet::new();
        free_words(tokens, &mut words);
        let used = self.aliases.iter().filter(|(name, _)| words.contains(*name));
        self.named.extend(used.map(|(name, _)| vec![name.clone()]).collect::<Vec<_>>());
    }

    fn scan_level(
        &mut self,
        tokens: &[TokenTree],
        within: &mut Vec<(String, TokenStream)>,
        is_module: bool,
    ) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at + 1..];
            match token {
                TokenTree::Ident(word) if *word == "use" => {
                    let length = rest.iter().position(is_semicolon).unwrap_or(rest.len());
                    let re_export = is_public(&tokens[..at]);
                    self.take_use(&rest[..length], re_export);
                    at += length;
                }
                TokenTree::Ident(word) if *word == "mod" && is_module => {
                    if let [TokenTree::Ident(name), TokenTree::Group(body), ..] = rest {
                        within.push((name.to_string(), body.stream()));
                        at += 2;
                    }
                }
                TokenTree::Ident(word)
                    if is_module && ITEMS.contains(&word.to_string().as_str()) =>
                {
                    let name = rest.iter().find_map(|token| match token {
                        TokenTree::Ident(name) => Some(name.to_string()),
                        _ => None,
                    });
                    self.defined.extend(name);
                }
                TokenTree::Ident(_) if !follows_path(&tokens[..at]) => {
                    let (segments, length) = path_at(&tokens[at..]);
                    if length > 1 {
                        self.named.push(segments);
                        at += length - 1;
                    }
                }
                // `pub(in crate::module)`
                TokenTree::Group(_) if is_public(&tokens[..=at]) => {}
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    self.scan_level(&inner, within, false);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Takes in the tokens between `use` and its semicolon.
    fn take_use(&mut self, tokens: &[TokenTree], re_export: bool) {
        for (path, name) in leaves(&Segments::new(), tokens) {
            if name == "*" {
                self.globs.push(path.clone());
            } else {
                self.aliases.insert(name, path.clone());
            }
            if !re_export {
                self.named.push(path);
            }
        }
    }
}

/// The paths of a `use`, each with its name in scope, which is `*` for a glob.
fn leaves(before: &[String], tokens: &[TokenTree]) -> Vec<(Segments, String)> {
    let mut found = Vec::new();
    for tree in tokens.split(|token| is_punct(token, ',')) {
        let mut path = before.to_vec();
        let mut name = None;
        let mut words = tree.iter();
        while let Some(token) = words.next() {
            match token {
                TokenTree::Ident(word) if *word == "as" => {
                    name = words.next().map(ToString::to_string);
                }
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(star) if star.as_char() == '*' => name = Some("*".to_owned()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    found.extend(leaves(&path, &inner));
                    path.clear();
                }
                _ => {}
            }
        }
        // `use module::{self}` is the module.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(last) = path.last() {
            let name = name.unwrap_or_else(|| last.clone());
            found.push((path, name));
        }
    }
    found
}

/// The path at the beginning of these tokens, and how many of them it has.
fn path_at(tokens: &[TokenTree]) -> (Segments, usize) {
    let mut segments = Segments::new();
    let mut length = 0;
    while let Some(TokenTree::Ident(word)) = tokens.get(length) {
        segments.push(word.to_string());
        length += 1;
        match &tokens[length..] {
            [a, b, TokenTree::Ident(_), ..] if is_punct(a, ':') && is_punct(b, ':') => length += 2,
            _ => break,
        }
    }
    (segments, length)
}

/// Words that stand at the beginning of a path, beside those in a `use`.
fn free_words(tokens: &[TokenTree], words: &mut BTreeSet<String>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if *word == "use" => {
                let rest = &tokens[at..];
                at += rest.iter().position(is_semicolon).unwrap_or(rest.len());
            }
            // Read as a module of its own.
            TokenTree::Ident(word) if *word == "mod" => {
                if let Some(TokenTree::Group(_)) = tokens.get(at + 2) {
                    at += 2;
                }
            }
            TokenTree::Ident(word) if !follows_path(&tokens[..at]) => {
                words.insert(word.to_string());
            }
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                free_words(&inner, words);
            }
            _ => {}
        }
        at += 1;
    }
}

/// Whether the next word is a field, a method, or a later part of a path.
fn follows_path(before: &[TokenTree]) -> bool {
    match before {
        [.., a, b] if is_punct(a, ':') && is_punct(b, ':') => true,
        [.., a, b] if is_punct(a, '.') && is_punct(b, '.') => false,
        [.., a] => is_punct(a, '.'),
        [] => false,
    }
}

/// Whether these tokens end with `pub` or `pub(...)`.
fn is_public(before: &[TokenTree]) -> bool {
    let is_pub =
        |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Ident(word)) if *word == "pub");
    match before.split_last() {
        Some((TokenTree::Group(_), before)) => is_pub(before.last()),
        _ => is_pub(before.last()),
    }
}

/// The tokens without the items that `#[cfg(test)]` is in front of, and the names of
/// the files among these.
fn without_tests(tokens: TokenStream) -> (Vec<TokenTree>, Vec<String>) {
    let (mut kept, mut files) = (Vec::new(), Vec::new());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_for_tests = is_punct(&token, '#')
            && matches!(tokens.peek(), Some(TokenTree::Group(group))
                if group.stream().to_string().replace(' ', "") == "cfg(test)");
        if !is_for_tests {
            kept.push(token);
            continue;
        }
        tokens.next();
        let item: Vec<TokenTree> = {
            let mut ended = false;
            std::iter::from_fn(|| {
                let token = tokens.next_if(|_| !ended)?;
                ended = is_semicolon(&token)
                    || matches!(&token, TokenTree::Group(group)
                        if group.delimiter() == Delimiter::Brace);
                Some(token)
            })
            .collect()
        };
        if let [.., TokenTree::Ident(word), TokenTree::Ident(name), end] = item.as_slice()
            && *word == "mod"
            && is_semicolon(end)
        {
            files.push(name.to_string());
        }
    }
    (kept, files)
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_semicolon(token: &TokenTree) -> bool {
    is_punct(token, ';')
}
