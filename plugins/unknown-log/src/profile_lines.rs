//! Lessons as lines for a profile: what this guest needs without learning.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use wasmsr_msrs::{Shipped, shipped, shipped_for};
use wasmsr_sdk::{MsrIndex, MsrRange};

use crate::lessons::{Lesson, Lessons};
use crate::rules::{Read, Rule, Rules, Write};

/// The lines, TOML, that replace the plugin's entry in the profile.
pub(crate) fn profile_lines(rules: &Rules, lessons: &Lessons) -> String {
    write(rules, lessons, &needs(lessons))
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

/// Most bytes of the report before its last lines: the host takes 64 KiB.
const ROOM: usize = 60 << 10;

/// Most rules of the profile that the report repeats.
const MOST_REPEATED: usize = 64;

/// The report as it grows, in pieces that are whole or left out.
#[derive(Default)]
struct Page {
    text: String,
    left_out: u64,
}

impl Page {
    fn add(&mut self, piece: &str) {
        match self.text.len() + piece.len() > ROOM {
            true => self.left_out += 1,
            false => self.text.push_str(piece),
        }
    }
}

fn write(rules: &Rules, lessons: &Lessons, needs: &[Need]) -> String {
    let mut page = Page::default();
    let nothing = needs.is_empty() && rules.len() == 0;
    page.add(match nothing {
        true => "# unknown-log: this guest asked for nothing that KVM does not answer\n",
        false => {
            "# unknown-log: these lines replace this plugin's entry in the profile; they give\n\
             # this guest the same answers. Check each of them first.\n"
        }
    });
    for plugin in shipped() {
        if let Some(proposal) = proposal(plugin, lessons) {
            page.add(&proposal);
        }
    }
    for need in needs {
        if let Remedy::Ignore { read, write } = need.remedy {
            let read = if read { "read = \"ignore\"\n" } else { "" };
            let write = if write { "write = \"ignore\"\n" } else { "" };
            let range = need.msrs;
            page.add(&format!("\n# {need}\n[[msr.override]]\nrange = \"{range}\"\n{read}{write}"));
        }
    }
    let stored = || needs.iter().filter(|need| need.remedy == Remedy::Store);
    if stored().next().is_some() || rules.len() > 0 {
        page.add("\n[[plugin]]\npath = \"unknown_log.wasm\"   # its path\nconfig.rules = [\n");
        if rules.len() > MOST_REPEATED {
            page.add(&format!("    # here the {} rules that are in the profile\n", rules.len()));
        } else {
            for rule in rules.iter() {
                page.add(&format!("    {rule},\n"));
            }
        }
        for need in stored() {
            page.add(&format!("    # {need}\n    {},\n", storing(need.msrs)));
        }
        page.text.push_str("]\n");
    }
    let incomplete = [
        (lessons.beyond(), "access", "es", "to remember", " to further MSRs"),
        (lessons.dropped(), "value", "s", "to store", " that were written"),
        (page.left_out, "entr", "ies", "here for", ""),
    ];
    for (number, what, plural, room, which) in incomplete {
        if number > 0 {
            let what = if what == "entr" && number == 1 { "entry" } else { what };
            let what = count(number, what, plural);
            page.text
                .push_str(&format!("\n# Incomplete: there was no room {room} {what}{which}.\n"));
        }
    }
    page.text.push_str("# unknown-log: end");
    page.text
}

/// Most MSRs that a proposal names.
const MOST_NAMED: usize = 4;

/// A plugin that knows MSRs which the guest asked for, as a comment: its answers differ
/// from those that the guest has just had.
fn proposal(plugin: &Shipped, lessons: &Lessons) -> Option<String> {
    let first_choice = |msr: MsrIndex| shipped_for(msr.0).next() == Some(plugin);
    let known = || lessons.iter().map(|(msr, _)| msr).filter(|&msr| first_choice(msr));
    let named: Vec<String> = known().take(MOST_NAMED).map(|m| m.described().to_string()).collect();
    if named.is_empty() {
        return None;
    }
    let Shipped { name, file, does, lines, .. } = plugin;
    let more = match known().count() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut text = format!(
        "\n# Better than the lines below for {}{more}: {name}, which {does}.\n\
         # Its entry, to be completed as its README says:\n#     path = \"{file}\"\n",
        named.join(", ")
    );
    for line in *lines {
        let each = line.contains("{msr}");
        for msr in known().take(if each { MOST_NAMED } else { 1 }) {
            let line = line.replace("{msr}", &msr.to_string());
            text.push_str(&format!("#     {}{line}\n", if each { "    " } else { "" }));
        }
    }
    Some(text)
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
        match (first == last, first.name()) {
            (true, _) => write!(f, "{}", first.described())?,
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
