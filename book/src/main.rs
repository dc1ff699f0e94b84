//! Makes the documents a book, and fails if a link is broken.
//!
//! The pages are spread over the workspace, so that each can also be read in a
//! checkout. mdBook needs them in one folder: this program copies them there
//! with the same folders, and with the files that they link to.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use mdbook_driver::MDBook;
use mdbook_driver::config::Config;
use wasmsr_book::pages::{SUMMARY, listed, summary};
use wasmsr_book::{links, rendered};

fn main() -> ExitCode {
    match make() {
        Ok(made) => {
            println!("{made}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let target = env::args_os().nth(1).context("usage: wasmsr-book TARGET")?;
    let target = PathBuf::from(target);
    let pages = pages(&root)?;
    let linked = links::check(&root, &pages)?;

    let (source, html) = (target.join("source"), target.join("html"));
    for old in [&source, &html] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    for file in pages.iter().chain(&linked) {
        put(&source.join(file), &fs::read(root.join(file))?)?;
    }
    put(&source.join("SUMMARY.md"), summary(&root)?.as_bytes())?;

    let mut config = Config::from_disk(root.join("docs/book.toml")).map_err(readable)?;
    config.book.src = source;
    config.build.build_dir = html.clone();
    config.build.create_missing = false;
    MDBook::load_with_config(&target, config).and_then(|book| book.build()).map_err(readable)?;
    let checked = rendered::check(&html)?;
    Ok(format!("book: {} pages, {checked} links, in {}", pages.len(), html.display()))
}

/// Every page of the book, relative to the workspace. An unlisted page is an
/// error: newcomers would not find it.
fn pages(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = listed(root)?;
    let mut found = BTreeSet::new();
    for folder in ["", "docs", "examples", "tests"] {
        found.extend(documents(root, Path::new(folder))?);
    }
    for folder in ["plugins", "examples"] {
        for below in fs::read_dir(root.join(folder))? {
            found.extend(documents(root, &Path::new(folder).join(below?.file_name()))?);
        }
    }
    let missing: Vec<String> =
        found.difference(&listed).map(|page| page.display().to_string()).collect();
    ensure!(missing.is_empty(), "{SUMMARY} does not list {}", missing.join(", "));
    Ok(listed)
}

/// The Markdown files in a folder.
fn documents(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    if !root.join(folder).is_dir() {
        return Ok(Vec::new());
    }
    let mut documents = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let file = folder.join(entry?.file_name());
        if file.extension().is_some_and(|ending| ending == "md") && file != Path::new(SUMMARY) {
            documents.push(file);
        }
    }
    Ok(documents)
}

fn put(path: &Path, contents: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, contents).with_context(|| path.display().to_string())
}

/// mdBook's error with its causes.
fn readable(error: mdbook_driver::errors::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
