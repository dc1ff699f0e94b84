//! Lessons as lines for a profile: what this guest needs without learning.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use wasmsr_sdk::{MsrIndex, MsrRange};

use crate::lessons::{Lesson, Lessons};
use crate::names::{Named, name};
use crate::rules::{Read, Rule, Rules, Write};

/// The lines, TOML, that replace the plugin's entry in the profile.
pub(crate) fn profile_lines(rules: &Rules, lessons: &Lessons) -> String {
    let needs = needs(lessons);
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = write(&mut out, rules, lessons, &needs);
    out
}

/// The smallest sufficient answer for some neighbouring MSRs.
struct Need {
    msrs: MsrRange,
    remedy: Remedy,
    lesson: Lesson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// The profile's policy: reads are 0, writes are dropped, in the directions
    /// that were used.
    Ignore { read: bool, write: bool },
    /// A rule of this plugin.
    Store,
}

fn needs(lessons: &Lessons) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for (msr, lesson) in lessons.iter() {
        let remedy = match lesson.read_back {
            true => Remedy::Store,
            false => Remedy::Ignore { read: lesson.reads > 0, write: lesson.writes > 0 },
        };
        match needs.last_mut() {
            Some(last)
                if last.remedy == remedy && last.msrs.last.0.checked_add(1) == Some(msr.0) =>
            {
                last.msrs.last = msr;
                last.lesson.reads = last.lesson.reads.saturating_add(lesson.reads);
                last.lesson.writes = last.lesson.writes.saturating_add(lesson.writes);
                last.lesson.known |= lesson.known;
            }
            _ => needs.push(Need { msrs: MsrRange { first: msr, last: msr }, remedy, lesson }),
        }
    }
    needs
}

fn write(out: &mut String, rules: &Rules, lessons: &Lessons, needs: &[Need]) -> fmt::Result {
    let stored: Vec<&Need> = needs.iter().filter(|need| need.remedy == Remedy::Store).collect();
    let nothing = needs.is_empty() && rules.0.is_empty();
    out.write_str(match nothing {
        true => "# unknown-log: this guest asked for nothing that KVM does not answer\n",
        false => {
            "# unknown-log: these lines replace this plugin's entry in the profile; they give\n\
             # this guest the same answers. Check each of them first.\n"
        }
    })?;
    for need in needs {
        if let Remedy::Ignore { read, write } = need.remedy {
            writeln!(out, "\n# {need}\n[[msr.override]]\nrange = \"{}\"", need.msrs)?;
            if read {
                writeln!(out, "read = \"ignore\"")?;
            }
            if write {
                writeln!(out, "write = \"ignore\"")?;
            }
        }
    }
    if !(stored.is_empty() && rules.0.is_empty()) {
        out.write_str(
            "\n[[plugin]]\npath = \"unknown_log.wasm\"   # its path\nconfig.rules = [\n",
        )?;
        for rule in &rules.0 {
            writeln!(out, "    {rule},")?;
        }
        for need in stored {
            writeln!(out, "    # {need}\n    {},", storing(need.msrs))?;
        }
        out.write_str("]\n")?;
    }
    if lessons.beyond() > 0 {
        let accesses = count(lessons.beyond(), "access", "es");
        writeln!(out, "\n# Incomplete: there was no room to remember {accesses} to further MSRs.")?;
    }
    if lessons.dropped() > 0 {
        let values = count(lessons.dropped(), "value", "s");
        writeln!(out, "\n# Incomplete: there was no room to store {values} that were written.")?;
    }
    out.write_str("# unknown-log: end")
}

/// The rule with which MSRs keep the written value.
fn storing(range: MsrRange) -> Rule {
    Rule {
        range,
        reason: None,
        read: Some(Read::Stored),
        write: Some(Write::Store),
        value: None,
        shared: false,
    }
}

/// Why the lines are needed.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MsrRange { first, last } = self.msrs;
        match (first == last, name(first)) {
            (true, _) => write!(f, "{}", Named(first))?,
            (false, Some(name)) => write!(f, "{}, from {name} on", self.msrs)?,
            (false, None) => write!(f, "{}", self.msrs)?,
        }
        let Lesson { reads, writes, known, .. } = self.lesson;
        let mut separator = ": ";
        if reads > 0 {
            write!(f, "{separator}{}", count(reads.into(), "read", "s"))?;
            separator = ", ";
        }
        if writes > 0 {
            write!(f, "{separator}{}", count(writes.into(), "write", "s"))?;
            f.write_str(&values(first, last, self.lesson))?;
        }
        match known {
            true => f.write_str("; KVM knows it and refuses"),
            false => Ok(()),
        }
    }
}

/// The values written to a single MSR.
fn values(first: MsrIndex, last: MsrIndex, lesson: Lesson) -> String {
    match (first == last, lesson.writes) {
        (false, _) => String::new(),
        (true, 1) => format!(" of {:#x}", lesson.first),
        (true, _) => format!(", first {:#x}, last {:#x}", lesson.first, lesson.last),
    }
}

fn count(number: u64, what: &str, plural: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { plural })
}
