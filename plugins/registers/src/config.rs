//! The registers as a profile lists them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Error, MsrIndex, Setup};

use crate::bank::{Bank, Registers};
use crate::entry::{Entry, Scope};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    registers: Vec<Entry>,
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
    let entries = &config.registers;
    if entries.len() > MOST_ENTRIES {
        let problem = format!(
            "{} entries, at most {MOST_ENTRIES}; give MSRs in a row one entry with `values`",
            entries.len()
        );
        return Err(Error::in_config("registers", problem));
    }
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
    if mistakes.0.is_empty() {
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

/// What is wrong, each with its key.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, place: usize, entry: &Entry, key: &str, problem: &str) {
        let name = entry.name.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
        self.0.push(format!("config key `registers[{place}].{key}`: {name}{problem}"));
    }

    fn none(self) -> Result<(), Error> {
        let Some(shown) = self.0.get(..self.0.len().min(MOST_SHOWN)).filter(|s| !s.is_empty())
        else {
            return Ok(());
        };
        let more = match self.0.len() - shown.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Err(Error::new(format_args!("{}{more}", shown.join("; "))))
    }
}
