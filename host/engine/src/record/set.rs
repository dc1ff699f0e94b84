//! The set of plugins that a line of a recording describes.

use std::path::Path;

use super::line::{BootLine, BootPlugin, SwapLine};

/// A set of plugins as a recording describes it.
#[derive(Debug, Clone, Copy)]
pub struct RecordedSet<'a> {
    /// The host's kernel, which decides which plugins yield.
    pub kernel: Option<&'a str>,
    /// The plugins, in the order of the profile.
    pub plugins: &'a [BootPlugin],
    /// Where the profile was.
    pub profile: &'a Path,
    /// The profile's text.
    pub text: &'a str,
}

impl BootLine {
    /// The set that the boot began with.
    pub fn set(&self) -> RecordedSet<'_> {
        let BootLine { plugins, profile, text, .. } = self;
        RecordedSet { kernel: self.kernel.as_deref(), plugins, profile, text }
    }
}

impl SwapLine {
    /// The new set, in a boot on a host with this kernel.
    pub fn set<'a>(&'a self, kernel: Option<&'a str>) -> RecordedSet<'a> {
        let SwapLine { plugins, profile, text, .. } = self;
        RecordedSet { kernel, plugins, profile, text }
    }
}
