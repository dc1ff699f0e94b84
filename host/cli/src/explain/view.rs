//! Explanations for people.

use super::page::{Explained, From, Page};

pub(super) fn for_people(page: &Page) -> String {
    let mut text = String::new();
    for (number, explained) in page.msrs.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        text += &block(explained, page);
    }
    if page.left_out > 0 {
        text += &format!("\n{} accesses to further MSRs are left out\n", page.left_out);
    }
    if let Some(most) = page.read_up_to {
        let most = most >> 20;
        text += &format!(
            "\nthe log is larger than {most} MiB, and the rest of it was not read; give the part \
             in question, such as `grep -i msr LOG | wasmsr explain`\n"
        );
    }
    if let Some(lines) = &page.profile_lines {
        if !page.msrs.is_empty() {
            text += "\nLines for a profile; check each of them first:\n\n";
        }
        text += lines;
    }
    text
}

/// A head, and a line for each thing that is known.
fn block(explained: &Explained, page: &Page) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let mut line = |what, said: Option<String>| lines.extend(said.map(|said| (what, said)));
    line("line", explained.meaning.map(str::to_owned));
    line("also", (!explained.aliases.is_empty()).then(|| explained.aliases.join(", ")));
    line("for", explained.wanted.map(str::to_owned));
    line("KVM", Some(kvm(explained, page)));
    line("host", explained.host.map(|host| format!("KVM_GET_MSRS and KVM_SET_MSRS: {host}")));
    line("note", explained.note.map(str::to_owned));
    line("reserved", explained.reserved.as_ref().map(|bits| format!("bits {bits}")));
    line("reads", explained.profile.as_ref().map(|answers| answers.reads.for_people()));
    line("writes", explained.profile.as_ref().map(|answers| answers.writes.for_people()));
    line("source", explained.source.map(str::to_owned));
    for plugin in &explained.plugins {
        line("plugin", Some(format!("{} {}", plugin.name, plugin.does)));
        if page.from == From::Arguments {
            plugin.lines.lines().for_each(|entry| line("", Some(format!("    {entry}"))));
        }
    }
    let lines = lines.iter().map(|(what, said)| format!("  {what:<9} {said}\n"));
    head(explained) + &lines.collect::<String>()
}

/// Index and name, and what the row says in a word each.
fn head(explained: &Explained) -> String {
    let mut text = explained.msr.clone();
    match explained.name {
        Some(name) => text += &format!(" ({name})"),
        None => text += ": not in the table of MSRs",
    }
    let mut facts: Vec<String> = Vec::new();
    facts.extend(explained.vendor.clone());
    facts.extend(explained.access.clone());
    facts.extend(explained.scope.as_ref().map(|scope| format!("one per {scope}")));
    if !facts.is_empty() {
        text += &format!(": {}", facts.join(", "));
    }
    let counts = [(explained.reads, "read"), (explained.writes, "write")];
    let counts = counts.into_iter().filter(|(number, _)| *number > 0);
    let counts = counts.map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }));
    let counts = counts.collect::<Vec<_>>().join(", ");
    if !counts.is_empty() {
        text += &format!("; {counts}");
    }
    if let Some(value) = &explained.last_written {
        text += &format!(", last of {value}");
    }
    text.push('\n');
    text
}

/// Whether KVM emulates it, by the table and by this host.
fn kvm(explained: &Explained, page: &Page) -> String {
    let by_table = match explained.kvm.as_deref() {
        None => "the table does not say",
        Some("yes") => "emulates it",
        Some("no") => "does not know it",
        Some(other) => &format!("emulates it: {other}"),
    };
    let by_host = match (explained.kvm_lists, &page.no_kvm) {
        (Some(true), _) => "this host's KVM lists it".to_owned(),
        (Some(false), _) => "this host's KVM does not list it".to_owned(),
        (None, Some(why)) => format!("this host's KVM was not asked ({why})"),
        (None, None) => String::new(),
    };
    format!("{by_table}; {by_host}")
}
