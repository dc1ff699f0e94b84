//! Texts for people: log lines while the guest runs, a table after it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use wasmsr_sdk::{Access, MsrIndex, log};

use crate::{Guarded, SamplingGuard};

/// Logs a write that passes.
pub(crate) fn tell(access: Access, value: u64, of: &Guarded) {
    let (msr, vcpu, counts) = (Named(access.index, of), access.vcpu, Counts(of));
    // The newest is this write.
    match of.guard.values().nth(1) {
        Some(_) => {
            let values = Values(of, 1);
            log::info!("{msr}: {vcpu} writes {value:#x}; {counts}; before it {values}");
        }
        None => log::info!("{msr}: {vcpu} writes {value:#x}; {counts}"),
    }
}

/// Logs a write beyond the limit.
pub(crate) fn warn(access: Access, value: u64, of: &Guarded) {
    let (msr, vcpu, counts) = (Named(access.index, of), access.vcpu, Counts(of));
    let limit = of.guard.limit();
    let most = limit.writes.unwrap_or_default();
    let window = match limit.in_window {
        true => format!(" in {} s", limit.window_s),
        false => String::new(),
    };
    log::warn!(
        "{msr}: {vcpu} writes {value:#x}: fault, fault-after = {most}{window} is used up; {counts}"
    );
}

/// All writes, one line for each MSR.
pub(crate) fn table(plugin: &SamplingGuard) -> String {
    let written = plugin.guarded.iter().filter(|(_, of)| of.guard.writes() > 0);
    let rows: Vec<[String; 5]> = written.map(|(&msr, of)| row(msr, of)).collect();
    if rows.is_empty() {
        return format!("none of {} guarded MSRs was written", plugin.guarded.len());
    }
    let head = ["MSR", "writes", "faults", "at most", "values, newest first"].map(String::from);
    let rows: Vec<&[String; 5]> = core::iter::once(&head).chain(&rows).collect();
    let width = |column: fn(&[String; 5]) -> &String| {
        rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0)
    };
    let msr = width(|[msr, ..]| msr);
    let writes = width(|[_, writes, ..]| writes);
    let faults = width(|[_, _, faults, ..]| faults);
    let fastest = width(|[_, _, _, fastest, _]| fastest);
    let lines = rows.into_iter().map(|[a, b, c, d, values]| {
        format!("{a:msr$}  {b:>writes$}  {c:>faults$}  {d:>fastest$}  {values}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(msr: MsrIndex, of: &Guarded) -> [String; 5] {
    [
        Named(msr, of).to_string(),
        of.guard.writes().to_string(),
        of.guard.faults().to_string(),
        format!("{} in {} s", of.guard.fastest(), of.guard.limit().window_s),
        Values(of, 0).to_string(),
    ]
}

/// `0x48 (IA32_SPEC_CTRL)`
struct Named<'a>(MsrIndex, &'a Guarded);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1.name {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => self.0.fmt(f),
        }
    }
}

/// `3 writes, at most 2 in 1 s`
struct Counts<'a>(&'a Guarded);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = &self.0.guard;
        let plural = if guard.writes() == 1 { "" } else { "s" };
        write!(f, "{} write{plural}", guard.writes())?;
        if guard.faults() > 0 {
            write!(f, ", {} of them faulted", guard.faults())?;
        }
        write!(f, ", at most {} in {} s", guard.fastest(), guard.limit().window_s)
    }
}

/// The latest values except the given number of newest ones, newest first.
struct Values<'a>(&'a Guarded, usize);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, value) in self.0.guard.values().skip(self.1).enumerate() {
            write!(f, "{}{value:#x}", if place == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}
