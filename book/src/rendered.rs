//! Links of the rendered pages: each leads to a file of the book, and to an
//! anchor in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::links::resolve;

/// Follows every link in a folder of pages; returns how many there are.
///
/// # Errors
/// Every broken link, one per line.
pub fn check(html: &Path) -> Result<usize> {
    let mut pages = BTreeMap::new();
    read(html, Path::new(""), &mut pages)?;
    let (mut followed, mut broken) = (0, Vec::new());
    for (page, text) in &pages {
        for link in attributes(text, "href").chain(attributes(text, "src")) {
            let is_elsewhere = link.contains(':') || link.is_empty();
            if is_elsewhere {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Some(page.clone()),
                file => resolve(page, file.split('?').next().unwrap_or(file)),
            };
            let there = target.as_ref().is_some_and(|target| html.join(target).is_file());
            let place = target.and_then(|target| pages.get(&target));
            let named = |text: &String| attributes(text, "id").any(|id| id == anchor);
            if !there || (!anchor.is_empty() && !place.is_some_and(named)) {
                broken.push(format!("{}: {link} leads nowhere", page.display()));
            }
        }
    }
    if broken.is_empty() { Ok(followed) } else { bail!("{}", broken.join("\n")) }
}

/// Reads the pages in a folder and below.
fn read(html: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let mut entries = BTreeSet::new();
    for entry in fs::read_dir(html.join(folder))? {
        entries.insert(folder.join(entry?.file_name()));
    }
    for entry in entries {
        if html.join(&entry).is_dir() {
            read(html, &entry, pages)?;
        } else if entry.extension().is_some_and(|ending| ending == "html") {
            let text = fs::read_to_string(html.join(&entry))?;
            pages.insert(entry, text);
        }
    }
    Ok(())
}

/// The values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let pieces = html.split(format!(" {name}=\"").as_str()).skip(1).collect::<Vec<_>>();
    pieces.into_iter().filter_map(|piece| Some(piece.split_once('"')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_with(link: &str) -> Result<usize> {
        let html = tempfile::tempdir().unwrap();
        fs::create_dir(html.path().join("docs")).unwrap();
        fs::write(html.path().join("style.css"), "").unwrap();
        fs::write(html.path().join("docs/b.html"), "<h1 id=\"top\">").unwrap();
        fs::write(html.path().join("a.html"), format!("<a href=\"{link}\">")).unwrap();
        check(html.path())
    }

    #[test]
    fn links_are_followed() {
        for link in ["docs/b.html#top", "./style.css?x", "docs/../a.html"] {
            assert_eq!(check_with(link).unwrap(), 1, "{link}");
        }
        assert_eq!(check_with("https://x.org").unwrap(), 0);
        for link in ["b.html", "docs/b.html#end", "#top", "docs", "../a.html"] {
            let error = check_with(link).unwrap_err().to_string();
            assert_eq!(error, format!("a.html: {link} leads nowhere"));
        }
    }
}
