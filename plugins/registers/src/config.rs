//! The registers as a profile lists them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{self, SeqAccess};
use serde::{Deserialize, Deserializer};
use wasmsr_sdk::{Error, MsrIndex, Setup};

use crate::bank::{Bank, Registers};
use crate::entry::{Entry, Scope};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    registers: Entries,
}

/// No more than [`MOST_ENTRIES`]: others are never built.
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < MOST_ENTRIES {
                    let Some(entry) = list.next_element()? else { return Ok(Entries(entries)) };
                    entries.push(entry);
                }
                match list.next_element::<de::IgnoredAny>()? {
                    None => Ok(Entries(entries)),
                    Some(_) => Err(de::Error::custom(format_args!(
                        "more than {MOST_ENTRIES} entries; give MSRs in a row one entry with \
                         `values`, or load the plugin twice, each with a `name` and a part of them"
                    ))),
                }
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// Entries, as many as the fuel of `init` and the default memory are enough for.
const MOST_ENTRIES: usize = 512;

/// Registers with a value of their own: the saved state fits into 64 KiB.
const MOST_LIVE: u64 = 1024;

/// Mistakes that one error shows.
const MOST_SHOWN: usize = 8;

/// The registers of a configuration that are in the scope of this instance.
pub(crate) fn read(setup: &Setup) -> Result<Bank, Error> {
    let config: Config = setup.config()?;
    let entries = &config.registers.0;
    let mut mistakes = Mistakes::default();
    let mut read: Vec<(Scope, Registers)> = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        match entry.registers() {
            Ok(registers) => read.push((entry.scope, registers)),
            Err(problems) => {
                problems.iter().for_each(|(key, problem)| mistakes.add(place, entry, key, problem));
            }
        }
    }
    let live: u64 = read.iter().map(|(_, registers)| registers.live()).sum();
    if live > MOST_LIVE {
        let problem = format!(
            "{live} registers that guests can change or that show bits of others, at most \
             {MOST_LIVE}; the rest may have `write = \"fault\"` or \"ignore\""
        );
        return Err(Error::in_config("registers", problem));
    }
    if mistakes.shown.is_empty() {
        check_together(entries, &read, &mut mistakes);
    }
    mistakes.none()?;
    let scope = if setup.vcpu().is_some() { Scope::Vcpu } else { Scope::Vm };
    let mut bank = Bank::default();
    read.into_iter()
        .filter(|(own, _)| *own == scope)
        .for_each(|(_, registers)| bank.add(registers));
    bank.sort();
    Ok(bank)
}

/// No MSR is in two entries, and each register that shows bits of another one has that
/// one beside it.
fn check_together(entries: &[Entry], read: &[(Scope, Registers)], mistakes: &mut Mistakes) {
    // In order, to be searched.
    let mut rows: Vec<(u32, u32, usize)> = Vec::new();
    for (number, (_, registers)) in read.iter().enumerate() {
        rows.extend(registers.ranges().map(|(first, last, _)| (first, last, number)));
    }
    rows.sort_unstable();
    for ((_, last, earlier), (first, _, later)) in rows.iter().zip(rows.iter().skip(1)) {
        if first <= last {
            let (place, other) = (earlier.max(later), earlier.min(later));
            let problem = format!("{} is in `registers[{other}]` too", MsrIndex(*first));
            entries.get(*place).inspect(|entry| mistakes.add(*place, entry, "range", &problem));
        }
    }
    let find = |msr: u32| {
        let after = rows.partition_point(|(first, ..)| *first <= msr);
        let (.., last, number) = rows.get(after.checked_sub(1)?)?;
        read.get(*number).filter(|_| msr <= *last)
    };
    check_values(entries, read, mistakes);
    for (place, (entry, (scope, _))) in entries.iter().zip(read).enumerate() {
        let Some(source) = entry.from else { continue };
        // Without a stride all registers have one source.
        let last = if source.stride == 0 { 0 } else { entry.last_place() };
        let problem = (0..=last).find_map(|number| {
            let msr = u64::from(source.msr.0) + u64::from(number) * u64::from(source.stride);
            let Ok(msr) = u32::try_from(msr) else {
                return Some("the last source is beyond 0xffffffff".into());
            };
            match find(msr) {
                None => Some(format!("{} is in no entry", MsrIndex(msr))),
                Some((other, _)) if other != scope => {
                    Some(format!("{} has another `scope`, so it is out of reach", MsrIndex(msr)))
                }
                Some((_, other)) if other.from.is_some() => {
                    Some(format!("{} itself shows bits of another one; name that", MsrIndex(msr)))
                }
                Some(_) => None,
            }
        });
        if let Some(problem) = problem {
            mistakes.add(place, entry, "from", &problem);
        }
    }
}

/// A value that no read, lock or rule of a bit looks at.
fn check_values(entries: &[Entry], read: &[(Scope, Registers)], mistakes: &mut Mistakes) {
    let mut sources: Vec<u32> = Vec::new();
    for entry in entries {
        let Some(source) = entry.from else { continue };
        let last = if source.stride == 0 { 0 } else { entry.last_place() };
        sources.extend(
            (0..=last)
                .map(|place| source.msr.0.saturating_add(place.saturating_mul(source.stride))),
        );
    }
    sources.sort_unstable();
    for (place, (entry, (_, registers))) in entries.iter().zip(read).enumerate() {
        let Some((key, why)) = entry.unread_value() else { continue };
        let is_source = registers.ranges().any(|(first, last, _)| {
            let after = sources.partition_point(|source| *source < first);
            sources.get(after).is_some_and(|source| *source <= last)
        });
        if !is_source {
            mistakes.add(place, entry, key, why);
        }
    }
}

/// What is wrong, each with its key; of many, the first ones.
#[derive(Default)]
struct Mistakes {
    shown: Vec<String>,
    more: usize,
}

impl Mistakes {
    fn add(&mut self, place: usize, entry: &Entry, key: &str, problem: &str) {
        let name = entry.name.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
        if self.shown.len() == MOST_SHOWN {
            self.more += 1;
            return;
        }
        self.shown.push(format!("config key `registers[{place}].{key}`: {name}{problem}"));
    }

    fn none(self) -> Result<(), Error> {
        let more = match self.more {
            _ if self.shown.is_empty() => return Ok(()),
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Err(Error::new(format_args!("{}{more}", self.shown.join("; "))))
    }
}
