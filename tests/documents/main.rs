//! Every command and file that the documents show, tried as a reader would.
//!
//! Each page is a session in a folder of its own, in which the workspace's
//! files lie too. A `console` block is run: what comes after a command is what
//! it must print, where `[…]` stands for anything, on a line of its own for any
//! number of lines. Other blocks have a comment before them that says what they
//! are; `page.rs` lists the comments. What is in backticks within the lines and
//! reads like a file is one; commands there are read by `wasmsr` and `xtask`
//! themselves, in tests of theirs.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../built.rs"]
mod built;
mod page;
mod session;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use page::Block;
use session::{Done, Session};
use wasmsr_book::pages;

fn main() -> ExitCode {
    let pages = pages::listed(built::workspace()).expect("docs/SUMMARY.md lists the pages");
    let mut trials: Vec<Trial> = pages.iter().flat_map(|page| trials(page)).collect();
    trials.push(Trial::test("files_that_are_named_are_there", || {
        named_files().map_err(Failed::from)
    }));
    let mut checks = page::checks();
    checks
        .push(("what_was_not_made_is_not_asked_for", session::what_was_not_made_is_not_asked_for));
    trials.extend(checks.into_iter().map(|(name, check)| {
        Trial::test(format!("harness::{name}"), move || {
            check();
            Ok(())
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A trial for each block of a page. The first that is asked runs them all, in
/// order: a later one may need what an earlier one made.
fn trials(page: &Path) -> Vec<Trial> {
    let text = fs::read_to_string(built::workspace().join(page)).expect("a page can be read");
    let blocks = Arc::new(page::blocks(&text));
    let results = Arc::new(OnceLock::new());
    let names = blocks.iter().map(|block| format!("{}:{}", page.display(), block.line));
    let names: Vec<String> = names.collect();
    let trial = |(number, name): (usize, String)| {
        let (blocks, results) = (Arc::clone(&blocks), Arc::clone(&results));
        Trial::ignorable_test(name, move || {
            let results = results.get_or_init(|| run(&blocks));
            match results.get(number) {
                Some(Done::Right) => Ok(Completion::Completed),
                Some(Done::NotRun(reason)) => Ok(Completion::ignored_with(reason)),
                Some(Done::Wrong(why)) => Err(Failed::from(why)),
                None => Err(Failed::from("an earlier block of the page took all down")),
            }
        })
    };
    names.into_iter().enumerate().map(trial).collect()
}

fn run(blocks: &[Block]) -> Vec<Done> {
    let mut session = Session::new(built::workspace());
    blocks.iter().map(|block| session.take(block)).collect()
}

/// Paths in backticks that begin in the workspace's folder; not those that stand
/// for others, nor in `target`, which is built, and `docs`, whose pages are linked
/// to and which other projects have as well.
fn named_files() -> Result<(), String> {
    let root = built::workspace();
    let is_path = |text: &str| {
        let first = text.split('/').next().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c);
        text.contains('/')
            && !["", "target", "docs"].contains(&first)
            && root.join(first).is_dir()
            && text.chars().all(is_plain)
    };
    let named = pages::code_in_lines(root).map_err(|error| error.to_string())?;
    let missing = named.iter().filter(|(_, name)| is_path(name) && !root.join(name).exists());
    let missing: Vec<String> =
        missing.map(|(page, name)| format!("{}: `{name}` is no file", page.display())).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}
