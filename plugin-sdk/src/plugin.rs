//! The traits that a plugin implements. One is enough; the others are hooks,
//! each named in [`export!`](crate::export!) by the plugin that has it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::{Access, Error, Older, Otherwise, Saved, Setup};

/// Answers the MSR accesses that the manifest names.
///
/// With `scope = "vcpu"` in the manifest each vCPU has an instance of its own,
/// with `scope = "vm"` all share one. Calls to an instance never overlap.
pub trait Plugin: Sized {
    /// Makes the instance from its configuration, before the guest starts.
    ///
    /// # Errors
    /// A configuration that the plugin cannot serve, see
    /// [`Error::in_config`]. The VM then does not start.
    fn new(setup: &Setup) -> Result<Self, Error>;

    /// Answers `rdmsr`; the value becomes the guest's EDX:EAX.
    ///
    /// # Errors
    /// Another outcome of the access; by default a fault.
    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        let _ = access;
        Err(Otherwise::Fault)
    }

    /// Takes `wrmsr` with the guest's EDX:EAX.
    ///
    /// # Errors
    /// Another outcome of the access; by default a fault.
    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        let _ = (access, value);
        Err(Otherwise::Fault)
    }
}

/// Hook of a plugin whose registers a reset of the machine changes.
pub trait Reset: Plugin {
    /// Puts the registers into the state they have after a reset.
    fn reset(&mut self);
}

/// Hook of a plugin whose state outlives the instance: another one continues with it
/// while the guest runs, perhaps of a newer version, or of the older one that comes back.
/// If versions differ in their state, implement [`Versioned`](crate::Versioned) instead.
pub trait Persist: Plugin {
    /// The state to save. A newer version must be able to read it; as JSON it
    /// may have at most 64 KiB.
    fn save(&self) -> impl Serialize;

    /// Restores a saved state, in an instance that [`Plugin::new`] has just
    /// made.
    ///
    /// # Errors
    /// A state that this version cannot use. The old instance then stays in
    /// charge.
    fn restore(&mut self, saved: &Saved) -> Result<(), Error>;

    /// The state as an older version reads it, which comes back in the place of this one.
    ///
    /// By default the state of [`save`](Persist::save) for a version with the same
    /// `MAJOR.MINOR`, and a refusal for any other: it might read it wrongly.
    ///
    /// # Errors
    /// A version for which no state can be written. This instance then stays in charge.
    fn save_for(&self, older: &Older) -> Result<Vec<u8>, Error> {
        older.write_same(&self.save())
    }
}

/// Hook of a plugin that asks to be called at a time with
/// [`timer::call_at`](crate::timer::call_at). The manifest must ask for the
/// capability `timer`.
pub trait Timer: Plugin {
    /// The time is reached.
    fn timer(&mut self);
}

/// Hook of a plugin that reports something when the run has ended.
pub trait Report: Plugin {
    /// Lines that people are shown after the run; nothing if empty. The host
    /// cuts them after 64 KiB.
    fn report(&self) -> String;
}
