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
mod live;
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

use args::{Convert, LogForm, Verb};
use exit::Failure;
use terminal::{console, log};

fn main() -> ExitCode {
    let cli = args::parse();
    let form = match &cli.verb {
        Verb::Run(args) => args.log,
        _ => LogForm::Text,
    };
    log::begin(level(cli.verbose), form);
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
        Verb::Ps(args) => live::ps(&args),
        Verb::Metrics(args) => live::metrics(&args),
        Verb::Swap(args) => live::swap(&args),
        Verb::Rollback(args) => live::rollback(&args),
        Verb::Disable(args) => live::disable(&args),
        Verb::Enable(args) => live::enable(&args),
        Verb::Pause(args) => live::act(&args, "pause"),
        Verb::Resume(args) => live::act(&args, "resume"),
        Verb::Reset(args) => live::act(&args, "reset"),
        Verb::Stop(args) => live::act(&args, "stop"),
        Verb::Powerdown(args) => live::act(&args, "powerdown"),
        Verb::Record(args) => live::record(&args),
        Verb::Log(args) => live::log(&args),
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

fn level(verbose: u8) -> LevelFilter {
    match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
