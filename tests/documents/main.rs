//! Every command and file that the documents show, tried as a reader would.
//!
//! Each page is a session in a folder of its own, in which the workspace's
//! files lie too. A `console` block is run: what comes after a command is what
//! it must print, where `[…]` stands for anything, on a line of its own for any
//! number of lines. Other blocks have a comment before them that says what they
//! are; `page.rs` lists the comments.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod page;
mod session;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use page::Block;
use session::{Done, Session};

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = pages().into_iter().flat_map(|page| trials(&page)).collect();
    trials.extend(page::checks().into_iter().map(|(name, check)| {
        Trial::test(format!("page::{name}"), move || {
            check();
            Ok(())
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The documents for users, relative to the workspace.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    let mut add = |folder: &str, file: &dyn Fn(&str) -> String| {
        let entries = fs::read_dir(workspace().join(folder)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        pages.extend(names.map(|name| Path::new(folder).join(file(&name))));
    };
    add("docs", &|name| name.to_owned());
    add("plugins", &|name| format!("{name}/README.md"));
    add("examples", &|name| format!("{name}/README.md"));
    pages.retain(|page| page.extension().is_some_and(|ending| ending == "md"));
    pages.retain(|page| workspace().join(page).is_file());
    pages.sort();
    pages
}

fn workspace() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    folder.canonicalize().expect("the tests lie in the workspace")
}

/// A trial for each block of a page. The first that is asked runs them all, in
/// order: a later one may need what an earlier one made.
fn trials(page: &Path) -> Vec<Trial> {
    let text = fs::read_to_string(workspace().join(page)).expect("a page can be read");
    let is_tried = |block: &Block| block.language != "text" || !block.comment.is_empty();
    let blocks: Vec<Block> = page::blocks(&text).into_iter().filter(is_tried).collect();
    let blocks = Arc::new(blocks);
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
    let mut session = Session::new(&workspace());
    blocks.iter().map(|block| session.take(block)).collect()
}
