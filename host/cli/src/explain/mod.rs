//! `wasmsr explain`: what MSRs are, who answers them, and the profile lines for those of a
//! log or a recording.

mod answer;
pub(crate) mod log;
pub(crate) mod log_line;
pub(crate) mod proposal;
mod view;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;
use wasmsr_engine::record::{Line, Op};
use wasmsr_interface::{Direction, MsrIndex};
use wasmsr_msrs::{Msr, shipped_for};

use crate::args;
use crate::exit::{Code, Failure};
use crate::loaded::{Loaded, load_options};
use crate::recording::reader::RecordingReader;
use crate::terminal::console::print;
use crate::terminal::plain::pretty_json;
use answer::Answers;
use log::{Accesses, MOST_MSRS, Seen};

/// Prints what is known of the MSRs that are named, or those of a log or a recording.
pub(crate) fn explain(args: &args::Explain) -> Result<Code, Failure> {
    let loaded = match &args.profile {
        None => None,
        Some(path) => {
            let options = load_options(&args.cache);
            Some(Loaded::load(path, &options).map_err(Failure::input)?)
        }
    };
    let (accesses, from) = match &args.recording {
        Some(path) => (of_recording(path)?, From::Recording),
        None if !args.msrs.is_empty() => (named(args)?, From::Arguments),
        None => (of_standard_input()?, From::Log),
    };
    let page = Page::new(&accesses, from, loaded.as_ref());
    let text = match args.json {
        true => pretty_json(&page).map_err(Failure::host)?,
        false => view::for_people(&page),
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

/// Where the MSRs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Arguments,
    Log,
    Recording,
}

/// The MSRs of the arguments, as if each had been seen without an access.
fn named(args: &args::Explain) -> Result<Accesses, Failure> {
    let mut accesses = Accesses::default();
    let count: u64 = args.msrs.iter().map(|range| range.count()).sum();
    if count > MOST_MSRS as u64 {
        let problem = anyhow!("{count} MSRs are more than {MOST_MSRS}; name fewer at once");
        return Err(Failure::input(problem));
    }
    for range in &args.msrs {
        let indices = (range.first().0..=range.last().0).map(MsrIndex);
        accesses.msrs.extend(indices.map(|index| (index, Seen::default())));
    }
    Ok(accesses)
}

fn of_standard_input() -> Result<Accesses, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(Failure::input(anyhow!(
            "nothing to explain: name MSRs, such as `wasmsr explain 0x1ad`, or give a log on \
             standard input, such as `dmesg | wasmsr explain`"
        )));
    }
    let read = Accesses::of_log(input.lock());
    read.map_err(|error| Failure::host(anyhow!("standard input: {error}")))
}

/// The accesses of a recording that no plugin decided.
fn of_recording(path: &Path) -> Result<Accesses, Failure> {
    let mut accesses = Accesses::default();
    for read in RecordingReader::open(path)? {
        if let Line::Access(line) = read?.line
            && line.plugin.is_none()
        {
            let direction = match line.op {
                Op::Read => Direction::Read,
                Op::Write => Direction::Write,
            };
            let value = line.value.filter(|_| direction == Direction::Write).map(|hex| hex.0);
            accesses.add(line.msr, direction, value, None);
        }
    }
    Ok(accesses)
}

/// All that is said, and its JSON.
#[derive(Debug, Serialize)]
struct Page {
    msrs: Vec<Explained>,
    /// Why this host's KVM was not asked; `null` if it was.
    no_kvm: Option<String>,
    /// Lines for a profile, from a log or a recording.
    profile_lines: Option<String>,
    /// Accesses to more MSRs than are told apart.
    left_out: u64,
    #[serde(skip)]
    from: From,
}

/// One MSR.
#[derive(Debug, Serialize)]
struct Explained {
    msr: String,
    index: u32,
    /// `null`, as are the next ones, for an MSR that the table does not have.
    name: Option<&'static str>,
    aliases: &'static [&'static str],
    vendor: Option<String>,
    access: Option<String>,
    reserved: Option<String>,
    scope: Option<String>,
    kvm: Option<String>,
    /// How KVM's door for the host differs from a guest's access.
    host: Option<&'static str>,
    note: Option<&'static str>,
    wanted: Option<&'static str>,
    source: Option<&'static str>,
    /// Whether this host's KVM lists it; `null` if KVM was not asked.
    kvm_lists: Option<bool>,
    /// Who answers reads and writes in the profile.
    profile: Option<Answers>,
    plugins: Vec<Served>,
    reads: u64,
    writes: u64,
    last_written: Option<String>,
    /// What the log's line says of it.
    meaning: Option<&'static str>,
}

/// A shipped plugin that answers it.
#[derive(Debug, Serialize)]
struct Served {
    name: &'static str,
    file: &'static str,
    does: &'static str,
    /// Its entry in a profile.
    lines: String,
}

impl Page {
    fn new(accesses: &Accesses, from: From, loaded: Option<&Loaded>) -> Self {
        let listed = wasmsr_vmm::listed_msrs().map_err(|error| error.to_string());
        let msrs = accesses
            .msrs
            .iter()
            .map(|(&index, seen)| Explained::new(index, seen, listed.as_ref().ok(), loaded));
        Page {
            msrs: msrs.collect(),
            no_kvm: listed.as_ref().err().cloned(),
            profile_lines: (from != From::Arguments).then(|| proposal::profile_lines(accesses)),
            left_out: accesses.left_out,
            from,
        }
    }
}

impl Explained {
    fn new(
        index: MsrIndex,
        seen: &Seen,
        listed: Option<&BTreeSet<u32>>,
        loaded: Option<&Loaded>,
    ) -> Self {
        let row: Option<&Msr> = wasmsr_msrs::find(index.0);
        Explained {
            msr: index.to_string(),
            index: index.0,
            name: index.name(),
            aliases: row.map_or(&[], |row| row.aliases),
            vendor: row.map(|row| row.vendor.to_string()),
            access: row.map(|row| row.access.to_string()),
            reserved: row.and_then(|row| row.reserved).map(|bits| format!("{bits:#x}")),
            scope: row.and_then(|row| row.scope).map(|scope| scope.to_string()),
            kvm: row.map(|row| row.kvm.to_string()),
            host: row.and_then(|row| row.host),
            note: row.and_then(|row| row.note),
            wanted: row.and_then(|row| row.wanted),
            source: row.map(|row| row.source),
            kvm_lists: listed.map(|listed| listed.contains(&index.0)),
            profile: loaded.map(|loaded| Answers::of(index, loaded)),
            plugins: shipped_for(index.0)
                .map(|plugin| Served {
                    name: plugin.name,
                    file: plugin.file,
                    does: plugin.does,
                    lines: proposal::entry(plugin, &[index]),
                })
                .collect(),
            reads: seen.reads,
            writes: seen.writes,
            last_written: seen.last_written.map(|value| format!("{value:#x}")),
            meaning: seen.speaker.map(log_line::Speaker::means),
        }
    }
}

#[cfg(test)]
mod tests;
