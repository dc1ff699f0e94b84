//! One register: its value and its access rules.

use serde::{Deserialize, Serialize};
use wasmsr_sdk::Bits64;

/// What a guest may do to a register beside reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Writable {
    /// Nothing.
    #[default]
    #[serde(rename = "read-only")]
    Never,
    /// Write it once; only a reset makes it writable again.
    #[serde(rename = "write-once")]
    Once,
    /// Write it at any time.
    #[serde(rename = "read-write")]
    Always,
}

/// A register in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Register {
    writable: Writable,
    mask: u64,
    initial: u64,
    value: u64,
    locked: bool,
}

/// A register's saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    value: Bits64,
    locked: bool,
}

impl Register {
    /// A register after reset. `mask` has a 1 for each bit that a write may
    /// change.
    pub(crate) fn new(writable: Writable, initial: u64, mask: u64) -> Self {
        Register { writable, mask, initial, value: initial, locked: writable == Writable::Never }
    }

    pub(crate) fn read(&self) -> u64 {
        self.value
    }

    /// Takes a write whole: `None` if the register is locked or the write would
    /// change a bit outside the mask.
    pub(crate) fn write(&mut self, value: u64) -> Option<()> {
        if self.locked || (value ^ self.value) & !self.mask != 0 {
            return None;
        }
        self.value = value;
        self.locked = self.writable == Writable::Once;
        Some(())
    }

    pub(crate) fn keep(&self) -> Kept {
        Kept { value: Bits64(self.value), locked: self.locked }
    }

    /// Restores a register's saved state: `None` if this register could never
    /// hold it.
    pub(crate) fn take_over(&mut self, kept: Kept) -> Option<()> {
        let locks = match self.writable {
            Writable::Never => kept.locked,
            Writable::Once => kept.locked || kept.value.0 == self.initial,
            Writable::Always => !kept.locked,
        };
        let reachable = if self.writable == Writable::Never { 0 } else { self.mask };
        if !locks || (kept.value.0 ^ self.initial) & !reachable != 0 {
            return None;
        }
        self.value = kept.value.0;
        self.locked = kept.locked;
        Some(())
    }

    pub(crate) fn reset(&mut self) {
        *self = Register::new(self.writable, self.initial, self.mask);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Read,
        Write(u64),
        Reset,
    }

    fn writable() -> impl Strategy<Value = Writable> {
        prop_oneof![Just(Writable::Never), Just(Writable::Once), Just(Writable::Always)]
    }

    /// Few bits, so that values meet masks and each other often.
    fn bits() -> impl Strategy<Value = u64> {
        (0..4_u64, 0..4_u64).prop_map(|(high, low)| high << 62 | low)
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Read),
            6 => bits().prop_map(Step::Write),
            1 => Just(Step::Reset),
        ];
        prop::collection::vec(step, 0..32)
    }

    proptest! {
        /// The model keeps the whole history and derives everything from it.
        #[test]
        fn a_register_is_the_history_of_its_writes(
            writable in writable(),
            initial in bits(),
            mask in bits(),
            steps in steps(),
        ) {
            let mut register = Register::new(writable, initial, mask);
            let mut taken: Vec<u64> = Vec::new();
            for step in steps {
                let held = taken.last().copied().unwrap_or(initial);
                match step {
                    Step::Read => prop_assert_eq!(register.read(), held),
                    Step::Write(value) => {
                        let open = match writable {
                            Writable::Never => false,
                            Writable::Once => taken.is_empty(),
                            Writable::Always => true,
                        };
                        let fits = value & !mask == initial & !mask;
                        prop_assert_eq!(register.write(value), (open && fits).then_some(()));
                        if open && fits {
                            taken.push(value);
                        }
                    }
                    Step::Reset => {
                        register.reset();
                        taken.clear();
                    }
                }
                // Whatever the history, another register can restore it.
                let mut heir = Register::new(writable, initial, mask);
                prop_assert_eq!(heir.take_over(register.keep()), Some(()));
                prop_assert_eq!(&heir, &register);
            }
        }
    }
}
