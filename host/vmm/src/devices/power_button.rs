//! The power button: ACPI's fixed hardware, in which nothing else ever happens.

/// ACPI PM1a event registers, status and enable (ACPI 6.5, 4.8.3.1).
pub(crate) const PM1A_EVENT: u16 = 0x600;

/// The interrupt by which ACPI's fixed hardware calls the guest, the SCI; on the ISA line
/// where PCs have it.
pub(crate) const SCI: u8 = 9;

/// PM1a status and enable, and the one event that happens here: the power button.
pub(crate) struct PowerEvents {
    pressed: bool,
    /// What the guest wrote; Linux reads back which events it has enabled.
    enabled: [u8; 2],
    /// Sets the level of the SCI, which stays up while an enabled event waits.
    sci: Box<dyn Fn(Level) + Send>,
    level: Level,
}

/// The level of an interrupt's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Low,
    High,
}

/// What came of a press of the power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Press {
    /// The guest is called.
    Raised,
    /// The guest has not enabled the event. It may see it later.
    NotEnabled,
    /// An earlier press still waits, and this one is the same.
    StillWaits,
}

impl PowerEvents {
    /// Where the enable register starts.
    const ENABLE: u8 = 2;

    /// `PWRBTN_STS` and `PWRBTN_EN`, in the second byte of their registers.
    const POWER_BUTTON: u8 = 1 << 0;

    /// The power button, wired to `sci`.
    pub(crate) fn new(sci: impl Fn(Level) + Send + 'static) -> Self {
        PowerEvents { pressed: false, enabled: [0; 2], sci: Box::new(sci), level: Level::Low }
    }

    pub(super) fn press(&mut self) -> Press {
        if std::mem::replace(&mut self.pressed, true) {
            return Press::StillWaits;
        }
        match self.settle() {
            Level::High => Press::Raised,
            Level::Low => Press::NotEnabled,
        }
    }

    pub(super) fn read(&self, offset: u8, unit: &mut [u8]) {
        let status = if self.pressed { Self::POWER_BUTTON } else { 0 };
        let registers = [0, status, self.enabled[0], self.enabled[1]];
        let from = registers.iter().skip(offset.into()).chain(std::iter::repeat(&0));
        for (byte, register) in unit.iter_mut().zip(from) {
            *byte = *register;
        }
    }

    pub(super) fn write(&mut self, offset: u8, unit: &[u8]) {
        for (register, &byte) in (offset..).zip(unit) {
            match register.checked_sub(Self::ENABLE).map(usize::from) {
                // Status bits are cleared by writing 1 to them.
                None => self.pressed &= register != 1 || byte & Self::POWER_BUTTON == 0,
                Some(index) => {
                    if let Some(enabled) = self.enabled.get_mut(index) {
                        *enabled = byte;
                    }
                }
            }
        }
        self.settle();
    }

    /// Gives the line the level that the registers ask for.
    fn settle(&mut self) -> Level {
        let enabled = self.enabled[1] & Self::POWER_BUTTON != 0;
        let level = if self.pressed && enabled { Level::High } else { Level::Low };
        if level != self.level {
            self.level = level;
            (self.sci)(level);
        }
        level
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// Registers, and the levels that their line has had.
    fn registers() -> (PowerEvents, Arc<Mutex<Vec<Level>>>) {
        let levels = Arc::new(Mutex::new(Vec::new()));
        let line = Arc::clone(&levels);
        (PowerEvents::new(move |level| line.lock().unwrap().push(level)), levels)
    }

    fn all(events: &PowerEvents) -> [u8; 4] {
        let mut all = [0xff; 4];
        events.read(0, &mut all);
        all
    }

    #[test]
    fn enabled_events_read_back_and_no_other_status_is_set() {
        let (mut events, levels) = registers();
        events.write(2, &[0x20, 0x01]);
        events.write(0, &[0xff, 0xff]);
        assert_eq!(all(&events), [0, 0, 0x20, 0x01]);
        let mut both = [0xff; 4];
        events.read(3, &mut both);
        assert_eq!(both, [1, 0, 0, 0]);
        assert!(levels.lock().unwrap().is_empty());
    }

    #[test]
    fn a_press_holds_the_line_until_the_guest_has_seen_it() {
        let (mut events, levels) = registers();
        events.write(2, &[0, 1]);
        assert_eq!(events.press(), Press::Raised);
        for _ in 0..1000 {
            assert_eq!(events.press(), Press::StillWaits);
        }
        assert_eq!(all(&events), [0, 1, 0, 1]);
        events.write(0, &[0xff]);
        events.write(0, &[0, 0xfe]);
        assert_eq!(all(&events)[1], 1, "not the bit that clears it");
        events.write(0, &[0, 1]);
        assert_eq!(all(&events), [0, 0, 0, 1]);
        assert_eq!(*levels.lock().unwrap(), [Level::High, Level::Low]);
    }

    #[test]
    fn a_guest_that_has_not_enabled_it_is_not_called() {
        let (mut events, levels) = registers();
        assert_eq!(events.press(), Press::NotEnabled);
        assert!(levels.lock().unwrap().is_empty());
        assert_eq!(all(&events), [0, 1, 0, 0], "it can look");
        events.write(2, &[0, 1]);
        events.write(3, &[0]);
        assert_eq!(*levels.lock().unwrap(), [Level::High, Level::Low]);
    }

    proptest! {
        #[test]
        fn the_line_follows_the_registers_whatever_is_written(
            accesses in prop::collection::vec(
                (any::<bool>(), 0_u8..4, prop::collection::vec(any::<u8>(), 1..5)), 0..40)
        ) {
            let (mut events, levels) = registers();
            for (press, offset, unit) in accesses {
                match press {
                    true => drop(events.press()),
                    false => events.write(offset, &unit),
                }
                let [low, status, _, enabled] = all(&events);
                let expected = if status & enabled & 1 != 0 { Level::High } else { Level::Low };
                let level = levels.lock().unwrap().last().copied().unwrap_or(Level::Low);
                prop_assert_eq!((level, low, status & !1), (expected, 0, 0));
            }
        }
    }
}
