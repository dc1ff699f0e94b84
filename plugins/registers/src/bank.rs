//! All registers of an instance: which one an MSR is, and what each holds.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Bits64, Error, MsrIndex, Otherwise};

use crate::rule::{Read, Rule, State, WarmReset};

/// Registers with one rule, `stride` apart.
#[derive(Debug, Clone)]
pub(crate) struct Registers {
    first: u32,
    /// The place of the last one; that of the first is 0.
    last_place: u32,
    stride: u32,
    pub(crate) rule: Rule,
    pub(crate) initial: Initial,
    pub(crate) from: Option<From>,
    /// Where their states begin, if they have any.
    states: usize,
}

/// The values after a power-on.
#[derive(Debug, Clone)]
pub(crate) enum Initial {
    Same(u64),
    Each(Vec<u64>),
}

/// Bits that another register's reading gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From {
    pub(crate) msr: u32,
    /// From the source of one register to that of the next.
    pub(crate) stride: u32,
    pub(crate) mask: u64,
    /// To the right; to the left if negative.
    pub(crate) shift: i8,
}

/// Consecutive MSRs of one entry.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: u32,
    last: u32,
    registers: usize,
    /// The place of `first` in its entry.
    place: u32,
}

/// A register's saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    msr: MsrIndex,
    value: Bits64,
    written: bool,
}

/// The registers of an instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bank {
    registers: Vec<Registers>,
    /// Sorted.
    rows: Vec<Row>,
    states: Vec<State>,
}

impl Initial {
    fn of(&self, place: u32) -> u64 {
        match self {
            Initial::Same(value) => *value,
            Initial::Each(values) => usize::try_from(place)
                .ok()
                .and_then(|place| values.get(place))
                .copied()
                .unwrap_or(0),
        }
    }
}

impl From {
    /// The bits that it gives.
    pub(crate) fn window(self) -> u64 {
        self.moved(self.mask)
    }

    fn source(self, place: u32) -> MsrIndex {
        MsrIndex(self.msr.wrapping_add(place.wrapping_mul(self.stride)))
    }

    fn moved(self, value: u64) -> u64 {
        let value = value & self.mask;
        let by = u32::from(self.shift.unsigned_abs());
        let moved = match self.shift < 0 {
            true => value.checked_shl(by),
            false => value.checked_shr(by),
        };
        moved.unwrap_or(0)
    }
}

impl Registers {
    /// Registers from `first` on, `last_place` more than one.
    pub(crate) fn new(
        (first, last_place, stride): (u32, u32, u32),
        rule: Rule,
        initial: Initial,
        from: Option<From>,
    ) -> Self {
        Registers { first, last_place, stride, rule, initial, from, states: 0 }
    }

    fn msr(&self, place: u32) -> MsrIndex {
        MsrIndex(self.first.wrapping_add(place.wrapping_mul(self.stride)))
    }

    /// How many of them guests can change, or show bits of others.
    pub(crate) fn live(&self) -> u64 {
        match self.rule.has_state() || self.from.is_some() {
            true => u64::from(self.last_place) + 1,
            false => 0,
        }
    }

    fn places(&self) -> core::ops::RangeInclusive<u32> {
        0..=self.last_place
    }

    fn state_of(&self, place: u32) -> Option<usize> {
        let place = usize::try_from(place).ok()?;
        self.rule.has_state().then(|| self.states + place)
    }

    /// The MSRs, as ranges in order, each with the place of its first.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let (last_piece, more) = match self.stride {
            1 => (0, self.last_place),
            _ => (self.last_place, 0),
        };
        (0..=last_piece).map(move |place| {
            let MsrIndex(first) = self.msr(place);
            (first, first.wrapping_add(more), place)
        })
    }
}

impl Bank {
    /// Adds registers, whose MSRs no others have.
    pub(crate) fn add(&mut self, mut registers: Registers) {
        registers.states = self.states.len();
        let number = self.registers.len();
        self.rows.extend(registers.ranges().map(|(first, last, place)| Row {
            first,
            last,
            registers: number,
            place,
        }));
        if registers.rule.has_state() {
            let initial = &registers.initial;
            self.states.extend(registers.places().map(|place| State::new(initial.of(place))));
        }
        self.registers.push(registers);
    }

    /// Makes what was added findable.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|row| row.first);
    }

    pub(crate) fn read(&self, msr: MsrIndex) -> Result<u64, Otherwise> {
        let (registers, place) = self.find(msr).ok_or(Otherwise::Pass)?;
        match registers.rule.read {
            Read::Fault => Err(Otherwise::Fault),
            Read::Fixed(value) => Ok(value),
            Read::Value => {
                let own = self.held(registers, place);
                let Some(from) = registers.from else { return Ok(own) };
                Ok(own & !from.window() | from.moved(self.source(from.source(place))))
            }
        }
    }

    pub(crate) fn write(&mut self, msr: MsrIndex, value: u64) -> Result<(), Otherwise> {
        let (registers, place) = self.find(msr).ok_or(Otherwise::Pass)?;
        let mut state = State::new(registers.initial.of(place));
        match registers.state_of(place) {
            // A register without a state answers by its rule alone.
            None => registers.rule.write(&mut state, value),
            Some(at) => {
                state = self.states.get(at).copied().unwrap_or(state);
                let answer = registers.rule.write(&mut state, value);
                if let Some(held) = self.states.get_mut(at) {
                    *held = state;
                }
                answer
            }
        }
    }

    /// A reset that is not a power-on.
    pub(crate) fn reset(&mut self) {
        for registers in &self.registers {
            if registers.rule.warm_reset == WarmReset::Keep || !registers.rule.has_state() {
                continue;
            }
            for place in registers.places() {
                let at = registers.state_of(place);
                if let Some(state) = at.and_then(|at| self.states.get_mut(at)) {
                    *state = State::new(registers.initial.of(place));
                }
            }
        }
    }

    /// The registers that were written: the others have the configuration's values, also
    /// where that is another one.
    pub(crate) fn keep(&self) -> Vec<Kept> {
        let with_state = self.registers.iter().filter(|registers| registers.rule.has_state());
        let all = with_state.flat_map(|registers| {
            registers.places().filter_map(|place| {
                let State { value, written } = *self.states.get(registers.state_of(place)?)?;
                written.then(|| Kept { msr: registers.msr(place), value: Bits64(value), written })
            })
        });
        all.collect()
    }

    /// Restores a register's saved state.
    ///
    /// # Errors
    /// No register of that number can hold it.
    pub(crate) fn take_over(&mut self, kept: Kept) -> Result<(), Error> {
        let Kept { msr, value, written } = kept;
        let state = State { value: value.0, written };
        let place = self.find(msr).and_then(|(registers, place)| {
            let holds = registers.rule.can_hold(registers.initial.of(place), state);
            registers.state_of(place).filter(|_| holds)
        });
        let held = place.and_then(|at| self.states.get_mut(at)).ok_or_else(|| {
            Error::new(format_args!(
                "register {msr} is no longer configured to hold its value, {value}; leave its \
                 entry as it was"
            ))
        })?;
        *held = state;
        Ok(())
    }

    /// What a register holds, without bits that another one gives.
    fn held(&self, registers: &Registers, place: u32) -> u64 {
        let state = registers.state_of(place).and_then(|at| self.states.get(at));
        state.map_or_else(|| registers.initial.of(place), |state| state.value)
    }

    /// The value of a register of which another one shows bits.
    fn source(&self, msr: MsrIndex) -> u64 {
        self.find(msr).map_or(0, |(registers, place)| match registers.rule.read {
            Read::Fixed(value) => value,
            Read::Value | Read::Fault => self.held(registers, place),
        })
    }

    fn find(&self, msr: MsrIndex) -> Option<(&Registers, u32)> {
        let after = self.rows.partition_point(|row| row.first <= msr.0);
        let row = self.rows.get(after.checked_sub(1)?).filter(|row| msr.0 <= row.last)?;
        Some((self.registers.get(row.registers)?, row.place + (msr.0 - row.first)))
    }
}
