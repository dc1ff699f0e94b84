//! The line that begins a boot.

use std::time::SystemTime;

use super::absolute::absolute;
use super::line::{BootLine, BootPlugin, FORMAT};
use crate::profile::Profile;

/// What a boot runs with, as far as the engine knows.
pub(crate) fn boot_line(
    vcpus: u32,
    kernel: Option<String>,
    mut plugins: Vec<BootPlugin>,
    profile: &Profile,
) -> BootLine {
    for plugin in &mut plugins {
        plugin.path = absolute(&plugin.path);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    BootLine {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        t: 0,
        unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        boot: 0,
        vcpus,
        kernel,
        plugins,
        profile: absolute(&profile.path),
        text: profile.text.to_string(),
    }
}
