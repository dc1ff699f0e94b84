//! Changes of CPUID as `[[cpuid]]` tables of a profile.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use wasmsr_interface::RegisterChange;

/// The changes of EAX, EBX, ECX and EDX, by leaf and subleaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes(pub(super) BTreeMap<(u32, u32), [RegisterChange; 4]>);

/// The names of the registers, in the order of the changes.
pub(super) const REGISTERS: [&str; 4] = ["eax", "ebx", "ecx", "edx"];

impl Changes {
    /// Adds a change that comes after those which are there.
    pub(super) fn then(&mut self, leaf: u32, subleaf: u32, register: usize, later: RegisterChange) {
        let registers = self.0.entry((leaf, subleaf)).or_default();
        if let Some(change) = registers.get_mut(register) {
            *change = RegisterChange {
                set: change.set & !later.clear | later.set,
                clear: change.clear & !later.set | later.clear,
            };
        }
    }

    /// The tables; none of a leaf that is not changed.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        for ((leaf, subleaf), registers) in &self.0 {
            if registers.iter().all(|register| register.bits() == 0) {
                continue;
            }
            // A `String` takes whatever is written to it.
            let _ = write!(text, "[[cpuid]]\nleaf = {leaf:#x}\nsubleaf = {subleaf:#x}\n");
            for (register, name) in registers.iter().zip(REGISTERS) {
                let RegisterChange { set, clear } = *register;
                let _ = match (set, clear, set | clear) {
                    (_, _, 0) => Ok(()),
                    (_, _, u32::MAX) => writeln!(text, "{name} = {set:#010x}"),
                    (_, 0, _) => writeln!(text, "{name} = {{ set = {set:#010x} }}"),
                    (0, _, _) => writeln!(text, "{name} = {{ clear = {clear:#010x} }}"),
                    _ => writeln!(text, "{name} = {{ set = {set:#010x}, clear = {clear:#010x} }}"),
                };
            }
            text.push('\n');
        }
        text
    }
}

/// Bits of one register of a leaf, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) leaf: u32,
    pub(super) subleaf: u32,
    pub(super) register: usize,
    pub(super) bits: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let register = REGISTERS.get(self.register).copied().unwrap_or_default();
        write!(f, "{:#x}.{:#x} {register} {:#010x}", self.leaf, self.subleaf, self.bits)
    }
}

/// At most 24 things in one line, and how many more there are.
pub(super) fn listed(things: impl IntoIterator<Item = impl fmt::Display>) -> String {
    const MOST: usize = 24;
    let things: Vec<_> = things.into_iter().collect();
    let shown: Vec<String> = things.iter().take(MOST).map(ToString::to_string).collect();
    match things.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}
