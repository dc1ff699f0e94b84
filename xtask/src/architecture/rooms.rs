//! The rooms of the engine, from the ground up: none names a room above it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::imports::{self, Tests};

const ENGINE: &str = "host/engine/src";

/// The folders and top-level files of the engine's sources. A room may name those
/// before it.
pub(super) const ROOMS: &[&str] = &[
    // Values and limits.
    "toml_file",
    "text_file",
    "rate_limit",
    "limits",
    "state",
    // What is decided from values alone.
    "msr",
    "manifest",
    "profile",
    "metrics",
    // What is written down.
    "record",
    "intercepts",
    // Plugins, and where they sit.
    "plugin",
    "slots",
    "shadow",
    // A profile loaded, accesses answered, a boot started.
    "engine",
    "dispatch",
    "start",
    // What is built on that.
    "save",
    "live",
    "script",
    "replay",
];

/// Adds every import that leads upwards, and every room without a place in the table.
pub(super) fn check(root: &Path, rooms: &[&str], breaches: &mut Vec<String>) -> Result<()> {
    let src = root.join(ENGINE);
    let floor = |room: &str| rooms.iter().position(|known| *known == room);
    let mut unused: BTreeSet<&str> = rooms.iter().copied().collect();
    for (file, used) in imports::of_crate(&src, Tests::Counted)? {
        let Some(room) = room(&file) else { continue };
        unused.remove(room.as_str());
        let Some(own) = floor(&room) else {
            let file = file.display();
            breaches.push(format!("{ENGINE}/{file}: the table of rooms does not have {room}"));
            continue;
        };
        for other in used.iter().filter_map(|file| self::room(file)) {
            if floor(&other).is_some_and(|other| other > own) {
                let file = file.display();
                breaches.push(format!("{ENGINE}/{file} names {other}, which is above {room}"));
            }
        }
    }
    for room in unused {
        breaches.push(format!("the table of rooms has {room}, which {ENGINE} does not have"));
    }
    Ok(())
}

/// The room of a file; `None` for the crate's root.
fn room(file: &Path) -> Option<String> {
    let first = file.iter().next()?.to_string_lossy();
    let name = first.strip_suffix(".rs").unwrap_or(&first);
    (name != "lib").then(|| name.to_owned())
}
