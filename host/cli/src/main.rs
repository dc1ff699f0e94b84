//! The command `wasmsr`: arguments to calls, errors to exit codes.

mod args;
mod check;
mod completions;
mod console;
mod convert;
mod doctor;
mod exit;
mod firecracker;
mod loaded;
mod man;
mod plugin;
mod recorded;
#[cfg(test)]
mod reference;
mod replay;
mod run;
mod signals;
mod tables;

use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use args::{Cli, Convert, Verb};
use exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    match perform(cli.verb) {
        Ok(code) => code.into(),
        Err(Failure { code, error }) => {
            console::print_error(&error);
            code.into()
        }
    }
}

fn perform(verb: Verb) -> Result<exit::Code, Failure> {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Replay(args) => replay::replay(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Plugin(verb) => plugin::perform(&verb),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Convert(Convert::Firecracker(args)) => convert::firecracker(&args),
        Verb::Completions(args) => completions::completions(&args),
        Verb::Man(args) => man::man(&args),
    }
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(console::Stderr)
        .with_ansi(console::stderr_is_coloured())
        .with_target(false)
        .without_time()
        .init();
}
