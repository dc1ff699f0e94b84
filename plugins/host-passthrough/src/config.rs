//! The MSRs as a profile lists them. A key without effect is refused.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Deserializer, de};
use wasmsr_sdk::{Bits64, Error, ListedAccess, MsrRange, Setup};

use crate::entry::{From, OnWrite, Rules, When};

/// Most MSRs that may have their own value. Each takes at most 80 bytes of saved
/// state, which may have 64 KiB.
const MOST_OWNED: u64 = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    msrs: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `range`")]
struct Listed {
    range: MsrRange,
    #[serde(default)]
    access: ListedAccess,
    #[serde(default = "current")]
    from: From,
    #[serde(default)]
    when: When,
    mask: Option<Bits64>,
    write: Option<OnWrite>,
}

/// The entries of a configuration, lowest MSR first.
pub(crate) fn read(setup: &Setup) -> Result<Vec<Rules>, Error> {
    let config: Config = setup.config()?;
    if config.msrs.is_empty() {
        return Err(Error::in_config("msrs", "it lists no MSR; list one, or remove the plugin"));
    }
    let mut placed = Vec::new();
    for (place, listed) in config.msrs.iter().enumerate() {
        placed.push((place, listed.rules(place)?));
    }
    let owned: u64 = placed.iter().map(|(_, rules)| rules.owned()).sum();
    if owned > MOST_OWNED {
        return Err(Error::in_config(
            "msrs",
            format_args!(
                "{owned} MSRs would be copied or kept, but at most {MOST_OWNED} can be; list \
                 fewer with `when = \"boot\"` or `write = \"keep\"`"
            ),
        ));
    }
    placed.sort_by_key(|(_, rules)| rules.range);
    for ((a, low), (b, high)) in placed.iter().zip(placed.iter().skip(1)) {
        if low.range.contains(high.range.first) {
            let (earlier, later) = (a.min(b), a.max(b));
            return Err(Error::in_config(
                format_args!("msrs[{later}].range"),
                format_args!(
                    "{} is also in `msrs[{earlier}]`; list each MSR once",
                    high.range.first
                ),
            ));
        }
    }
    Ok(placed.into_iter().map(|(_, rules)| rules).collect())
}

impl Listed {
    fn rules(&self, place: usize) -> Result<Rules, Error> {
        let refuse = |key, problem: &str| {
            Err(Error::in_config(format_args!("msrs[{place}].{key}"), problem))
        };
        let on_write = match self.access {
            ListedAccess::W | ListedAccess::None => {
                return refuse(
                    "access",
                    "reads do not exit, so guests see no value of the host; use \"r\" or \"rw\"",
                );
            }
            ListedAccess::R if self.write.is_some() => {
                return refuse("write", "writes do not exit, so KVM takes them; remove it");
            }
            ListedAccess::R => None,
            ListedAccess::Rw => Some(self.write.unwrap_or_default()),
        };
        let mask = self.mask.map_or(u64::MAX, |mask| mask.0);
        if mask == 0 {
            return refuse("mask", "0 shows no bit of the host's value; set those that may show");
        }
        let Listed { range, from, when, .. } = *self;
        Ok(Rules { range, from, when, mask, on_write })
    }
}

fn current() -> From {
    From::Current
}

impl<'de> Deserialize<'de> for From {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Cpu)
    }
}

/// Reads the word `current` or a number.
struct Cpu;

impl de::Visitor<'_> for Cpu {
    type Value = From;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"current\" or the number of a CPU of the host")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<From, E> {
        match text {
            "current" => Ok(From::Current),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<From, E> {
        let cpu = u32::try_from(number).map(From::Cpu);
        cpu.map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<From, E> {
        let cpu = u32::try_from(number).map(From::Cpu);
        cpu.map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

#[cfg(test)]
mod tests;
