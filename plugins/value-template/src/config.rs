//! The template as a profile lists it. An entry that contradicts itself, or
//! has a key without effect, is refused.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Bits64, Error, ListedAccess, MsrRange, Setup};

use crate::rule::{Overlay, Read, Rule, Write};
use crate::template::Template;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    msrs: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table with `range`")]
struct Entry {
    range: MsrRange,
    #[serde(default)]
    access: ListedAccess,
    value: Option<Bits64>,
    mask: Option<Bits64>,
    apply: Option<Apply>,
    read: Option<OnRead>,
    write: Option<OnWrite>,
    read_only: Option<Bits64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Apply {
    #[default]
    Sticky,
    Initial,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnRead {
    #[default]
    Value,
    Fault,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnWrite {
    #[default]
    Fault,
    Ignore,
    Kernel,
}

/// The template of a configuration.
pub(crate) fn read(setup: &Setup) -> Result<Template, Error> {
    let config: Config = setup.config()?;
    if config.msrs.is_empty() {
        return Err(Error::in_config("msrs", "it lists no MSR; list one, or remove the plugin"));
    }
    let mut rules = Vec::new();
    for (place, entry) in config.msrs.iter().enumerate() {
        let rule = entry.rule().map_err(|Refusal(key, problem)| {
            Error::in_config(format_args!("msrs[{place}].{key}"), problem)
        })?;
        rules.push(rule);
    }
    Template::new(rules).map_err(|twice| {
        Error::in_config(
            format_args!("msrs[{}].range", twice.later),
            format_args!("{} is also in `msrs[{}]`; list each MSR once", twice.msr, twice.earlier),
        )
    })
}

/// A key of an entry, and what is wrong with it.
struct Refusal(&'static str, String);

fn refuse<T>(key: &'static str, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(key, problem.into()))
}

impl Entry {
    fn rule(&self) -> Result<Rule, Refusal> {
        let overlay = self.overlay()?;
        if self.access == ListedAccess::None && overlay.is_none() {
            return refuse(
                "access",
                "nothing exits and there is no `value`, so it has no effect; add one",
            );
        }
        let initial = overlay.filter(|_| self.apply == Some(Apply::Initial));
        let sticky = overlay.filter(|_| initial.is_none());
        let read = self.read(sticky, initial)?;
        let write = self.write(sticky)?;
        Ok(Rule { range: self.range, initial, read, write })
    }

    fn overlay(&self) -> Result<Option<Overlay>, Refusal> {
        let Some(Bits64(value)) = self.value else {
            return match (self.mask, self.apply) {
                (Some(_), _) => refuse("mask", "there is no `value` to take bits from; add it"),
                (None, Some(_)) => refuse("apply", "there is no `value` to apply; add it"),
                (None, None) => Ok(None),
            };
        };
        let mask = self.mask.map_or(u64::MAX, |mask| mask.0);
        if mask == 0 {
            return refuse("mask", "0 selects no bit of `value`; set the bits to select");
        }
        match value & !mask {
            0 => Ok(Some(Overlay { value, mask })),
            lost => refuse("value", format!("its bits {lost:#x} are outside `mask` {mask:#x}")),
        }
    }

    fn read(&self, sticky: Option<Overlay>, initial: Option<Overlay>) -> Result<Read, Refusal> {
        match (self.access.reads_exit(), self.read, sticky) {
            (false, _, Some(_)) => refuse(
                "access",
                "reads do not exit, so no sticky value can show; let them, or say \
                 `apply = \"initial\"`",
            ),
            (false, Some(_), None) => {
                refuse("read", "reads do not exit, so KVM answers them; remove it")
            }
            (false, None, None) => Ok(Read::Kernel),
            (true, Some(OnRead::Fault), Some(_)) => refuse(
                "read",
                "\"fault\" never shows the sticky value; remove one, or say `apply = \"initial\"`",
            ),
            (true, Some(OnRead::Fault), None) => Ok(Read::Fault),
            (true, _, Some(overlay)) => Ok(Read::Sticky(overlay)),
            (true, _, None) => refuse(
                "access",
                match initial {
                    Some(_) => {
                        "reads of an initial value are KVM's; say \"none\", or \"w\" for \
                                rules about writes"
                    }
                    None => {
                        "there is no `value` to answer reads with; add it, say \"w\" to leave \
                             them to KVM, or `read = \"fault\"`"
                    }
                },
            ),
        }
    }

    fn write(&self, sticky: Option<Overlay>) -> Result<Write, Refusal> {
        if !self.access.writes_exit() && self.write.is_some() {
            return refuse("write", "writes do not exit, so KVM takes them; remove it");
        }
        let write = self.write.unwrap_or_default();
        if self.read_only.is_some() && (!self.access.writes_exit() || write != OnWrite::Kernel) {
            return refuse("read-only", "no bit can be written anyway; say `write = \"kernel\"`");
        }
        match write {
            _ if !self.access.writes_exit() => Ok(Write::Kernel),
            OnWrite::Fault => Ok(Write::Fault),
            OnWrite::Ignore => Ok(Write::Ignore),
            OnWrite::Kernel => self.forward(sticky),
        }
    }

    fn forward(&self, sticky: Option<Overlay>) -> Result<Write, Refusal> {
        let read_only = self.read_only.map_or(0, |bits| bits.0);
        let kept = read_only | sticky.map_or(0, |overlay| overlay.mask);
        match kept {
            0 => refuse(
                "write",
                "without `read-only` bits KVM gets every write unchanged, as if it did not exit; \
                 leave writes to KVM by `access`",
            ),
            u64::MAX => refuse(
                "write",
                "every bit is the template's or read-only; say \"fault\" or \"ignore\"",
            ),
            _ => Ok(Write::Forward { read_only }),
        }
    }
}

#[cfg(test)]
mod tests;
