//! The lines at which a set of plugins takes charge: at a boot, in a running VM, and at
//! the beginning of a recording in one.

use std::time::SystemTime;

use super::absolute::absolute;
use super::hex::Bytes;
use super::line::{BootLine, BootPlugin, FIRST, FORMAT, SwapCause, SwapLine};
use crate::profile::Profile;

/// Most bytes of saved state in a boot's line: as text they are twice as many, and a
/// line has a limit.
const LONGEST_STATE: usize = 4 << 20;

/// What a boot runs with, as far as the engine knows.
pub(crate) fn boot_line(
    vcpus: u32,
    kernel: Option<String>,
    plugins: Vec<BootPlugin>,
    profile: &Profile,
) -> BootLine {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    BootLine {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        t: 0,
        unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        boot: 0,
        generation: FIRST,
        vcpus,
        kernel,
        plugins: with_absolute_paths(plugins),
        profile: absolute(&profile.path),
        text: profile.text.to_string(),
        state: None,
        unsaved: Vec::new(),
    }
}

impl BootLine {
    /// The line for a recording that begins now, in a running VM whose set in charge has
    /// this generation. `state` is what its plugins saved, as a
    /// [`SavedState`](crate::SavedState) has it in bytes, if they could; `unsaved` are those
    /// that saved nothing. Of a state that is too large for a line, no plugin's is there.
    #[must_use]
    pub fn in_running_vm(
        self,
        generation: u64,
        state: Option<Vec<u8>>,
        unsaved: Vec<String>,
    ) -> Self {
        let state = state.filter(|state| state.len() <= LONGEST_STATE).map(Bytes);
        let unsaved = match state {
            Some(_) => unsaved,
            None => self.plugins.iter().map(|plugin| plugin.name.clone()).collect(),
        };
        BootLine { generation, state, unsaved, ..self }
    }
}

/// The line of a swap to the set of `profile` with the digest `set`. The calls are those
/// of the new plugins while they started and were restored, and of the old ones while
/// they were saved, in the order in which they were made.
pub(crate) fn swap_line(
    generation: u64,
    cause: SwapCause,
    set: String,
    plugins: Vec<BootPlugin>,
    kept: Vec<String>,
    profile: &Profile,
) -> SwapLine {
    SwapLine {
        t: 0,
        generation,
        cause,
        set,
        plugins: with_absolute_paths(plugins),
        kept,
        profile: absolute(&profile.path),
        text: profile.text.to_string(),
        calls: Vec::new(),
        cut: false,
    }
}

fn with_absolute_paths(mut plugins: Vec<BootPlugin>) -> Vec<BootPlugin> {
    for plugin in &mut plugins {
        plugin.path = absolute(&plugin.path);
        plugin.replaced_by = plugin.replaced_by.as_deref().map(absolute);
    }
    plugins
}
