//! `wasmsr explain`: what MSRs are, who answers them, and the profile lines for those of a
//! log or a recording.

mod answer;
pub(crate) mod log;
pub(crate) mod log_line;
mod page;
pub(crate) mod proposal;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::anyhow;
use wasmsr_engine::record::{Line, Op};
use wasmsr_interface::{Direction, MsrIndex};

use crate::args;
use crate::exit::{Code, Failure};
use crate::loaded::{Checked, load_options};
use crate::recording::reader::RecordingReader;
use crate::terminal::console::print;
use crate::terminal::plain::pretty_json;
use log::{Accesses, MOST_MSRS, Seen};
use page::{From, Page};

/// Prints what is known of the MSRs that are named, or those of a log or a recording.
pub(crate) fn explain(args: &args::Explain) -> Result<Code, Failure> {
    let loaded = match &args.profile {
        None => None,
        Some(path) => {
            let options = load_options(&args.cache);
            let first = |mistakes: Vec<anyhow::Error>| {
                let first = mistakes.into_iter().next();
                Failure::input(first.unwrap_or_else(|| anyhow::anyhow!("it is not a profile")))
            };
            Some(Checked::load(path, &options).map_err(first)?)
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

#[cfg(test)]
mod tests;
