//! What an access does to one register: the rule of each bit, its lock, its reset.

use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::Otherwise;

/// The answer to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// The register's value.
    Value,
    /// This one, whatever was written.
    Fixed(u64),
    Fault,
}

/// What a write may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Write {
    /// It is kept, by the rule of each bit.
    #[default]
    Keep,
    /// The first one is kept; later ones meet a lock.
    Once,
    Ignore,
    Fault,
}

/// The answer to a write of a locked register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Locked {
    #[default]
    Fault,
    Ignore,
}

/// What a reset of the machine that is not a power-on does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WarmReset {
    /// Value and lock are those of a power-on.
    #[default]
    Reset,
    Keep,
}

/// Which bits take a write how. No bit is in two masks; a bit in none is ignored: it
/// keeps its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bits {
    pub(crate) writable: u64,
    /// A 1 clears the bit, a 0 leaves it.
    pub(crate) write_1_to_clear: u64,
    /// A 0 clears the bit, a 1 is #GP.
    pub(crate) clear_only: u64,
    /// A write that would change the bit is #GP.
    pub(crate) reserved: u64,
}

impl Bits {
    /// The bits that some write changes.
    pub(crate) fn changeable(self) -> u64 {
        self.writable | self.write_1_to_clear | self.clear_only
    }
}

/// The rule of a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) read: Read,
    pub(crate) write: Write,
    pub(crate) bits: Bits,
    /// The values that are accepted; all if empty.
    pub(crate) only: Vec<u64>,
    /// The bit that locks the register while it is set, or no bit.
    pub(crate) lock: u64,
    pub(crate) locked: Locked,
    pub(crate) warm_reset: WarmReset,
}

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) value: u64,
    pub(crate) written: bool,
}

impl State {
    pub(crate) fn new(value: u64) -> Self {
        State { value, written: false }
    }
}

impl Rule {
    /// Whether guests can change what the register holds.
    pub(crate) fn has_state(&self) -> bool {
        matches!(self.write, Write::Keep | Write::Once)
    }

    /// Takes a write whole or not at all.
    pub(crate) fn write(&self, state: &mut State, value: u64) -> Result<(), Otherwise> {
        match self.write {
            Write::Fault => return Err(Otherwise::Fault),
            Write::Ignore => return Ok(()),
            Write::Keep | Write::Once => {}
        }
        if self.is_locked(*state) {
            return match self.locked {
                Locked::Fault => Err(Otherwise::Fault),
                Locked::Ignore => Ok(()),
            };
        }
        let Bits { writable, write_1_to_clear, clear_only, reserved } = self.bits;
        let refused = (value ^ state.value) & reserved | value & clear_only;
        if refused != 0 || !self.only.is_empty() && !self.only.contains(&value) {
            return Err(Otherwise::Fault);
        }
        let cleared = value & write_1_to_clear | clear_only;
        state.value = (state.value & !writable | value & writable) & !cleared;
        state.written = true;
        Ok(())
    }

    /// Whether a register with this value after a power-on can hold this state.
    pub(crate) fn can_hold(&self, initial: u64, state: State) -> bool {
        let changed = state.value ^ initial;
        let only_cleared = self.bits.write_1_to_clear | self.bits.clear_only;
        self.has_state()
            && changed & !self.bits.changeable() == 0
            && changed & only_cleared & state.value == 0
            && (state.written || changed == 0)
    }

    fn is_locked(&self, state: State) -> bool {
        state.value & self.lock != 0 || self.write == Write::Once && state.written
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    /// Few bits, so that values, masks and locks meet often.
    fn bits() -> impl Strategy<Value = u64> {
        (0..4_u64, 0..8_u64).prop_map(|(high, low)| high << 62 | low)
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let masks = prop::array::uniform4(bits());
        let write = prop_oneof![4 => Just(Write::Keep), 1 => Just(Write::Once), 1 => Just(Write::Ignore),
                1 => Just(Write::Fault)];
        let locked = prop_oneof![Just(Locked::Fault), Just(Locked::Ignore)];
        let only = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(bits(), 1..4)];
        let lock = prop_oneof![Just(0_u64), Just(1), Just(1 << 63)];
        (masks, write, locked, only, lock).prop_map(
            |([writable, w1c, clear_only, reserved], write, locked, only, lock)| Rule {
                read: Read::Value,
                write,
                bits: Bits {
                    writable,
                    write_1_to_clear: w1c & !writable,
                    clear_only: clear_only & !(writable | w1c),
                    reserved: reserved & !(writable | w1c | clear_only),
                },
                only,
                lock,
                locked,
                warm_reset: WarmReset::Reset,
            },
        )
    }

    proptest! {
        /// Bit by bit, by the table in the README.
        #[test]
        fn each_bit_has_one_rule(
            rule in rule(),
            initial in bits(),
            writes in prop::collection::vec(bits(), 0..16),
        ) {
            let mut state = State::new(initial);
            let mut accepted = 0;
            for value in writes {
                let before = state;
                let came = rule.write(&mut state, value);
                let locked = before.value & rule.lock != 0
                    || rule.write == Write::Once && accepted > 0;
                let bit = |of: u64, at: u32| of >> at & 1;
                let refused = (0..64).any(|at| {
                    let reserved = bit(rule.bits.reserved, at) == 1;
                    let clear_only = bit(rule.bits.clear_only, at) == 1;
                    reserved && bit(value, at) != bit(before.value, at)
                        || clear_only && bit(value, at) == 1
                }) || !rule.only.is_empty() && !rule.only.contains(&value);
                let expected = match rule.write {
                    Write::Fault => Err(Otherwise::Fault),
                    Write::Ignore => Ok(()),
                    _ if locked && rule.locked == Locked::Ignore => Ok(()),
                    _ if locked || refused => Err(Otherwise::Fault),
                    _ => Ok(()),
                };
                prop_assert_eq!(came, expected);
                let taken = rule.has_state() && !locked && !refused;
                accepted += u32::from(taken);
                for at in 0..64 {
                    let held = bit(before.value, at);
                    let after = match bit(value, at) {
                        _ if !taken => held,
                        written if bit(rule.bits.writable, at) == 1 => written,
                        1 if bit(rule.bits.write_1_to_clear, at) == 1 => 0,
                        0 if bit(rule.bits.clear_only, at) == 1 => 0,
                        _ => held,
                    };
                    prop_assert_eq!(bit(state.value, at), after, "bit {}", at);
                }
                if rule.has_state() {
                    prop_assert!(rule.can_hold(initial, state));
                }
            }
        }

        /// What no write leads to is not restored.
        #[test]
        fn what_cannot_be_written_cannot_be_held(rule in rule(), initial in bits(), value in bits()) {
            let held = rule.can_hold(initial, State { value, written: true });
            let fixed = !rule.bits.changeable();
            if (value ^ initial) & fixed != 0 || !rule.has_state() {
                prop_assert!(!held);
            }
            let unwritten = State { value: !initial, written: false };
            prop_assert!(!rule.can_hold(initial, unwritten));
        }
    }
}
