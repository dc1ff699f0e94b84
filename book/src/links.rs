//! Links of the pages in the workspace: each leads to an existing file, and to a
//! heading in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Follows every link. Returns the linked files that are not pages.
///
/// # Errors
/// Every broken link, one per line.
pub fn check(root: &Path, pages: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut read = BTreeMap::new();
    for page in pages {
        let text = fs::read_to_string(root.join(page))
            .with_context(|| format!("cannot read {}", page.display()))?;
        read.insert(page, Page::read(&text));
    }
    let (mut linked, mut broken) = (BTreeSet::new(), Vec::new());
    for (page, Page { links, headings }) in &read {
        for link in links.iter().filter(|link| !is_elsewhere(link)) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Some(page.to_path_buf()),
                file => resolve(page, file),
            };
            let there = target.as_ref().is_some_and(|target| root.join(target).is_file());
            let (Some(target), true) = (target, there) else {
                broken.push(format!("{}: {link} is not a file", page.display()));
                continue;
            };
            let headings = match read.get(&target) {
                Some(page) => &page.headings,
                None if target.extension().is_some_and(|ending| ending == "md") => {
                    broken.push(format!("{}: {link} is not a page of the book", page.display()));
                    continue;
                }
                None => {
                    linked.insert(target);
                    headings
                }
            };
            if !anchor.is_empty() && !headings.contains(anchor) {
                broken.push(format!("{}: {link} names no heading", page.display()));
            }
        }
    }
    if broken.is_empty() { Ok(linked) } else { bail!("{}", broken.join("\n")) }
}

/// The file that a link in `page` leads to, relative to the workspace; `None` if
/// it is outside.
pub fn resolve(page: &Path, link: &str) -> Option<PathBuf> {
    let mut file = page.parent().unwrap_or(Path::new("")).to_path_buf();
    for component in Path::new(link).components() {
        match component {
            Component::Normal(name) => file.push(name),
            Component::ParentDir => file.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(file)
}

fn is_elsewhere(link: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme))
}

/// The links of a page, and its anchors.
struct Page {
    links: Vec<String>,
    headings: BTreeSet<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Page { links: Vec::new(), headings: BTreeSet::new() };
        let mut heading = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.headings.extend(heading.take().map(|text| anchor(&text)));
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        page
    }
}

/// The anchor that GitHub and mdBook make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c => c.is_alphanumeric().then_some(c),
    });
    kept.collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(text: &str) -> Result<BTreeSet<PathBuf>> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        fs::write(root.path().join("README.md"), "# Read `[me]`, now\n").unwrap();
        fs::write(root.path().join("file.toml"), "").unwrap();
        fs::write(root.path().join("docs/page.md"), text).unwrap();
        check(root.path(), &["README.md", "docs/page.md"].map(PathBuf::from).into())
    }

    #[track_caller]
    fn broken(text: &str, why: &str) {
        assert_eq!(check_with(text).unwrap_err().to_string(), format!("docs/page.md: {why}"));
    }

    #[test]
    fn links_that_lead_somewhere() {
        let text = "## Here\n[a](../README.md#read-me-now) [b](#here) [c](https://x.org/y.md)\n\
                    [d](../file.toml) `[e](nowhere)`\n";
        assert_eq!(check_with(text).unwrap(), [PathBuf::from("file.toml")].into());
    }

    #[test]
    fn links_that_lead_nowhere() {
        broken("[a](nowhere.md)", "nowhere.md is not a file");
        broken("![a](picture.svg)", "picture.svg is not a file");
        broken("[a](..)", ".. is not a file");
        broken("[a](../../../etc/passwd)", "../../../etc/passwd is not a file");
        broken("[a](/etc/passwd)", "/etc/passwd is not a file");
        broken("[a](#there)", "#there names no heading");
        broken("[a](../README.md#you)", "../README.md#you names no heading");
    }
}
