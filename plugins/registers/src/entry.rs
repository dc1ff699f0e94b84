//! One entry of the configuration: as it is written, and what is wrong with it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, de};
use wasmsr_sdk::{Bits64, ListedAccess, MsrIndex, MsrRange};

use crate::bank::{From, Initial, Registers};
use crate::rule::{Bits, Locked, Read, Rule, WarmReset, Write};

/// An entry as it is written. The engine reads `range`, `count`, `stride`, `access` and
/// `scope` too.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Entry {
    range: MsrRange,
    count: Option<u32>,
    stride: Option<u32>,
    #[serde(default)]
    access: ListedAccess,
    #[serde(default)]
    pub(crate) scope: Scope,
    #[serde(default, deserialize_with = "short")]
    pub(crate) name: Option<String>,
    value: Option<Bits64>,
    values: Option<Vec<Bits64>>,
    read: Option<ReadAs>,
    reads_as: Option<Bits64>,
    write: Option<Write>,
    mask: Option<Bits64>,
    write_1_to_clear: Option<Bits64>,
    clear_only: Option<Bits64>,
    ignored: Option<Bits64>,
    reserved: Option<Bits64>,
    only: Option<Vec<Bits64>>,
    lock: Option<u8>,
    locked: Option<Locked>,
    warm_reset: Option<WarmReset>,
    pub(crate) from: Option<Source>,
}

/// Longest name, in characters: memory for all of them is there.
const LONGEST_NAME: usize = 64;

/// A name that is not too long.
fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = String;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            match text.chars().count() {
                0..=LONGEST_NAME => Ok(text.into()),
                count => Err(E::custom(format_args!(
                    "a name of {count} characters; at most {LONGEST_NAME}"
                ))),
            }
        }
    }
    deserializer.deserialize_str(Visitor).map(Some)
}

/// Where the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    #[default]
    Vcpu,
    Vm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadAs {
    Value,
    Fault,
}

/// Another register, of which this one shows bits.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) msr: MsrIndex,
    #[serde(default)]
    pub(crate) stride: u32,
    mask: Option<Bits64>,
    #[serde(default)]
    shift: i8,
}

/// Problems of one entry, each with the key that it is about.
pub(crate) type Problems = Vec<(&'static str, String)>;

/// Longest list of `only`: a write looks through it.
const MOST_VALUES: usize = 16;

impl Entry {
    /// The registers of the entry, or everything that is wrong with it.
    pub(crate) fn registers(&self) -> Result<Registers, Problems> {
        let mut problems = Problems::new();
        let place = self.place(&mut problems);
        let rule = self.rule(&mut problems);
        let initial = self.initial(place.1, &mut problems);
        self.check_directions(&mut problems);
        self.check_state(&rule, &initial, &mut problems);
        match problems.is_empty() {
            true => Ok(Registers::new(place, rule, initial, self.from())),
            false => Err(problems),
        }
    }

    /// How many registers it has, less one.
    pub(crate) fn last_place(&self) -> u32 {
        match self.count {
            Some(count) => count.saturating_sub(1),
            None => self.range.last.0 - self.range.first.0,
        }
    }

    /// The key of the value and why its own reads do not show it, if no rule of a write
    /// looks at it either.
    pub(crate) fn unread_value(&self) -> Option<(&'static str, &'static str)> {
        let key = match (self.value, &self.values) {
            (Some(_), _) => "value",
            (None, Some(_)) => "values",
            (None, None) => return None,
        };
        let why = match (self.access.reads_exit(), self.read, self.reads_as) {
            (false, ..) => "reads do not exit, so nothing shows it",
            (_, Some(ReadAs::Fault), _) => "reads are #GP, so nothing shows it",
            (.., Some(_)) => "`reads-as` is what reads give, so nothing shows it",
            _ => return None,
        };
        let drops_writes = matches!(self.write, Some(Write::Fault | Write::Ignore));
        let writes_look = self.access.writes_exit()
            && !drops_writes
            && (self.lock.is_some() || self.bits(&mut Problems::new()).reserved != 0);
        (!writes_look).then_some((key, why))
    }

    fn place(&self, problems: &mut Problems) -> (u32, u32, u32) {
        // The engine has refused what is not a range.
        let stride = self.stride.unwrap_or(1);
        let end = self.last_place().checked_mul(stride);
        if end.and_then(|end| self.range.first.0.checked_add(end)).is_none() {
            problems.push(("count", "the last of these MSRs is beyond 0xffffffff".into()));
        }
        (self.range.first.0, self.last_place(), stride)
    }

    fn from(&self) -> Option<From> {
        self.from.map(|source| From {
            msr: source.msr.0,
            stride: source.stride,
            mask: source.mask.map_or(u64::MAX, |mask| mask.0),
            shift: source.shift,
        })
    }

    fn initial(&self, last_place: u32, problems: &mut Problems) -> Initial {
        match (&self.values, self.value) {
            (None, value) => Initial::Same(value.unwrap_or_default().0),
            (Some(_), Some(_)) => {
                problems.push(("values", "`value` is there too; keep one of them".into()));
                Initial::Same(0)
            }
            (Some(values), None) => {
                let count = u64::from(last_place) + 1;
                if values.len() as u64 != count {
                    let plural = |number| if number == 1 { "" } else { "s" };
                    let given = values.len() as u64;
                    let (values, registers) = (plural(given), plural(count));
                    let text = format!("{given} value{values} for {count} register{registers}");
                    problems.push(("values", text));
                }
                Initial::Each(values.iter().map(|value| value.0).collect())
            }
        }
    }

    fn rule(&self, problems: &mut Problems) -> Rule {
        let read = match (self.read, self.reads_as) {
            (Some(ReadAs::Fault), Some(_)) => {
                problems.push(("reads-as", "reads are #GP; remove one of the two keys".into()));
                Read::Fault
            }
            (Some(ReadAs::Fault), None) => Read::Fault,
            (_, Some(value)) => Read::Fixed(value.0),
            (_, None) => Read::Value,
        };
        let only: Vec<u64> = self.only.iter().flatten().map(|value| value.0).collect();
        if only.len() > MOST_VALUES {
            problems.push(("only", format!("{} values; at most {MOST_VALUES}", only.len())));
        }
        if self.lock.is_some_and(|bit| bit > 63) {
            problems.push(("lock", "it is not a bit from 0 to 63".into()));
        }
        Rule {
            read,
            write: self.write.unwrap_or_default(),
            bits: self.bits(problems),
            only,
            lock: self.lock.and_then(|bit| 1_u64.checked_shl(bit.into())).unwrap_or(0),
            locked: self.locked.unwrap_or_default(),
            warm_reset: self.warm_reset.unwrap_or_default(),
        }
    }

    /// The masks. The bits that none of them names are those of the first of `mask`,
    /// `ignored` and `reserved` that is not given.
    fn bits(&self, problems: &mut Problems) -> Bits {
        let from = self.from().map_or(0, From::window);
        let mut named = from;
        for (key, mask) in self.masks() {
            let Some(Bits64(mask)) = mask else { continue };
            let both = named & mask;
            if both != 0 {
                let bit = both.trailing_zeros();
                let other = if from & both != 0 { "`from`" } else { "another mask" };
                problems.push((key, format!("bit {bit} is in {other} as well")));
            }
            named |= mask;
        }
        let rest = !named;
        let of = |mask: Option<Bits64>| mask.map_or(0, |mask| mask.0);
        let mut bits = Bits {
            writable: of(self.mask),
            write_1_to_clear: of(self.write_1_to_clear),
            clear_only: of(self.clear_only),
            reserved: of(self.reserved),
        };
        if self.mask.is_none() {
            bits.writable = rest;
        } else if self.ignored.is_some() && self.reserved.is_none() {
            bits.reserved = rest;
        } else if self.ignored.is_some() && rest != 0 {
            let bit = rest.trailing_zeros();
            let text = format!("bit {bit} is in no mask; leave one of the three out for the rest");
            problems.push(("reserved", text));
        }
        bits
    }

    fn masks(&self) -> [(&'static str, Option<Bits64>); 5] {
        [
            ("mask", self.mask),
            ("write-1-to-clear", self.write_1_to_clear),
            ("clear-only", self.clear_only),
            ("ignored", self.ignored),
            ("reserved", self.reserved),
        ]
    }

    /// Keys about a direction that does not exit, or whose answer is fixed.
    fn check_directions(&self, problems: &mut Problems) {
        if self.access == ListedAccess::None {
            problems.push(("access", "nothing exits, so the entry has no effect".into()));
            return;
        }
        let reads = [
            ("read", self.read.is_some()),
            ("reads-as", self.reads_as.is_some()),
            ("from", self.from.is_some()),
        ];
        if !self.access.reads_exit() {
            for (key, _) in reads.iter().filter(|(_, given)| *given) {
                problems.push((*key, "reads do not exit, so it has no effect".into()));
            }
        } else if let (true, true) = (self.read == Some(ReadAs::Fault), self.from.is_some()) {
            problems.push(("from", "reads are #GP, so it has no effect".into()));
        } else if self.reads_as.is_some() && self.from.is_some() {
            problems.push(("from", "`reads-as` is there too; keep one of them".into()));
        }
        let masks = self.masks().map(|(key, mask)| (key, mask.is_some()));
        let others = [
            ("only", self.only.is_some()),
            ("lock", self.lock.is_some()),
            ("warm-reset", self.warm_reset.is_some()),
        ];
        let why = match self.write {
            _ if !self.access.writes_exit() => Some("writes do not exit, so it has no effect"),
            Some(Write::Fault) => Some("every write is #GP, so it has no effect"),
            Some(Write::Ignore) => Some("every write is dropped, so it has no effect"),
            _ => None,
        };
        let Some(why) = why else { return };
        let write = [("write", self.write.is_some() && !self.access.writes_exit())];
        for (key, _) in write.iter().chain(&masks).chain(&others).filter(|(_, given)| *given) {
            problems.push((*key, why.into()));
        }
    }

    /// Locks that cannot lock, values that can never be written.
    fn check_state(&self, rule: &Rule, initial: &Initial, problems: &mut Problems) {
        if self.locked.is_some() && self.lock.is_none() && self.write != Some(Write::Once) {
            problems.push(("locked", "the register has no `lock` and is not written once".into()));
        }
        let set_at_start = match initial {
            Initial::Same(value) => *value,
            Initial::Each(values) => values.iter().fold(0, |all, value| all | value),
        };
        if rule.has_state() && rule.lock & !(rule.bits.writable | set_at_start) != 0 {
            let text = "no write can set this bit, and `value` does not have it";
            problems.push(("lock", text.into()));
        }
        for (place, value) in rule.only.iter().enumerate() {
            if value & rule.bits.clear_only != 0 {
                problems.push(("only", format!("number {place} sets a bit of `clear-only`")));
            }
        }
        if let Some(source) = self.from
            && self.from().is_some_and(|from| from.window() == 0)
        {
            let text = format!("`mask` and `shift` leave no bit of {}", source.msr);
            problems.push(("from", text));
        }
    }
}
