//! `wasmsr completions`: what a shell needs to complete the command.

use clap::CommandFactory;

use crate::args::{self, Cli};
use crate::console::print;
use crate::exit::{Code, Failure};

/// Prints the script for a shell.
pub(crate) fn completions(args: &args::Completions) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wasmsr", &mut script);
    print(&String::from_utf8_lossy(&script)).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}
