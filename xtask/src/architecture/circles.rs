//! No circle of files: files that use each other cannot be read one after the other.
//! Tests are passed over, as they may use anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::folder::entries;
use super::imports::{self, Imports, Tests};

/// Folders through which circles may lead, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("plugins", "a plugin's lib.rs is the plugin, and the other files are its parts"),
    ("plugin-sdk/src/native", "the host of unit tests calls the exports, which call it back"),
];

/// Adds every circle of files in the crates below `root`.
pub(super) fn check(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    for folder in crates(root)? {
        let src = folder.join("src");
        let place = src.strip_prefix(root)?;
        for circle in circles(&imports::of_crate(&src, Tests::PassedOver)?) {
            let files: Vec<PathBuf> = circle.iter().map(|file| place.join(file)).collect();
            let is_allowed = |file: &PathBuf| ALLOWED.iter().any(|(at, _)| file.starts_with(at));
            if files.iter().any(is_allowed) {
                continue;
            }
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            breaches.push(format!("files use each other in a circle: {}", files.join(" -> ")));
        }
    }
    Ok(())
}

/// The folders of the workspace's crates that have sources.
fn crates(root: &Path) -> Result<Vec<PathBuf>> {
    let mut crates = Vec::new();
    for place in ["", "host", "plugins", "examples"] {
        let folder = root.join(place);
        if folder.is_dir() {
            let entries = entries(&folder)?.into_iter();
            crates.extend(
                entries.filter(|entry| {
                    entry.join("Cargo.toml").is_file() && entry.join("src").is_dir()
                }),
            );
        }
    }
    Ok(crates)
}

/// One circle through the first file of each group of files that use each other, as
/// short as can be. The first file is also the last.
fn circles(imports: &Imports) -> Vec<Vec<PathBuf>> {
    let reachable: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reached(imports, file))).collect();
    let mut seen: BTreeSet<&PathBuf> = BTreeSet::new();
    let mut circles = Vec::new();
    for (file, reached) in &reachable {
        if !reached.contains(*file) || seen.contains(*file) {
            continue;
        }
        seen.extend(
            reached
                .iter()
                .filter(|other| reachable.get(**other).is_some_and(|back| back.contains(*file))),
        );
        circles.extend(shortest(imports, file));
    }
    circles
}

fn reached<'a>(imports: &'a Imports, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&PathBuf> = imports.get(from).into_iter().flatten().collect();
    while let Some(file) = waiting.pop() {
        if reached.insert(file) {
            waiting.extend(imports.get(file).into_iter().flatten());
        }
    }
    reached
}

/// The shortest way from a file back to it.
fn shortest(imports: &Imports, file: &PathBuf) -> Option<Vec<PathBuf>> {
    let mut ways = VecDeque::from([vec![file.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in imports.get(way.last()?).into_iter().flatten() {
            let longer: Vec<PathBuf> = way.iter().chain([next]).cloned().collect();
            if next == file {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}
