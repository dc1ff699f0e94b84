//! What a guest asks of the whole machine.

/// What the guest asks for through a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// End with this value, written to the debug-exit port.
    DebugExit(u32),
    /// Power off.
    PowerOff,
    /// Reset.
    Reset,
}
