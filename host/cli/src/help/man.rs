//! `wasmsr man`: the manual pages, as roff.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args;
use crate::exit::{self, Code, Failure};
use crate::terminal::console::print;

/// Prints the page of the command, or writes one for each verb too.
pub(crate) fn man(args: &args::Man) -> Result<Code, Failure> {
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    match &args.out {
        Some(folder) => {
            fs::create_dir_all(folder)
                .and_then(|()| write_pages(&command, folder))
                .with_context(|| format!("cannot write manual pages into {}", folder.display()))
                .map_err(Failure::input)?;
        }
        None => {
            let mut text = Vec::new();
            page(&command, &mut text).map_err(Failure::host)?;
            print(&String::from_utf8_lossy(&text)).map_err(Failure::host)?;
        }
    }
    Ok(Code::SUCCESS)
}

/// Those of a command and of all verbs below it.
fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    for verb in command.get_subcommands() {
        write_pages(verb, folder)?;
    }
    let mut text = Vec::new();
    page(command, &mut text)?;
    fs::write(folder.join(man_of(command).get_filename()), text)
}

fn man_of(command: &Command) -> Man {
    Man::new(command.clone()).source(concat!("wasmsr ", env!("CARGO_PKG_VERSION")))
}

fn page(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let man = man_of(command);
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    exit_status(command, out)
}

fn exit_status(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or_default();
    let verb = name.strip_prefix("wasmsr").unwrap_or(name).trim_start();
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for (codes, text) in exit::meanings(verb) {
        roff.control("TP", []);
        roff.text([bold(codes.to_string())]);
        roff.text([roman(text)]);
    }
    roff.to_writer(out)
}
