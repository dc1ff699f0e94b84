//! Keeps the promises between the workspace's parts that no compiler checks.

mod circles;
mod dependencies;
mod folder;
mod imports;
mod rooms;
#[cfg(test)]
mod tests;
mod words;

use std::path::Path;

use anyhow::{Result, bail};

/// Fails with every place that breaks a promise.
pub(crate) fn check(root: &Path) -> Result<()> {
    check_with(root, rooms::ROOMS)
}

fn check_with(root: &Path, rooms: &[&str]) -> Result<()> {
    let mut breaches = Vec::new();
    words::check(root, &mut breaches)?;
    dependencies::check(root, &mut breaches)?;
    rooms::check(root, rooms, &mut breaches)?;
    circles::check(root, &mut breaches)?;
    if breaches.is_empty() { Ok(()) } else { bail!("{}", breaches.join("\n")) }
}
