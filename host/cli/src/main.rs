//! The command `wasmsr`: arguments to calls, errors to exit codes.

// These panic where nobody reads any more; `console` has what does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod check;
mod completions;
mod console;
mod convert;
mod doctor;
#[cfg(test)]
mod documented;
mod exit;
mod firecracker;
mod live;
mod loaded;
mod man;
mod plain;
mod plugin;
mod profile;
mod progress;
mod recorded;
mod recording;
#[cfg(test)]
mod reference;
mod replay;
mod run;
mod signals;
mod stats;
mod summary;
mod tables;
mod top;
mod trace;
mod whole_file;

use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format;

use args::{Convert, Trace, Verb};
use exit::Failure;

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
        Verb::Plugin(verb) => plugin::perform(&verb),
        Verb::Stats(args) => stats::stats(&args),
        Verb::Top(args) => top::top(&args),
        Verb::Trace(Trace::Show(args)) => trace::show(&args),
        Verb::Trace(Trace::Stats(args)) => trace::stats(&args),
        Verb::Trace(Trace::Diff(args)) => trace::diff(&args),
        Verb::Trace(Trace::Report(args)) => trace::report(&args),
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
        .fmt_fields(format::debug_fn(console::write_field))
        .with_writer(console::Stderr)
        // Saying that a line was lost panics where standard error has gone.
        .log_internal_errors(false)
        .with_ansi(console::stderr_is_coloured())
        .with_target(false)
        .without_time()
        .init();
}
