//! The command `wasmsr`: arguments to calls, errors to exit codes.

// These panic if the reader of the stream has gone; `console` has functions that do not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod check;
mod contract;
mod convert;
mod doctor;
mod exit;
mod expect;
mod explain;
mod help;
mod horizon;
mod loaded;
mod msr_argument;
mod plugin;
mod profile;
mod recording;
mod replay;
mod run;
mod stats;
mod terminal;
mod top;
mod whole_file;

use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format;

use args::{Convert, Verb};
use exit::Failure;
use terminal::console;

fn main() -> ExitCode {
    let cli = args::parse();
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
        Verb::Explain(args) => explain::explain(&args),
        Verb::Plugin(verb) => plugin::perform(&verb),
        Verb::Stats(args) => stats::stats(&args),
        Verb::Top(args) => top::top(&args),
        Verb::Horizon(args) => horizon::horizon(&args),
        Verb::Recording(verb) => recording::perform(&verb),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Convert(Convert::Firecracker(args)) => convert::firecracker(&args),
        Verb::Convert(Convert::Registers(args)) => convert::registers(&args),
        Verb::Convert(Convert::CloudHypervisor(args)) => convert::cloud_hypervisor(&args),
        Verb::Completions(args) => help::completions::completions(&args),
        Verb::Man(args) => help::man::man(&args),
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
        .fmt_fields(format::debug_fn(console::write_field))
        .with_writer(console::Stderr)
        // Reporting a lost line panics if standard error is closed.
        .log_internal_errors(false)
        .with_ansi(console::stderr_is_coloured())
        .with_target(false)
        .without_time()
        .init();
}
