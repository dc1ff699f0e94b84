//! The list of pages, and what they name in backticks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{Event, Options, Parser};

use crate::links;

/// The file that lists the pages; a chapter is a path relative to it.
pub const SUMMARY: &str = "docs/SUMMARY.md";

/// The summary, with paths relative to the workspace's folder.
///
/// # Errors
/// It cannot be read, or a link in it is invalid.
pub fn summary(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join(SUMMARY)).context(SUMMARY)?;
    let mut pieces = text.split("](");
    let mut rewritten = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (link, rest) = piece.split_once(')').context("docs/SUMMARY.md: a link has no end")?;
        let page = links::resolve(Path::new(SUMMARY), link)
            .with_context(|| format!("docs/SUMMARY.md: {link} leaves the workspace"))?;
        rewritten += &format!("]({}){rest}", page.display());
    }
    Ok(rewritten)
}

/// Every page of the book, relative to the workspace.
///
/// # Errors
/// As [`summary`].
pub fn listed(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let summary = summary(root)?;
    let links = summary.split("](").skip(1).filter_map(|piece| piece.split_once(')'));
    Ok(links.map(|(page, _)| PathBuf::from(page)).collect())
}

/// The texts in backticks within the lines of all pages, each with its page.
///
/// # Errors
/// As [`summary`], or a page that cannot be read.
pub fn code_in_lines(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for page in listed(root)? {
        let text = fs::read_to_string(root.join(&page))
            .with_context(|| format!("cannot read {}", page.display()))?;
        found.extend(code(&text).into_iter().map(|code| (page.clone(), code)));
    }
    Ok(found)
}

fn code(page: &str) -> Vec<String> {
    let code = |event| match event {
        Event::Code(code) => Some(code.into_string()),
        _ => None,
    };
    Parser::new_ext(page, Options::ENABLE_TABLES).filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_wherever_it_stands() {
        let page =
            "# `a`\n\n```console\n$ no\n```\n| `b` |\n|---|\n| `c d`, [`e`](f) |\n\n`g\nh`\n";
        assert_eq!(code(page), ["a", "b", "c d", "e", "g h"]);
    }
}
