//! The lines of a recording.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasmsr_interface::{MsrIndex, OutcomeKind, Reason};

use super::call::{ENGINE, HostCall, PluginCall};
use super::hex::{Bytes, Hex};

/// The format that is written. One with other meanings has another number;
/// keys that a reader does not know are to be passed over.
pub const FORMAT: u32 = 1;

/// One line: a JSON object, told apart by its `kind`. Times are nanoseconds
/// since the recording began. [`Lines`](super::Lines) reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// A boot begins; what it runs with. The first line is one.
    Boot(Box<BootLine>),
    /// The plugins were started.
    Start(StartLine),
    /// A guest's access, answered.
    Access(AccessLine),
    /// Plugins' timers were due.
    Wake(WakeLine),
    /// Another set of plugins is in charge from here on.
    Swap(Box<SwapLine>),
    /// Lines that the queue had no room for are missing here.
    Dropped(DroppedLine),
    /// The boot is over.
    End(EndLine),
}

/// A boot begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootLine {
    /// [`FORMAT`]
    pub format: u32,
    /// The version of wasmsr that recorded.
    pub version: String,
    /// Since the recording began.
    pub t: u64,
    /// The time of day in milliseconds since 1970, UTC.
    pub unix_ms: u64,
    /// Counted from 1.
    pub boot: u64,
    /// Of the set in charge when the recording began: above 1 if that was in a running VM
    /// in which sets had been swapped before.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub generation: u64,
    /// The number of vCPUs.
    pub vcpus: u32,
    /// The host's kernel, which decides which plugins yield (`kernel-from`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The plugins, in the order of the profile.
    pub plugins: Vec<BootPlugin>,
    /// Where the profile was.
    pub profile: PathBuf,
    /// The profile's text.
    pub text: String,
    /// What the plugins had saved when the recording began in a running VM: the bytes of
    /// a [`SavedState`](crate::SavedState).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Bytes>,
    /// The plugins whose state then is not in `state`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaved: Vec<String>,
}

/// A plugin of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Its file, as the profile says.
    pub path: PathBuf,
    /// The file that a swap has put in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<PathBuf>,
}

/// The plugins were started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLine {
    /// Since the recording began.
    pub t: u64,
    /// What they asked of the host meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PluginCall>,
    /// Whether `calls` lacks some, for being too many.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// A guest's access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLine {
    /// When it reached the engine.
    pub t: u64,
    /// Which vCPU did it.
    pub vcpu: u32,
    /// Of the set that answered it.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub generation: u64,
    /// The MSR.
    pub msr: MsrIndex,
    /// The MSR's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which instruction.
    pub op: Op,
    /// Why it left the kernel.
    pub reason: Reason,
    /// Where the instruction is in the guest, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rip: Option<Hex>,
    /// What was written; or what was read, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Hex>,
    /// What became of it. With [`OutcomeKind::Kernel`], `value` is what KVM gave for a
    /// read, or absent where KVM refused; a write has `refused`.
    pub outcome: OutcomeKind,
    /// Whether KVM refused a write that was left to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refused: bool,
    /// The plugin that decided; absent for the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Whether that plugin failed, so that its `on-failure` decided.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Nanoseconds in the engine and its plugins.
    pub ns: u64,
    /// What the plugins asked of the host meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PluginCall>,
    /// Whether `calls` lacks some, for being too many.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// `rdmsr` or `wrmsr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Op {
    Read,
    Write,
}

/// Plugins' timers were due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeLine {
    /// When.
    pub t: u64,
    /// On which vCPU's thread.
    pub vcpu: u32,
    /// Of the set whose timers they were.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub generation: u64,
    /// Nanoseconds in the engine and its plugins.
    pub ns: u64,
    /// The plugins whose timer failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// What the plugins asked of the host meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PluginCall>,
    /// Whether `calls` lacks some, for being too many.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

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

/// Lines are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedLine {
    /// When the next line came that had room.
    pub t: u64,
    /// How many accesses and wakes.
    pub lines: u64,
}

/// The boot is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndLine {
    /// When.
    pub t: u64,
    /// Lines of accesses and wakes that were written since the boot began.
    pub lines: u64,
    /// Lines that were dropped.
    pub dropped: u64,
    /// The plugins that failed in a report or a reset, once for each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

impl AccessLine {
    /// Whether both were answered alike: outcome, value read, failure, and what
    /// the plugins changed: guest memory, KVM's MSRs, intercepts, timers.
    pub fn answered_as(&self, other: &AccessLine) -> bool {
        let answer = |access: &AccessLine| (access.outcome, access.value, access.failed);
        answer(self) == answer(other) && self.effects().eq(other.effects())
    }

    /// The host calls that changed something.
    pub fn effects(&self) -> impl Iterator<Item = &HostCall> {
        effects(&self.calls)
    }
}

impl StartLine {
    /// Whether both changed the same: guest memory, KVM's MSRs, intercepts, timers.
    pub fn changed_as(&self, other: &StartLine) -> bool {
        self.effects().eq(other.effects())
    }

    /// The host calls that changed something.
    pub fn effects(&self) -> impl Iterator<Item = &HostCall> {
        effects(&self.calls)
    }
}

impl WakeLine {
    /// Whether the same timers failed, and both changed the same: guest memory, KVM's
    /// MSRs, intercepts, timers.
    pub fn changed_as(&self, other: &WakeLine) -> bool {
        self.failed == other.failed && self.effects().eq(other.effects())
    }

    /// The host calls that changed something.
    pub fn effects(&self) -> impl Iterator<Item = &HostCall> {
        effects(&self.calls)
    }
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
}

fn effects(calls: &[PluginCall]) -> impl Iterator<Item = &HostCall> {
    // What the engine asks follows from what plugins asked.
    let of_plugins = calls.iter().filter(|call| call.plugin != ENGINE);
    of_plugins.map(|call| &call.call).filter(|call| call.is_effect())
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The generation of the set that a boot begins with.
pub(super) const FIRST: u64 = 1;

fn first() -> u64 {
    FIRST
}

fn is_first(generation: &u64) -> bool {
    *generation == FIRST
}
