//! Black-box tests of the `wasmsr` command; how to write one is in
//! `tests/README.md`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod authoring;
mod bad_input;
mod boots;
mod cache;
mod chains;
mod check;
mod colours;
mod conformance;
mod containment;
mod convert;
mod doctor;
mod ends;
mod fixture;
mod hello;
mod hostcalls;
mod hostile;
mod inspect;
mod intercepts;
mod linux;
mod live;
mod msr_contract;
mod multiboot;
mod no_kvm;
mod plugin_bench;
mod plugin_test;
mod plugins;
mod policy;
mod progress;
mod readme;
mod record;
mod record_file;
mod replay;
mod scope;
mod shadow;
mod shell_support;
mod stderr;
mod summary;
mod timers;
mod trace;
mod trace_report;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some(directory) = env::var_os("WASMSR_ASSEMBLE") {
        fixture::assemble_all(Path::new(&directory));
        return ExitCode::SUCCESS;
    }
    let trials = [
        authoring::trials(),
        bad_input::trials(),
        boots::trials(),
        cache::trials(),
        chains::trials(),
        check::trials(),
        colours::trials(),
        conformance::trials(),
        containment::trials(),
        convert::trials(),
        doctor::trials(),
        ends::trials(),
        hello::trials(),
        hostcalls::trials(),
        hostile::trials(),
        inspect::trials(),
        intercepts::trials(),
        linux::trials(),
        live::trials(),
        msr_contract::trials(),
        multiboot::trials(),
        no_kvm::trials(),
        plugin_bench::trials(),
        plugin_test::trials(),
        plugins::trials(),
        policy::trials(),
        progress::trials(),
        readme::trials(),
        record::trials(),
        record_file::trials(),
        replay::trials(),
        scope::trials(),
        shadow::trials(),
        shell_support::trials(),
        stderr::trials(),
        summary::trials(),
        timers::trials(),
        trace::trials(),
        trace_report::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
