//! QEMU's `pvpanic`: how a guest says that its kernel has panicked. Linux has a
//! driver for it (docs/specs/pvpanic in QEMU's sources).

use std::sync::Once;

/// The port, QEMU's; the ACPI tables name it.
pub(crate) const PANIC_PORT: u16 = 0x505;

/// The ACPI id by which guests find it.
pub(crate) const PANIC_ACPI_ID: &str = "QEMU0001";

/// Event: the kernel has panicked and runs on by itself.
const PANICKED: u32 = 1 << 0;

/// Event: it has panicked, and a crash kernel takes over.
const CRASH_LOADED: u32 = 1 << 1;

/// Reports a panic, once per boot. What follows is the guest's decision: it
/// resets, or stays as it is to be looked at.
#[derive(Debug)]
pub(super) struct PvPanic {
    told: Once,
}

impl PvPanic {
    pub(super) fn new() -> Self {
        PvPanic { told: Once::new() }
    }

    /// The events that are understood.
    pub(super) fn read() -> u32 {
        PANICKED | CRASH_LOADED
    }

    /// Takes an event; `true` if it is the first report of a panic.
    pub(super) fn write(&self, event: u32) -> bool {
        let mut first = false;
        if event & (PANICKED | CRASH_LOADED) != 0 {
            self.told.call_once(|| {
                first = true;
                let then = match event & CRASH_LOADED {
                    0 => "",
                    _ => ", and a crash kernel takes over",
                };
                tracing::error!("the guest's kernel has panicked{then}; its console says why");
            });
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_once() {
        let device = PvPanic::new();
        assert!(!device.write(0), "no event");
        assert!(!device.write(1 << 5), "an event of the future");
        assert!(device.write(PANICKED));
        assert!(!device.write(PANICKED) && !device.write(CRASH_LOADED), "a flood of reports");
    }
}
