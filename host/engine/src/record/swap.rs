//! The line at which another set of plugins takes charge of a running VM, and the set
//! that a line describes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::call::{HostCall, PluginCall};
use super::line::{BootLine, BootPlugin, effects, is_false};

/// Another set of plugins is in charge: every access before the line was answered by
/// the old set, every one after it by the new set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapLine {
    /// Since the recording began.
    pub t: u64,
    /// Of the new set; one more than that of the old one.
    pub generation: u64,
    /// Why.
    pub cause: SwapCause,
    /// SHA-256 over everything in the new set that a swap can change.
    pub set: String,
    /// The plugins of the new set, in the order of its profile.
    pub plugins: Vec<BootPlugin>,
    /// Those of them whose instances are the old set's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Where the new set's profile was.
    pub profile: PathBuf,
    /// That profile's text.
    pub text: String,
    /// What the plugins asked of the host meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PluginCall>,
    /// Whether `calls` lacks some, for being too many.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// Why another set took charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapCause {
    /// A user asked for the new set.
    Swap,
    /// The new set failed its probation, and the old one came back.
    Return,
    /// A user asked for the old set.
    Rollback,
}

impl SwapCause {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            SwapCause::Swap => "swap",
            SwapCause::Return => "return",
            SwapCause::Rollback => "rollback",
        }
    }
}

impl fmt::Display for SwapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl SwapLine {
    /// Whether both changed the same: guest memory, KVM's MSRs, intercepts, timers.
    pub fn changed_as(&self, other: &SwapLine) -> bool {
        self.effects().eq(other.effects())
    }

    /// The host calls that changed something.
    pub fn effects(&self) -> impl Iterator<Item = &HostCall> {
        effects(&self.calls)
    }

    /// The new set, in a boot on a host with this kernel.
    pub fn set<'a>(&'a self, kernel: Option<&'a str>) -> RecordedSet<'a> {
        let SwapLine { plugins, profile, text, .. } = self;
        RecordedSet { kernel, plugins, profile, text }
    }
}

impl BootLine {
    /// The set that the boot began with.
    pub fn set(&self) -> RecordedSet<'_> {
        let BootLine { plugins, profile, text, .. } = self;
        RecordedSet { kernel: self.kernel.as_deref(), plugins, profile, text }
    }
}

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
